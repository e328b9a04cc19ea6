//! Logs and metrics of the whole process. Secrets never get here: they are `SecretString`s, and
//! URLs with passwords in them are not logged.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config;

/// Upper bounds of histograms of durations, in seconds: a booking takes a millisecond or less,
/// and ten seconds is longer than anybody waits.
const SECONDS: [f64; 16] = [
    0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Upper bounds of histograms of counts, such as batch sizes.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Starts logging to standard error: pretty on a terminal, JSON otherwise, or as configured. With
/// spans come the request id and whatever else they carry.
///
/// # Errors
/// When `log.filter` cannot be read.
pub fn start_logs(config: &config::Log) -> anyhow::Result<()> {
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

/// The recorder of all metrics of this process; started by the first call.
///
/// # Errors
/// When something else records metrics already.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let recorder = RECORDER.get_or_init(|| {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets(&COUNTS))
            .and_then(PrometheusBuilder::install_recorder)
            .ok()
    });
    recorder.clone().context("the metrics recorder cannot be installed")
}
