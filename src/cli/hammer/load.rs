//! The load itself: many connections, each asking for one booking after the other as fast as it
//! is answered. Runs on threads of its own with a runtime each, so that the generator neither
//! steals from nor waits for anything else in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use tokio::task::{JoinSet, spawn_blocking};
use uuid::Uuid;

use super::client::Target;
use super::person::Person;
use super::plan::{Limit, Plan};
use super::progress::{Progress, Tally};
use super::worker::Worker;

/// What became of one booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Seats are theirs.
    Confirmed,
    /// They wait, under this number.
    Waitlisted(i64),
    /// It is cancelled (the answer to a cancellation).
    Cancelled,
    /// Told no, with this code.
    Refused(Arc<str>),
    /// Never answered, or not in a way that tells what happened.
    Unknown,
}

/// Whether a booking was cancelled afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Not asked for.
    No,
    /// Acknowledged.
    Yes,
    /// Asked for, but whether it happened is not known.
    Perhaps,
}

/// One booking as its buyer saw it. What was asked for: [`Plan::ask`] of the index.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which.
    pub index: u64,
    /// Its id, if it was accepted.
    pub booking: Option<Uuid>,
    /// What was answered.
    pub outcome: Outcome,
    /// When it was asked for first, in microseconds since the start of the run.
    pub sent_us: u64,
    /// When the final answer was there.
    pub answered_us: u64,
    /// What became of it afterwards.
    pub cancelled: Cancelled,
}

impl Seen {
    /// How long the buyer waited, retries included.
    pub fn latency_us(&self) -> u64 {
        self.answered_us.saturating_sub(self.sent_us)
    }
}

/// What one connection, or all of them together, went through.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Every booking asked for.
    pub seen: Vec<Seen>,
    /// Transport errors and 5xx by name, retried or not.
    pub errors: BTreeMap<String, u64>,
    /// Bookings that were sent twice at once.
    pub pairs: u64,
    /// Pairs that were not answered alike, each in a sentence.
    pub unequal: Vec<String>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Run {
    fn absorb(&mut self, other: Self) {
        self.seen.extend(other.seen);
        for (name, count) in other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        self.pairs += other.pairs;
        self.unequal.extend(other.unequal);
    }

    /// Bookings with that outcome.
    pub fn count(&self, of: impl Fn(&Outcome) -> bool) -> u64 {
        let count = self.seen.iter().filter(|seen| of(&seen.outcome)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Answered bookings a second.
    pub fn per_second(&self) -> f64 {
        let answered = self.count(|outcome| *outcome != Outcome::Unknown);
        let answered = u32::try_from(answered).unwrap_or(u32::MAX);
        f64::from(answered) / self.elapsed.as_secs_f64().max(1e-6)
    }

    /// Latencies of the answered, in microseconds, sorted.
    pub fn latencies_us(&self) -> Vec<u64> {
        let answered = self.seen.iter().filter(|seen| seen.outcome != Outcome::Unknown);
        let mut latencies: Vec<u64> = answered.map(Seen::latency_us).collect();
        latencies.sort_unstable();
        latencies
    }
}

/// The value below which `per_mille` of a thousand sorted values lie (nearest rank).
pub fn quantile(sorted: &[u64], per_mille: usize) -> u64 {
    let rank = sorted.len().saturating_mul(per_mille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// What the workers of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub plan: Plan,
    /// Each person's request head for a booking.
    pub heads: Vec<Vec<u8>>,
    pub people: Vec<Person>,
    pub tally: Tally,
    pub started: Instant,
    next: AtomicU64,
}

impl Shared {
    /// The index of the next booking to ask for, while there is one.
    pub fn take(&self) -> Option<u64> {
        match self.plan.limit {
            Limit::Bookings(limit) => {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                (index < limit).then_some(index)
            }
            Limit::For(time) => {
                let more = self.started.elapsed() < time;
                more.then(|| self.next.fetch_add(1, Ordering::Relaxed))
            }
        }
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Carries out a plan over `connections`, spread over `threads`.
///
/// # Errors
/// When a thread cannot be started or dies.
pub async fn run(
    plan: Plan,
    people: Vec<Person>,
    target: &Arc<Target>,
    connections: usize,
    threads: usize,
    progress: &Progress,
) -> anyhow::Result<Run> {
    let heads =
        people.iter().map(|one| target.head("POST", "/bookings", Some(&one.token))).collect();
    let shared = Arc::new(Shared {
        plan,
        heads,
        people,
        tally: Tally::default(),
        started: Instant::now(),
        next: AtomicU64::new(0),
    });
    let threads = threads.clamp(1, connections.max(1));
    let handles = (0..threads).map(|thread| {
        let share = connections / threads + usize::from(thread < connections % threads);
        let (shared, target) = (Arc::clone(&shared), Arc::clone(target));
        spawn_blocking(move || drive(&shared, &target, share))
    });
    let all = try_join_all(handles.collect::<Vec<_>>());
    let runs = tokio::select! {
        runs = all => runs.context("a load thread died")?,
        () = shared.tally.show(progress) => Vec::new(),
    };
    progress.done();
    let mut whole = Run::default();
    for run in runs {
        whole.absorb(run?);
    }
    let first = whole.seen.iter().map(|seen| seen.sent_us).min().unwrap_or_default();
    let last = whole.seen.iter().map(|seen| seen.answered_us).max().unwrap_or_default();
    whole.elapsed = Duration::from_micros(last.saturating_sub(first));
    Ok(whole)
}

/// One thread's share.
fn drive(shared: &Arc<Shared>, target: &Arc<Target>, connections: usize) -> anyhow::Result<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            workers.spawn(Worker::new(Arc::clone(shared), target).work());
        }
        let mut whole = Run::default();
        while let Some(run) = workers.join_next().await {
            whole.absorb(run.context("a load connection died")?);
        }
        Ok(whole)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&values, 500), 50);
        assert_eq!(quantile(&values, 990), 99);
        assert_eq!(quantile(&values, 1000), 100);
        assert_eq!(quantile(&values[..1], 500), 1);
        assert_eq!(quantile(&[], 500), 0);
    }
}
