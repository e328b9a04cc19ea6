//! Happening: people see free seats, hold them, book them, wait in a fair queue and get promoted;
//! every consequence follows as a message that is neither lost nor done twice.
//!
//! The map of the house is `ARCHITECTURE.md`; who may import whom is checked by `tests/tidy.rs`.

pub mod actors;
pub mod app;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod fault;
pub mod http;
pub mod postgres;
pub mod rabbit;
pub mod redis;
pub mod server;
pub mod telemetry;
pub mod wake;
pub mod ws;
