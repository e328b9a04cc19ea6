//! Interests.
