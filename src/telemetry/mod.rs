//! What the process tells of itself: logs to standard error, metrics for whoever scrapes them, and
//! spans for a collector of traces if there is one.

pub mod logs;
pub mod messages;
pub mod metrics;
pub mod otlp;
pub mod spans;
