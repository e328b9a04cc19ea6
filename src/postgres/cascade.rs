//! Cancelled events whose bookings are not all cancelled yet.

use jiff::Timestamp;

use super::{Conn, DbError, Statements as _};
use crate::domain::ids::EventId;

const PENDING: &str = "SELECT id FROM events
    WHERE status = 'cancelled' AND cascade_done_at IS NULL ORDER BY id LIMIT $1";
const DONE: &str = "UPDATE events SET cascade_done_at = $2
    WHERE id = $1 AND NOT EXISTS (
        SELECT 1 FROM bookings WHERE event_id = $1 AND status <> 'cancelled')";
const UNSERVED: &str = "SELECT id FROM events
    WHERE status = 'published' AND reserved_seats > 0 AND id > $1 ORDER BY id LIMIT $2";

/// Events whose cascade goes on.
pub async fn pending(conn: &Conn, limit: i64) -> Result<Vec<EventId>, DbError> {
    let rows = conn.rows(PENDING, &[&limit]).await?;
    rows.iter().map(|row| Ok(EventId(row.try_get(0)?))).collect()
}

/// Ends an event's cascade, if it is at its end.
pub async fn done(conn: &Conn, event: EventId, now: Timestamp) -> Result<(), DbError> {
    conn.run(DONE, &[&event.0, &now]).await.map(drop)
}

/// Published events that keep seats for their queue, after `after`: a lost trigger, or a party
/// that could be served since, shows here.
pub async fn unserved(conn: &Conn, after: EventId, limit: i64) -> Result<Vec<EventId>, DbError> {
    let rows = conn.rows(UNSERVED, &[&after.0, &limit]).await?;
    rows.iter().map(|row| Ok(EventId(row.try_get(0)?))).collect()
}
