//! The subject: events.
