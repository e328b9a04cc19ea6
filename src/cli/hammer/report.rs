//! What a load run came to: for people on one screen, for machines as one JSON object.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::load::{Cancelled, Outcome, Run, quantile};
use super::verdict::Finding;

/// The figures and the verdict of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whom was asked.
    pub target: String,
    /// Bookings asked for.
    pub bookings: u64,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
    /// Answered bookings a second.
    pub per_second: f64,
    /// How long buyers waited, retries included.
    pub latency_ms: Latency,
    /// Seats were theirs.
    pub confirmed: u64,
    /// They had to wait.
    pub waitlisted: u64,
    /// Cancellations that were acknowledged.
    pub cancelled: u64,
    /// Told no, by code.
    pub refused: BTreeMap<String, u64>,
    /// Transport errors and 5xx by name, retried or not.
    pub errors: BTreeMap<String, u64>,
    /// Bookings whose answer was lost for good.
    pub unknown: u64,
    /// The promises, and whether they were kept.
    pub verdict: Vec<Judged>,
    /// Whether all of them were.
    pub holds: bool,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half are below.
    pub p50: f64,
    /// Nine of ten are below.
    pub p90: f64,
    /// 99 of a hundred are below.
    pub p99: f64,
    /// None is above.
    pub max: f64,
}

/// A finding, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Which promise.
    pub name: &'static str,
    /// Whether it was kept.
    pub holds: bool,
    /// What was looked at, or what is wrong.
    pub detail: String,
}

impl Report {
    /// Sums up.
    pub fn new(target: String, run: &Run, findings: Vec<Finding>) -> Self {
        let mut refused: BTreeMap<String, u64> = BTreeMap::new();
        for seen in &run.seen {
            if let Outcome::Refused(code) = &seen.outcome {
                *refused.entry(code.to_string()).or_default() += 1;
            }
        }
        let sorted = run.latencies_us();
        let ms =
            |per_mille| Duration::from_micros(quantile(&sorted, per_mille)).as_secs_f64() * 1e3;
        let cancelled = run.seen.iter().filter(|seen| seen.cancelled == Cancelled::Yes).count();
        Self {
            target,
            bookings: u64::try_from(run.seen.len()).unwrap_or(u64::MAX),
            seconds: run.elapsed.as_secs_f64(),
            per_second: run.per_second(),
            latency_ms: Latency { p50: ms(500), p90: ms(900), p99: ms(990), max: ms(1000) },
            confirmed: run.count(|outcome| *outcome == Outcome::Confirmed),
            waitlisted: run.count(|outcome| matches!(outcome, Outcome::Waitlisted(_))),
            cancelled: u64::try_from(cancelled).unwrap_or(u64::MAX),
            refused,
            errors: run.errors.clone(),
            unknown: run.count(|outcome| *outcome == Outcome::Unknown),
            holds: findings.iter().all(|finding| finding.holds),
            verdict: (findings.into_iter())
                .map(|Finding { name, holds, detail }| Judged { name, holds, detail })
                .collect(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let Latency { p50, p90, p99, max } = self.latency_ms;
        let _ = writeln!(
            text,
            "{} bookings in {:.2} s: {:.0} a second\n\
             latency ms   p50 {p50:.2}   p90 {p90:.2}   p99 {p99:.2}   max {max:.2}\n\
             confirmed {}   waitlisted {}   cancelled {}   refused {}   errors {}   unknown {}",
            self.bookings,
            self.seconds,
            self.per_second,
            self.confirmed,
            self.waitlisted,
            self.cancelled,
            counts(&self.refused),
            counts(&self.errors),
            self.unknown,
        );
        for Judged { name, holds, detail } in &self.verdict {
            let mark = if *holds { "kept  " } else { "BROKEN" };
            let _ = writeln!(text, "{mark} {:<36} {detail}", name.replace('_', " "));
        }
        text
    }
}

fn counts(by_name: &BTreeMap<String, u64>) -> String {
    let sum: u64 = by_name.values().sum();
    let parts: Vec<String> =
        by_name.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if parts.is_empty() { sum.to_string() } else { format!("{sum} ({})", parts.join(", ")) }
}
