//! Who reads which stream for which service: one process at a time, as long as it says so.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};

const LIVE: &str = "SELECT stream, holder FROM stream_leases
    WHERE service = $1 AND lease_until > $2";
/// What is free or one's own. Sorted, so that two who take the same wait for each other.
const TAKE: &str = "INSERT INTO stream_leases AS l (service, stream, holder, lease_until)
    SELECT $1, s.stream, $2, $4 FROM unnest($5::text[]) AS s (stream) ORDER BY 2
    ON CONFLICT (service, stream) DO UPDATE SET holder = $2, lease_until = $4
    WHERE l.holder = $2 OR l.lease_until <= $3
    RETURNING stream";
const RELEASE: &str = "DELETE FROM stream_leases
    WHERE service = $1 AND holder = $2 AND stream = ANY ($3)";

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// On which stream.
    pub stream: String,
    /// Whose.
    pub holder: Uuid,
}

/// The leases of a service that are not over.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn live(conn: &Conn, service: &str, now: Timestamp) -> Result<Vec<Lease>, DbError> {
    let rows = conn.rows(LIVE, &[&service, &now]).await?;
    rows.iter()
        .map(|row| Ok(Lease { stream: row.try_get("stream")?, holder: row.try_get("holder")? }))
        .collect()
}

/// Takes or keeps these streams until then, those that nobody else holds; says which.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn take(
    conn: &Conn,
    service: &str,
    holder: Uuid,
    streams: &[String],
    (now, until): (Timestamp, Timestamp),
) -> Result<Vec<String>, DbError> {
    let rows = conn.rows(TAKE, &[&service, &holder, &now, &until, &streams]).await?;
    rows.iter().map(|row| Ok(row.try_get("stream")?)).collect()
}

/// Lets streams go.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn release(
    conn: &Conn,
    service: &str,
    holder: Uuid,
    streams: &[String],
) -> Result<(), DbError> {
    conn.run(RELEASE, &[&service, &holder, &streams]).await.map(drop)
}
