//! Forgets what nobody will ask for again, in bounded portions (S1.49): old `processed_events`,
//! sent messages, answers under idempotency keys, letters that something was done about, alarms
//! that are over, alerts that are old.

use jiff::SignedDuration;

use super::Result;
use super::messages::processed::cleanup_chunk;
use crate::clock::Clock;
use crate::config::Config;
use crate::postgres::{
    Db, alarm, alert, audit, bus_outbox, dead_letter, idempotency, outbox, redrive,
};

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
    let days = |days: u32| before(SignedDuration::from_hours(24 * i64::from(days)));
    let sent = before(SignedDuration::from_hours(i64::from(config.relay.retention_hours)));
    // They are the log of publications, too.
    let published = sent.min(days(config.audit.message_days));
    let letters = days(config.inbox.retention_days);
    // One that does not come to its end keeps no other from its own.
    let dropped = audit::turn_days(&*db.get().await?, now, days(config.audit.message_days)).await;
    let processed = cleanup_chunk(db, config.inbox.retention_days, None, now).await;
    let conn = db.get().await?;
    let forgotten = [
        ("sent messages", outbox::prune(&conn, sent, CHUNK).await),
        ("published messages", bus_outbox::prune(&conn, published, CHUNK).await),
        ("answers", idempotency::prune(&conn, before(KEYS), CHUNK).await),
        ("letters", dead_letter::prune(&conn, letters, CHUNK).await),
        ("redrives", redrive::prune(&conn, letters, CHUNK).await),
        ("alarms", alarm::prune(&conn, days(config.alarms.retention_days), CHUNK).await),
        ("alerts", alert::prune(&conn, days(config.interests.alert_days), CHUNK).await),
        ("changes", audit::prune(&conn, days(config.audit.change_days), CHUNK).await),
    ];
    let (dropped, mut most) = (dropped?, processed?);
    if dropped > 0 {
        tracing::info!(dropped, "forgot days of the log of messages");
    }
    for (what, rows) in forgotten {
        let rows = rows?;
        if rows > 0 {
            tracing::debug!(what, rows, "forgot old rows");
        }
        most = most.max(rows);
    }
    Ok(most >= CHUNK.unsigned_abs())
}
