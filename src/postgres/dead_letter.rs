//! Messages that died. One row a message and place: one that dies again after it was sent again
//! opens its letter again, so that the counter of redrives goes on.

use std::collections::HashSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::dead_letter::{DeadLetter, Filter, Group};
use crate::domain::ids::{DeadLetterId, MessageId};

const SAVE: &str = "INSERT INTO dead_letters
    (id, source, message_id, type, payload, correlation_id, traceparent, reason, fingerprint,
     attempts, died_at)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::text[], $8::text[], $9::text[], $10::integer[], $11::timestamptz[])
    ON CONFLICT (source, message_id) DO UPDATE
    SET reason = EXCLUDED.reason, fingerprint = EXCLUDED.fingerprint,
        attempts = EXCLUDED.attempts, died_at = EXCLUDED.died_at, redriven_at = NULL";
const LIST: &str = "SELECT * FROM dead_letters
    WHERE redriven_at IS NULL
      AND ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR source = $2)
      AND ($3::text IS NULL OR fingerprint = $3) AND ($4::uuid IS NULL OR id < $4)
    ORDER BY id DESC LIMIT $5";
const GROUPS: &str = "SELECT fingerprint, source, type, count(*) AS letters,
        min(died_at) AS first_died_at, max(died_at) AS last_died_at,
        (array_agg(reason ORDER BY died_at DESC))[1] AS reason,
        (array_agg(id ORDER BY died_at DESC))[1] AS sample_id
    FROM dead_letters
    WHERE redriven_at IS NULL
      AND ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR source = $2)
      AND ($3::text IS NULL OR fingerprint = $3)
    GROUP BY fingerprint, source, type ORDER BY letters DESC, fingerprint LIMIT $4";
const OPEN: &str = "SELECT DISTINCT message_id FROM dead_letters
    WHERE source = ANY ($1) AND message_id = ANY ($2) AND redriven_at IS NULL";
const FIND: &str = "SELECT * FROM dead_letters WHERE id = $1";
const LOCK: &str = "SELECT * FROM dead_letters WHERE id = $1 FOR UPDATE";
const REDRIVEN: &str = "UPDATE dead_letters SET redriven_at = $2, redrives = redrives + 1
    WHERE id = ANY ($1) AND redriven_at IS NULL";
const DROP: &str = "DELETE FROM dead_letters WHERE id = $1 AND redriven_at IS NULL";
const COUNT: &str = "SELECT count(*) AS letters FROM dead_letters WHERE redriven_at IS NULL
      AND ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR source = $2)
      AND ($3::text IS NULL OR fingerprint = $3)";

/// Keeps letters; a message that is in here from the same source is opened again. Messages of the
/// same source must differ.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn save(conn: &Conn, letters: &[DeadLetter]) -> Result<(), DbError> {
    if letters.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = letters.iter().map(|letter| letter.id.0).collect();
    let sources: Vec<&str> = letters.iter().map(|letter| letter.source.as_str()).collect();
    let messages: Vec<String> =
        letters.iter().map(|letter| letter.message_id.to_string()).collect();
    let kinds: Vec<&str> = letters.iter().map(|letter| letter.kind.as_str()).collect();
    let payloads: Vec<&str> = letters.iter().map(|letter| letter.payload.as_str()).collect();
    let correlations: Vec<_> = letters.iter().map(|l| l.correlation_id.as_deref()).collect();
    let traces: Vec<_> = letters.iter().map(|letter| letter.traceparent.as_deref()).collect();
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    let prints: Vec<&str> = letters.iter().map(|letter| letter.fingerprint.as_str()).collect();
    let attempts: Vec<i32> = letters.iter().map(|letter| letter.attempts).collect();
    let died: Vec<Timestamp> = letters.iter().map(|letter| letter.died_at).collect();
    conn.run(
        SAVE,
        &[
            &ids,
            &sources,
            &messages,
            &kinds,
            &payloads,
            &correlations,
            &traces,
            &reasons,
            &prints,
            &attempts,
            &died,
        ],
    )
    .await?;
    Ok(())
}

