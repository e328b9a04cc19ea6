//! Logs of the whole process. Secrets never get here: they are `SecretString`s, and URLs with
//! passwords in them are not logged.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::config;

/// Starts logging to standard error: pretty on a terminal, JSON otherwise, or as configured. With
/// spans come the request id and whatever else they carry.
///
/// # Errors
/// When `log.filter` cannot be read.
pub fn start(config: &config::Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.filter).context("log.filter")?;
    let pretty = match config.format.as_str() {
        "pretty" => true,
        "json" => false,
        _ => std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (in tests) keeps the first.
    if pretty {
        builder.with_target(false).try_init().ok();
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init()
            .ok();
    }
    Ok(())
}
