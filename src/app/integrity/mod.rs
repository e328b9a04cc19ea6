//! The subject: integrity.
