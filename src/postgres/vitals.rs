//! What the operator watches: signs of life and what is owed. All from small partial indexes.

use jiff::Timestamp;

use super::{Conn, DbError, Statements as _};

const PING: &str = "SELECT 1";
const BACKLOG: &str = "SELECT
    (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND dead_at IS NULL) AS unsent,
    (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND dead_at IS NULL AND attempts > 0)
        + (SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL) AS failed,
    (SELECT created_at FROM outbox WHERE sent_at IS NULL AND dead_at IS NULL
        ORDER BY seq LIMIT 1) AS oldest";

/// What is owed.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// Messages that are not published yet.
    pub unsent: i64,
    /// Messages whose publication failed so far, and dead letters that nobody dealt with.
    pub failed: i64,
    /// The age of the oldest unpublished message; 0 without one.
    pub oldest_seconds: f64,
}

/// Asks for nothing.
pub async fn ping(conn: &Conn) -> Result<(), DbError> {
    conn.row(PING, &[]).await.map(drop)
}

/// Counts what is owed at `now`.
pub async fn backlog(conn: &Conn, now: Timestamp) -> Result<Backlog, DbError> {
    let Some(row) = conn.row(BACKLOG, &[]).await? else {
        return Ok(Backlog { unsent: 0, failed: 0, oldest_seconds: 0.0 });
    };
    let oldest: Option<Timestamp> = row.try_get("oldest")?;
    let age = oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64().max(0.0));
    Ok(Backlog {
        unsent: row.try_get("unsent")?,
        failed: row.try_get("failed")?,
        oldest_seconds: age,
    })
}
