//! Integrity: what Redis shows against what PostgreSQL knows, and PostgreSQL against itself.

pub mod check;
pub mod epoch;
pub mod rebuild;
pub mod report;
