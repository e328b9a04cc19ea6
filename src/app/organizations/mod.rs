//! The subject: organizations.
