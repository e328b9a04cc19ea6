//! Forgets what nobody will ask for again, in bounded portions (S1.49): old `processed_events`,
//! sent messages, answers under idempotency keys, letters that something was done about, alarms
//! that are over, alerts that are old.

use jiff::SignedDuration;

use super::Result;
use super::messages::processed::cleanup_chunk;
use crate::clock::Clock;
use crate::config::Config;
use crate::postgres::{Db, alarm, alert, audit, dead_letter, idempotency, outbox, redrive};

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
    let processed = cleanup_chunk(db, config.inbox.retention_days, None, now).await?;
    let conn = db.get().await?;
    let kept = SignedDuration::from_hours(i64::from(config.relay.retention_hours));
    let sent = outbox::prune(&conn, before(kept), CHUNK).await?;
    let keys = idempotency::prune(&conn, before(KEYS), CHUNK).await?;
    let days = SignedDuration::from_hours(24 * i64::from(config.inbox.retention_days));
    let letters = dead_letter::prune(&conn, before(days), CHUNK).await?;
    let redrives = redrive::prune(&conn, before(days), CHUNK).await?;
    let days = SignedDuration::from_hours(24 * i64::from(config.alarms.retention_days));
    let alarms = alarm::prune(&conn, before(days), CHUNK).await?;
    let days = SignedDuration::from_hours(24 * i64::from(config.interests.alert_days));
    let alerts = alert::prune(&conn, before(days), CHUNK).await?;
    let log = SignedDuration::from_hours(24 * i64::from(config.audit.message_days));
    let dropped = audit::turn_days(&conn, now, before(log)).await?;
    if dropped > 0 {
        tracing::info!(dropped, "forgot days of the log of messages");
    }
    let changes = SignedDuration::from_hours(24 * i64::from(config.audit.change_days));
    let changes = audit::prune(&conn, before(changes), CHUNK).await?;
    if processed + sent + keys + letters + redrives + alarms + alerts + changes > 0 {
        tracing::debug!(
            processed,
            sent,
            keys,
            letters,
            redrives,
            alarms,
            changes,
            "forgot old rows"
        );
    }
    Ok([processed, sent, keys, letters, redrives, alarms, alerts]
        .iter()
        .any(|removed| *removed >= CHUNK.unsigned_abs()))
}
