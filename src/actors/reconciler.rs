//! Keeps what Redis shows equal to what PostgreSQL knows, whatever was lost between them. It takes
//! no input: each step compares the next window of events, and a new epoch is a full round.

use super::{Actor, Next};
use crate::app::Error;
use crate::app::integrity::check::{self, Drift};
use crate::app::integrity::epoch;
use crate::domain::ids::EventId;
use crate::postgres::Db;
use crate::redis::Redis;

/// Compares and repairs.
pub struct Reconciler {
    db: Db,
    redis: Redis,
    batch_max: u32,
    after: Option<EventId>,
    drift: u64,
}

impl Reconciler {
    /// A reconciler that looks at `batch_max` events a step.
    pub fn new(db: Db, redis: Redis, batch_max: u32) -> Self {
        Self { db, redis, batch_max, after: None, drift: 0 }
    }
}

impl Actor for Reconciler {
    async fn step(&mut self) -> anyhow::Result<Next> {
        if epoch::ensure(&self.db, &self.redis).await? {
            self.after = None;
        }
        if self.redis.link.trusted().is_none() {
            return Ok(Next::Rest);
        }
        match self.round().await {
            Ok(next) => Ok(next),
            // Redis is away: nothing is shown that could be wrong.
            Err(Error::Unavailable { part: "redis", .. }) => Ok(Next::Rest),
            Err(error) => Err(error.into()),
        }
    }
}

impl Reconciler {
    async fn round(&mut self) -> crate::app::Result<Next> {
        if self.after.is_none() {
            self.drift = 0;
        }
        let (drifts, next) =
            check::compare(&self.db, &self.redis, self.after, self.batch_max).await?;
        // Only what no publication on its way explains is drift.
        self.drift += drifts.iter().map(unexplained).sum::<u64>();
        if !drifts.is_empty() {
            let repaired = check::repair(&self.db, &self.redis, &drifts).await?;
            let repaired = u64::try_from(repaired).unwrap_or(u64::MAX);
            metrics::counter!("reconciler_repairs_total").increment(repaired);
        }
        self.after = next;
        if next.is_some() {
            return Ok(Next::Again);
        }
        let drift = u32::try_from(self.drift).unwrap_or(u32::MAX);
        metrics::gauge!("slot_drift_seats").set(f64::from(drift));
        Ok(Next::Rest)
    }
}

fn unexplained(drift: &Drift) -> u64 {
    match drift.shown {
        Some(shown) if !drift.behind => shown.abs_diff(i64::from(drift.available)),
        _ => 0,
    }
}
