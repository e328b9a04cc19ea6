//! Alarms: what this process notices of itself (signals), what becomes of it (watch), and what was
//! (list).

pub mod list;
pub mod signals;
pub mod watch;
