//! Forgets what nobody will ask for again, in bounded portions (S1.49): old `processed_events`,
//! sent messages, answers under idempotency keys.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Actor, Next};
use crate::app::messages::processed::cleanup_chunk;
use crate::clock::Clock;
use crate::config::Config;
use crate::postgres::{Db, idempotency, outbox};

/// Rows removed by one statement.
const CHUNK: i64 = 5000;
/// How long an answer is kept under its idempotency key.
const KEYS: SignedDuration = SignedDuration::from_hours(24);

/// The janitor. Any number may work at once.
pub struct Janitor {
    db: Db,
    clock: Clock,
    config: Arc<Config>,
}

impl Janitor {
    /// A janitor of this database.
    pub fn new(db: Db, clock: Clock, config: Arc<Config>) -> Self {
        Self { db, clock, config }
    }

    fn before(&self, age: SignedDuration) -> Timestamp {
        self.clock.now().checked_sub(age).unwrap_or(Timestamp::MIN)
    }
}

impl Actor for Janitor {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let now = self.clock.now();
        let days = self.config.inbox.retention_days;
        let processed = cleanup_chunk(&self.db, days, None, now).await?;
        let conn = self.db.get().await?;
        let kept = SignedDuration::from_hours(i64::from(self.config.relay.retention_hours));
        let sent = outbox::prune(&conn, self.before(kept), CHUNK).await?;
        let keys = idempotency::prune(&conn, self.before(KEYS), CHUNK).await?;
        if processed + sent + keys > 0 {
            tracing::debug!(processed, sent, keys, "forgot old rows");
        }
        let full = [processed, sent, keys].iter().any(|removed| *removed >= CHUNK.unsigned_abs());
        Ok(if full { Next::Again } else { Next::Rest })
    }
}
