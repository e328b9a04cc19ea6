//! Jobs that send many dead letters again. The lock of a job's row is its lease: whoever holds it
//! takes the next step, in the transaction that notes how far it got.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::dead_letter::{FailedEvent, Filter, Redrive};
use crate::domain::ids::{DeadLetterId, MessageId, RedriveId, UserId};

const INSERT: &str = "INSERT INTO redrives
    (id, type, source, fingerprint, ids, rate_per_second, most, force, matched, paid_until,
     created_at, created_by, request_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const FIND: &str = "SELECT * FROM redrives WHERE id = $1";
const LIST: &str = "SELECT * FROM redrives WHERE $1::uuid IS NULL OR id < $1
    ORDER BY id DESC LIMIT $2";
const RUNNING: &str = "SELECT id FROM redrives WHERE finished_at IS NULL ORDER BY id LIMIT $1";
const LOCK: &str = "SELECT * FROM redrives WHERE id = $1 AND finished_at IS NULL
    FOR UPDATE SKIP LOCKED";
const NOTE: &str = "UPDATE redrives SET redriven = $2, refused = $3, refusals = $4, after_id = $5,
    paid_until = $6, finished_at = $7 WHERE id = $1";
const CANCEL: &str = "UPDATE redrives SET finished_at = $2, cancelled = true
    WHERE id = $1 AND finished_at IS NULL";
const PRUNE: &str = "DELETE FROM redrives WHERE id = ANY (ARRAY(
    SELECT id FROM redrives WHERE finished_at < $1 LIMIT $2))";
const FAILED: &str = r#"SELECT id, type, data, error, "timestamp", "retryCount", next_attempt_at,
        dead
    FROM failed_events WHERE ($1::text IS NULL OR id < $1)
      AND ($3::text IS NULL OR type = $3) ORDER BY id DESC LIMIT $2"#;

/// Begins a job.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn insert(tx: &Conn, job: &Redrive) -> Result<(), DbError> {
    let Filter { kind, source, fingerprint, ids } = &job.filter;
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rate = i32::try_from(job.rate_per_second).unwrap_or(i32::MAX);
    let by = job.created_by.map(|id| id.0);
    tx.run(
        INSERT,
        &[
            &job.id.0,
            kind,
            source,
            fingerprint,
            &ids,
            &rate,
            &job.most,
            &job.force,
            &job.matched,
            &job.paid_until,
            &job.created_at,
            &by,
            &job.request_id,
        ],
    )
    .await?;
    Ok(())
}

/// A job.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn find(conn: &Conn, id: RedriveId) -> Result<Option<Redrive>, DbError> {
    conn.row(FIND, &[&id.0]).await?.as_ref().map(job).transpose()
}

/// Jobs, the newest first.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(conn: &Conn, after: Option<Uuid>, limit: i64) -> Result<Vec<Redrive>, DbError> {
    conn.rows(LIST, &[&after, &limit]).await?.iter().map(job).collect()
}

/// Jobs that are not over, the oldest first.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn running(conn: &Conn, limit: i64) -> Result<Vec<RedriveId>, DbError> {
    let rows = conn.rows(RUNNING, &[&limit]).await?;
    rows.iter().map(|row| Ok(RedriveId(row.try_get("id")?))).collect()
}

/// A job that is not over and that nobody else is at; others are kept from it until the
/// transaction ends.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn lock(tx: &Conn, id: RedriveId) -> Result<Option<Redrive>, DbError> {
    tx.row(LOCK, &[&id.0]).await?.as_ref().map(job).transpose()
}

/// Notes how far a job got.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn note(tx: &Conn, job: &Redrive) -> Result<(), DbError> {
    let refusals: Vec<Value> =
        job.refusals.iter().map(|(id, why)| json!({ "id": id.0, "reason": why })).collect();
    let (refusals, after) = (Value::from(refusals), job.after.map(|id| id.0));
    tx.run(
        NOTE,
        &[
            &job.id.0,
            &job.redriven,
            &job.refused,
            &refusals,
            &after,
            &job.paid_until,
            &job.finished_at,
        ],
    )
    .await?;
    Ok(())
}

/// Ends a job, and says whether it was not over.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn cancel(tx: &Conn, id: RedriveId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.run(CANCEL, &[&id.0, &now]).await? > 0)
}

/// Forgets up to `limit` jobs that were over before `before`.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prune(conn: &Conn, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    conn.run(PRUNE, &[&before, &limit]).await
}

/// Publications that failed, the newest messages first.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn failed_events(
    conn: &Conn,
    kind: Option<&str>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<FailedEvent>, DbError> {
    let after = after.map(|id| id.to_string());
    let rows = conn.rows(FAILED, &[&after, &limit, &kind]).await?;
    rows.iter()
        .map(|row| {
            let id: &str = row.try_get("id")?;
            let bad =
                |_| DbError::Corrupt { table: "failed_events", column: "id", value: id.to_owned() };
            Ok(FailedEvent {
                id: MessageId(id.parse().map_err(bad)?),
                kind: row.try_get("type")?,
                data: row.try_get("data")?,
                error: row.try_get::<_, Option<String>>("error")?.unwrap_or_default(),
                at: row.try_get("timestamp")?,
                retries: row.try_get("retryCount")?,
                next_attempt_at: row.try_get("next_attempt_at")?,
                is_dead: row.try_get("dead")?,
            })
        })
        .collect()
}

fn job(row: &Row) -> Result<Redrive, DbError> {
    let ids: Vec<Uuid> = row.try_get("ids")?;
    let refusals: Value = row.try_get("refusals")?;
    let refusals = refusals.as_array().into_iter().flatten().filter_map(|one| {
        let id = one.get("id")?.as_str()?.parse().ok()?;
        Some((DeadLetterId(id), one.get("reason")?.as_str()?.to_owned()))
    });
    let rate: i32 = row.try_get("rate_per_second")?;
    Ok(Redrive {
        id: RedriveId(row.try_get("id")?),
        filter: Filter {
            kind: row.try_get("type")?,
            source: row.try_get("source")?,
            fingerprint: row.try_get("fingerprint")?,
            ids: ids.into_iter().map(DeadLetterId).collect(),
        },
        rate_per_second: u32::try_from(rate).unwrap_or(1),
        most: row.try_get("most")?,
        force: row.try_get("force")?,
        matched: row.try_get("matched")?,
        redriven: row.try_get("redriven")?,
        refused: row.try_get("refused")?,
        refusals: refusals.collect(),
        after: row.try_get::<_, Option<Uuid>>("after_id")?.map(DeadLetterId),
        paid_until: row.try_get("paid_until")?,
        created_at: row.try_get("created_at")?,
        created_by: row.try_get::<_, Option<Uuid>>("created_by")?.map(UserId),
        request_id: row.try_get("request_id")?,
        finished_at: row.try_get("finished_at")?,
        cancelled: row.try_get("cancelled")?,
    })
}
