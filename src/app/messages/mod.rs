//! The subject: messages.
