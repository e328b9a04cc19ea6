//! Metrics of the whole process, as Prometheus scrapes them.

use std::sync::OnceLock;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of histograms of durations, in seconds: a booking takes a millisecond or less,
/// and ten seconds is longer than anybody waits.
const SECONDS: [f64; 16] = [
    0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Upper bounds of histograms of counts, such as batch sizes.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The recorder of all metrics of this process; started by the first call.
///
/// # Errors
/// When something else records metrics already.
pub fn recorder() -> anyhow::Result<PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let recorder = RECORDER.get_or_init(|| {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets(&COUNTS))
            .and_then(PrometheusBuilder::install_recorder)
            .ok()
    });
    describe();
    recorder.clone().context("the metrics recorder cannot be installed")
}

/// What the metrics mean, as Prometheus shows it.
const MEANINGS: [(&str, &str); 27] = [
    ("http_request_seconds", "Time to answer, by method and route"),
    ("http_requests_total", "Answers, by method, route and class of status"),
    ("http_limited_total", "Requests refused by a rate limit, by policy"),
    ("sign_ins_total", "Attempts to sign in, by outcome"),
    ("refresh_token_reuse_total", "Refresh tokens used twice: somebody may have stolen one"),
    ("gate_requests_total", "What Redis said to bookings, by outcome"),
    ("desk_batch_size", "Commands settled in one commit"),
    ("desk_batch_seconds", "Time to settle a batch"),
    ("desk_queue_depth", "Commands that wait, by lane"),
    ("stock_publications_lost_total", "Changes of stock that Redis was not told of at once"),
    ("slot_drift_seats", "Seats by which Redis differed from PostgreSQL at the last look"),
    ("reconciler_repairs_total", "Times that Redis was put right"),
    ("outbox_unsent_messages", "Messages that are not published yet"),
    ("outbox_oldest_seconds", "Age of the oldest of them"),
    ("failed_messages", "Messages that failed and wait for a retry or a decision"),
    ("dead_letters", "Messages that were given up and wait for a decision"),
    ("alarms_open", "Alarms that this process sees, by kind"),
    ("relay_published_total", "Messages that the broker confirmed"),
    ("consumer_messages_total", "Messages consumed, by service and outcome"),
    ("message_delivery_seconds", "From the fact to its consumption"),
    ("postgres_pool_connections", "Connections: used, open, allowed"),
    ("redis_pool_connections", "Connections: used, open, allowed"),
    ("socket_snapshots_written_total", "Snapshots of seats written out, each for all who join"),
    ("spans_exported_total", "Spans that the collector of traces took"),
    ("spans_dropped_total", "Spans that it never got, by why"),
    ("actor_heartbeat_age_seconds", "Since the actor's last sign of life; -1 before the first"),
    ("actor_up", "1 while the actor runs"),
];

fn describe() {
    for (name, meaning) in MEANINGS {
        match name {
            name if name.ends_with("_total") => metrics::describe_counter!(name, meaning),
            "http_request_seconds"
            | "desk_batch_size"
            | "desk_batch_seconds"
            | "message_delivery_seconds" => metrics::describe_histogram!(name, meaning),
            name => metrics::describe_gauge!(name, meaning),
        }
    }
}
