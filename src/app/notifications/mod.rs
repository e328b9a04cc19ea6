//! Telling people: what a message puts into whose in-app inbox, and how they read it.

pub mod announce;
pub mod deliver;
pub mod list;
pub mod mark_read;
