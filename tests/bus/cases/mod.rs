//! The cases, by what they are about.

pub mod broken;
pub mod crash;
pub mod junk;
pub mod keep;
pub mod publish;
pub mod read;
pub mod retry;
