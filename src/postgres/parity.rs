//! What became of the messages of a type, by the books: for those who compare brokers.

use super::{Conn, DbError, Statements as _};

const BOOKED: &str = "SELECT count(*) AS written,
        count(*) - count(s.dead_at) - (SELECT count(*) FROM bus_unsent WHERE type = $1) AS sent,
        count(s.dead_at) AS dead
    FROM bus_outbox o LEFT JOIN bus_stragglers s ON s.seq = o.seq WHERE o.type = $1";
const UNDONE: &str = "SELECT count(*) AS undone FROM bus_outbox o
    WHERE o.type = $1
      AND NOT EXISTS (SELECT FROM bus_stragglers s WHERE s.seq = o.seq AND s.dead_at IS NOT NULL)
      AND (SELECT true FROM processed_events p
           WHERE p.streamName = ANY ($2) AND p.revision = o.id::text AND p.serviceContext = $3
             AND (p.processingStatus IN ('processed', 'skipped') OR p.dead_at IS NOT NULL)
           LIMIT 1) IS NULL";

/// Messages of a type that the outbox still knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Booked {
    /// All of them.
    pub written: i64,
    /// Those that a broker confirmed.
    pub sent: i64,
    /// Those that could not be sent.
    pub dead: i64,
}

/// Counts the messages of a type.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn booked(conn: &Conn, kind: &str) -> Result<Booked, DbError> {
    let mut booked = Booked::default();
    if let Some(row) = conn.row(BOOKED, &[&kind]).await? {
        booked.written = row.try_get("written")?;
        booked.sent = row.try_get("sent")?;
        booked.dead = row.try_get("dead")?;
    }
    Ok(booked)
}

/// Counts those that a service has not dealt with. `streams` are the names under which it may
/// remember them.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn undone(
    conn: &Conn,
    kind: &str,
    streams: &[String],
    service: &str,
) -> Result<i64, DbError> {
    match conn.row(UNDONE, &[&kind, &streams, &service]).await? {
        Some(row) => Ok(row.try_get("undone")?),
        None => Ok(0),
    }
}
