//! What each service has done with which message (S1.1 to S1.50): the repository that any service
//! can use, with the service as a parameter. A handler claims a message before its work, and ends
//! the claim after it; a claim that is not won means that there is nothing to do now.
//!
//! `processed` and `skipped` are final. `failed` is tried again with growing pauses until its
//! attempts are spent. A crashed claimer's message is taken over when its lease is over; the
//! fence keeps the old claimer's late end from counting.

use jiff::{SignedDuration, Timestamp};

use super::later;
use super::recover::LOOK_BACK;
use crate::clock::Ids;
use crate::config;
use crate::domain::processing::backoff_ms;
pub use crate::domain::processing::{ProcessingStatus, ServiceContext};
use crate::postgres::inbox::{self, Finish};
pub use crate::postgres::inbox::{Claim, Key};
use crate::postgres::{Db, DbError};

/// Longest pause before a failed message is due again.
const PAUSE_MAX_MS: u64 = 3_600_000;
/// Rows removed in one statement.
const CHUNK: i64 = 5000;
/// Statements in one call: an hour's worth of leftovers must not become one endless request.
const CHUNKS_MAX: u32 = 400;

/// How many messages are how far (S1.40, S1.48).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessingStats {
    /// Somebody works on them.
    pub processing: i64,
    /// Done.
    pub processed: i64,
    /// Failed, dead ones included.
    pub failed: i64,
    /// Nothing to do.
    pub skipped: i64,
    /// Failed and given up.
    pub dead: i64,
}

impl ProcessingStats {
    /// All of them.
    pub fn total(&self) -> i64 {
        self.processing + self.processed + self.failed + self.skipped
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.processing += other.processing;
        self.processed += other.processed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.dead += other.dead;
        self
    }

    fn add(&mut self, count: &inbox::Count) {
        match count.status {
            ProcessingStatus::Processing => self.processing += count.messages,
            ProcessingStatus::Processed => self.processed += count.messages,
            ProcessingStatus::Failed => self.failed += count.messages,
            ProcessingStatus::Skipped => self.skipped += count.messages,
        }
        self.dead += count.dead;
    }
}

/// Whether a service is done with a message for good (S1.22, S1.36).
///
/// # Errors
/// When PostgreSQL is away.
pub async fn is_event_processed(
    db: &Db,
    key: &Key,
    service: ServiceContext,
) -> Result<bool, DbError> {
    let found = inbox::find(&*db.get().await?, service, &[key]).await?;
    Ok(found.iter().any(|entry| entry.status.is_final()))
}

/// Claims a message for a service (S1.23, S1.37, S1.47): `None` if it is done, given up, not due
/// yet, or somebody else works on it.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn mark_event_as_processing(
    db: &Db,
    settings: &config::Inbox,
    key: &Key,
    service: ServiceContext,
    now: Timestamp,
) -> Result<Option<Claim>, DbError> {
    let conn = db.get().await?;
    let lease_until = later(now, settings.lease_ms);
    inbox::claim(&conn, service, key, now, lease_until).await
}

/// Ends a claim (S1.24, S1.38, S1.39) and says whether it still was the caller's. A failed
/// message is due again after a pause, or given up when its attempts are spent.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn update_event_status(
    db: &Db,
    settings: &config::Inbox,
    claim: &Claim,
    service: ServiceContext,
    (status, error): (ProcessingStatus, Option<&str>),
    (now, ids): (Timestamp, Ids),
) -> Result<bool, DbError> {
    let attempts = u32::try_from(claim.attempts).unwrap_or(1);
    let failed = status == ProcessingStatus::Failed;
    let dead = failed && attempts >= settings.attempts_max;
    let first = settings.retry_delays_ms.first().copied().unwrap_or(1000);
    let pause = backoff_ms(attempts, first, PAUSE_MAX_MS, |below| ids.jitter(below));
    let end = Finish {
        key: claim.key.clone(),
        fence: claim.fence,
        status,
        error: error.map(|error| crate::domain::message::storable(error, 1000)),
        next_attempt_at: (failed && !dead).then(|| later(now, pause)),
        dead_at: dead.then_some(now),
    };
    inbox::finish(&*db.get().await?, service, &end, now).await
}

/// Counts of one service, or of all together (S1.40, S1.41).
///
/// # Errors
/// When PostgreSQL is away.
pub async fn get_processing_stats(
    db: &Db,
    service: Option<ServiceContext>,
) -> Result<ProcessingStats, DbError> {
    let mut stats = ProcessingStats::default();
    for count in inbox::stats(&*db.get().await?, service).await? {
        stats.add(&count);
    }
    Ok(stats)
}

/// Counts of each service that has any (S1.42).
///
/// # Errors
/// When PostgreSQL is away.
pub async fn get_processing_stats_by_service(
    db: &Db,
) -> Result<Vec<(String, ProcessingStats)>, DbError> {
    let mut services: Vec<(String, ProcessingStats)> = Vec::new();
    for count in inbox::stats(&*db.get().await?, None).await? {
        match services.last_mut() {
            Some((name, stats)) if *name == count.service => stats.add(&count),
            _ => {
                let mut stats = ProcessingStats::default();
                stats.add(&count);
                services.push((count.service, stats));
            }
        }
    }
    Ok(services)
}

/// Forgets messages that were done with, or given up, more than so many days ago, and says how
/// many (S1.43, S1.44). What is still to be done is kept however old. Removes two million at most;
/// call it again if there are more.
///
/// # Errors
/// When PostgreSQL is away; what was removed until then stays so.
pub async fn cleanup_old_events(
    db: &Db,
    days: u32,
    service: Option<ServiceContext>,
    now: Timestamp,
) -> Result<u64, DbError> {
    let mut deleted = 0;
    for _ in 0..CHUNKS_MAX {
        let chunk = cleanup_chunk(db, days, service, now).await?;
        deleted += chunk;
        if chunk < CHUNK.unsigned_abs() {
            break;
        }
    }
    Ok(deleted)
}

/// The same, but one bounded statement only.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn cleanup_chunk(
    db: &Db,
    days: u32,
    service: Option<ServiceContext>,
    now: Timestamp,
) -> Result<u64, DbError> {
    // What is younger may look lost to those who compare, and be sent again.
    let age = SignedDuration::from_hours(i64::from(days) * 24).max(LOOK_BACK);
    let before = now.checked_sub(age).unwrap_or(Timestamp::MIN);
    inbox::prune(&*db.get().await?, before, service, CHUNK).await
}
