//! The subject: notifications.
