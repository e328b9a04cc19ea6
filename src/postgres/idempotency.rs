//! Answers already given, by principal, route and key.

use jiff::Timestamp;

use super::{Conn, DbError, Statements as _};
use crate::domain::submission::{Reply, Submission};

/// Waits for a twin in flight; the lock ends with the transaction. The hash may collide with
/// another key's: then two strangers wait for each other, and nothing else happens.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
const FIND: &str = "SELECT fingerprint, status, body, location FROM idempotency_keys
    WHERE principal_id = $1 AND route = $2 AND key = $3";
const SAVE: &str = "INSERT INTO idempotency_keys
    (principal_id, route, key, fingerprint, status, body, location, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const PRUNE: &str = "DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_keys WHERE created_at < $1 LIMIT $2))";

/// What is known of a submission.
#[derive(Debug)]
pub enum Found {
    /// It is new.
    Nothing,
    /// It was answered.
    Replay(Reply),
    /// Its key was used for something else.
    Mismatch,
    /// A twin is being worked on and took too long.
    InFlight,
}

/// Looks the submission up and keeps twins out until the transaction ends.
pub async fn start(tx: &Conn, submission: &Submission) -> Result<Found, DbError> {
    let name = format!("{}|{}|{}", submission.principal, submission.route, submission.key);
    match tx.run(LOCK, &[&name]).await {
        Ok(_) => {}
        Err(DbError::Unavailable(cause)) if timed_out(&cause) => return Ok(Found::InFlight),
        Err(error) => return Err(error),
    }
    let key = &submission.key;
    let row = tx.row(FIND, &[&submission.principal, &submission.route, key]).await?;
    let Some(row) = row else { return Ok(Found::Nothing) };
    if row.try_get::<_, &[u8]>("fingerprint")? != submission.fingerprint {
        return Ok(Found::Mismatch);
    }
    Ok(Found::Replay(reply(&row)?))
}

/// Remembers the answer.
pub async fn save(
    tx: &Conn,
    submission: &Submission,
    reply: &Reply,
    now: Timestamp,
) -> Result<(), DbError> {
    let status = status(reply);
    let Submission { principal, route, key, fingerprint } = submission;
    let print = fingerprint.as_slice();
    tx.run(SAVE, &[principal, route, key, &print, &status, &reply.body, &reply.location, &now])
        .await?;
    Ok(())
}

/// Forgets up to `limit` answers older than `before` and says how many.
pub async fn prune(conn: &Conn, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    conn.run(PRUNE, &[&before, &limit]).await
}

pub(super) fn status(reply: &Reply) -> i16 {
    i16::try_from(reply.status).unwrap_or(i16::MAX)
}

pub(super) fn reply(row: &tokio_postgres::Row) -> Result<Reply, DbError> {
    let status: i16 = row.try_get("status")?;
    Ok(Reply {
        status: u16::try_from(status).unwrap_or(500),
        body: row.try_get("body")?,
        location: row.try_get("location")?,
    })
}

fn timed_out(cause: &anyhow::Error) -> bool {
    cause
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(tokio_postgres::Error::code)
        .is_some_and(|code| code == &tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE)
}