/// Open letters, the newest first, after (that is, older than) the one named.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    conn: &Conn,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DeadLetter>, DbError> {
    let Filter { kind, source, fingerprint } = filter;
    let rows = conn.rows(LIST, &[kind, source, fingerprint, &after, &limit]).await?;
    rows.iter().map(letter).collect()
}

/// Those of the messages (by their ids) that have an open letter from one of the sources.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn open(
    conn: &Conn,
    sources: &[&str],
    messages: &[String],
) -> Result<HashSet<String>, DbError> {
    let rows = conn.rows(OPEN, &[&sources, &messages]).await?;
    rows.iter().map(|row| Ok(row.try_get("message_id")?)).collect()
}

/// Open letters by what they died of, the largest groups first.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn groups(conn: &Conn, filter: &Filter, limit: i64) -> Result<Vec<Group>, DbError> {
    let Filter { kind, source, fingerprint } = filter;
    let rows = conn.rows(GROUPS, &[kind, source, fingerprint, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Group {
                fingerprint: row.try_get("fingerprint")?,
                source: row.try_get("source")?,
                kind: row.try_get("type")?,
                reason: row.try_get("reason")?,
                count: row.try_get("letters")?,
                sample_id: DeadLetterId(row.try_get("sample_id")?),
                first_died_at: row.try_get("first_died_at")?,
                last_died_at: row.try_get("last_died_at")?,
            })
        })
        .collect()
}

/// A letter and whether it is open.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn find(conn: &Conn, id: DeadLetterId) -> Result<Option<(DeadLetter, bool)>, DbError> {
    one(conn, FIND, id).await
}

/// The same, kept from others until the transaction ends.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn lock(tx: &Conn, id: DeadLetterId) -> Result<Option<(DeadLetter, bool)>, DbError> {
    one(tx, LOCK, id).await
}

/// Closes letters that are sent again, and says how many were open.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn mark_redriven(
    tx: &Conn,
    ids: &[DeadLetterId],
    now: Timestamp,
) -> Result<u64, DbError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    tx.run(REDRIVEN, &[&ids, &now]).await
}

/// Drops an open letter for good and says whether there was one.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn remove(tx: &Conn, id: DeadLetterId) -> Result<bool, DbError> {
    Ok(tx.run(DROP, &[&id.0]).await? > 0)
}

/// Counts open letters.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn count(conn: &Conn, filter: &Filter) -> Result<i64, DbError> {
    let Filter { kind, source, fingerprint } = filter;
    match conn.row(COUNT, &[kind, source, fingerprint]).await? {
        Some(row) => Ok(row.try_get("letters")?),
        None => Ok(0),
    }
}

async fn one(
    conn: &Conn,
    sql: &'static str,
    id: DeadLetterId,
) -> Result<Option<(DeadLetter, bool)>, DbError> {
    let Some(row) = conn.row(sql, &[&id.0]).await? else { return Ok(None) };
    let redriven_at: Option<Timestamp> = row.try_get("redriven_at")?;
    Ok(Some((letter(&row)?, redriven_at.is_none())))
}

fn letter(row: &tokio_postgres::Row) -> Result<DeadLetter, DbError> {
    let message_id: &str = row.try_get("message_id")?;
    let message_id = message_id.parse().map_err(|_| DbError::Corrupt {
        table: "dead_letters",
        column: "message_id",
        value: message_id.to_owned(),
    })?;
    Ok(DeadLetter {
        id: DeadLetterId(row.try_get("id")?),
        source: row.try_get("source")?,
        message_id: MessageId(message_id),
        kind: row.try_get("type")?,
        payload: row.try_get("payload")?,
        correlation_id: row.try_get("correlation_id")?,
        traceparent: row.try_get("traceparent")?,
        reason: row.try_get("reason")?,
        fingerprint: row.try_get("fingerprint")?,
        attempts: row.try_get("attempts")?,
        died_at: row.try_get("died_at")?,
        redrives: row.try_get("redrives")?,
    })
}
