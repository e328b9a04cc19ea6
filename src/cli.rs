//! The command line: one verb a file.

pub mod hammer;
