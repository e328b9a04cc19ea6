//! What the operator watches: signs of life and what is owed. All from small indexes.

use jiff::Timestamp;

use super::{Conn, DbError, Statements as _};

const PING: &str = "SELECT 1";
const BACKLOG: &str = "SELECT
    (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND dead_at IS NULL AND seq > 0)
        + (SELECT count(*) FROM bus_unsent) AS unsent,
    (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND dead_at IS NULL AND attempts > 0)
        + (SELECT count(*) FROM bus_stragglers
           WHERE sent_at IS NULL AND dead_at IS NULL AND attempts > 0) AS failing,
    (SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL) AS dead,
    (SELECT min(created_at) FROM oldest_unsent) AS oldest";

const SETTINGS: &str = "SELECT current_user::text AS user_name, current_database()::text AS name,
    current_setting('server_version') AS version,
    current_setting('server_version_num')::int AS version_number,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('server_encoding') AS encoding,
    current_setting('max_connections')::int AS max_connections,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
    clock_timestamp() AS now";

/// How the server is set up, as far as it matters to us.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "they are PostgreSQL's own names")]
pub struct Settings {
    pub user: String,
    pub database: String,
    pub version: String,
    pub version_number: i32,
    pub fsync: String,
    pub full_page_writes: String,
    pub synchronous_commit: String,
    pub encoding: String,
    pub max_connections: i32,
    /// Whether tables can be made, as migrations do.
    pub may_create: bool,
    /// The server's clock.
    pub now: Timestamp,
}

/// What is owed.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// Messages that are not published yet.
    pub unsent: i64,
    /// Messages whose publication failed so far, and dead letters.
    pub failed: i64,
    /// Dead letters that nobody dealt with.
    pub dead: i64,
    /// The age of the oldest unpublished message; 0 without one.
    pub oldest_seconds: f64,
}

/// Reads how the server is set up.
pub async fn settings(conn: &Conn) -> Result<Settings, DbError> {
    let row = conn.query_one(SETTINGS, &[]).await?;
    Ok(Settings {
        user: row.try_get("user_name")?,
        database: row.try_get("name")?,
        version: row.try_get("version")?,
        version_number: row.try_get("version_number")?,
        fsync: row.try_get("fsync")?,
        full_page_writes: row.try_get("full_page_writes")?,
        synchronous_commit: row.try_get("synchronous_commit")?,
        encoding: row.try_get("encoding")?,
        max_connections: row.try_get("max_connections")?,
        may_create: row.try_get("may_create")?,
        now: row.try_get("now")?,
    })
}

/// Asks for nothing.
pub async fn ping(conn: &Conn) -> Result<(), DbError> {
    conn.row(PING, &[]).await.map(drop)
}

/// Counts what is owed at `now`.
pub async fn backlog(conn: &Conn, now: Timestamp) -> Result<Backlog, DbError> {
    let Some(row) = conn.row(BACKLOG, &[]).await? else {
        return Ok(Backlog { unsent: 0, failed: 0, dead: 0, oldest_seconds: 0.0 });
    };
    let (failing, dead): (i64, i64) = (row.try_get("failing")?, row.try_get("dead")?);
    let oldest: Option<Timestamp> = row.try_get("oldest")?;
    let age = oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64().max(0.0));
    Ok(Backlog {
        unsent: row.try_get("unsent")?,
        failed: failing.saturating_add(dead),
        dead,
        oldest_seconds: age,
    })
}
