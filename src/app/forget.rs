//! Forgets what nobody will ask for again, in bounded portions (S1.49): old `processed_events`,
//! sent messages, answers under idempotency keys, letters that something was done about.

use jiff::SignedDuration;

use super::Result;
use super::messages::processed::cleanup_chunk;
use crate::clock::Clock;
use crate::config::Config;
use crate::postgres::{Db, audit, dead_letter, idempotency, outbox, redrive};

/// Rows removed by one statement.
const CHUNK: i64 = 5000;
/// How long an answer is kept under its idempotency key.
const KEYS: SignedDuration = SignedDuration::from_hours(24);

/// Forgets some; whether there may be more.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn some(db: &Db, clock: &Clock, config: &Config) -> Result<bool> {
    let now = clock.now();
    let before = |age: SignedDuration| now.checked_sub(age).unwrap_or(jiff::Timestamp::MIN);
    let log = SignedDuration::from_hours(24 * i64::from(config.audit.message_days));
    let dropped = audit::turn_days(&*db.get().await?, now, before(log)).await;
    // One that does not come to its end keeps no other from its own.
    let processed = cleanup_chunk(db, config.inbox.retention_days, None, now).await;
    let conn = db.get().await?;
    let kept = SignedDuration::from_hours(i64::from(config.relay.retention_hours));
    let sent = outbox::prune(&conn, before(kept), CHUNK).await;
    let keys = idempotency::prune(&conn, before(KEYS), CHUNK).await;
    let days = SignedDuration::from_hours(24 * i64::from(config.inbox.retention_days));
    let letters = dead_letter::prune(&conn, before(days), CHUNK).await;
    let redrives = redrive::prune(&conn, before(days), CHUNK).await;
    let changes = SignedDuration::from_hours(24 * i64::from(config.audit.change_days));
    let changes = audit::prune(&conn, before(changes), CHUNK).await;
    let (processed, sent, keys) = (processed?, sent?, keys?);
    let (letters, redrives, changes, dropped) = (letters?, redrives?, changes?, dropped?);
    if dropped > 0 {
        tracing::info!(dropped, "forgot days of the log of messages");
    }
    if processed + sent + keys + letters + redrives + changes > 0 {
        tracing::debug!(processed, sent, keys, letters, redrives, changes, "forgot old rows");
    }
    Ok([processed, sent, keys, letters, redrives]
        .iter()
        .any(|removed| *removed >= CHUNK.unsigned_abs()))
}
