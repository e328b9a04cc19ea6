//! Messages that died. One row a message and place: one that dies again after it was sent again
//! opens its letter again, so that the counter of redrives goes on.

use std::collections::HashSet;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::dead_letter::{DeadLetter, Filter, Group, Kept, Resolution, Resolved, Shown};
use crate::domain::ids::{DeadLetterId, MessageId, UserId};

const SAVE: &str = "INSERT INTO dead_letters
    (id, source, message_id, type, payload, correlation_id, traceparent, reason, fingerprint,
     attempts, died_at, schema_version)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::text[], $8::text[], $9::text[], $10::integer[], $11::timestamptz[],
                         $12::integer[])
    ON CONFLICT (source, message_id) DO UPDATE
    SET reason = EXCLUDED.reason, fingerprint = EXCLUDED.fingerprint,
        attempts = EXCLUDED.attempts, died_at = EXCLUDED.died_at,
        payload = EXCLUDED.payload, schema_version = EXCLUDED.schema_version, resolved_at = NULL,
        resolution = NULL, resolved_by = NULL, note = NULL, replaced_by = NULL";
/// Of payloads only the beginning: there may be a hundred of a megabyte each.
const LIST: &str = "SELECT d.id, d.source, d.message_id, d.type, left(d.payload, 4096) AS payload,
        d.correlation_id, d.traceparent, d.reason, d.fingerprint, d.attempts, d.died_at, d.redrives,
        d.schema_version, d.resolution, d.resolved_at, d.resolved_by, d.note, d.replaced_by,
        o.id AS copy_of
    FROM dead_letters d
    LEFT JOIN dead_letters o ON o.replaced_by = d.message_id
    WHERE ($1::boolean IS NULL OR (d.resolved_at IS NULL) = $1)
      AND ($2::text IS NULL OR d.type = $2) AND ($3::text IS NULL OR d.source = $3)
      AND ($4::text IS NULL OR d.fingerprint = $4)
      AND (cardinality($5::uuid[]) = 0 OR d.id = ANY ($5)) AND ($6::uuid IS NULL OR d.id < $6)
    ORDER BY d.id DESC LIMIT $7";
/// The next ones to send again, the oldest first, kept from others until the transaction ends.
const TAKE: &str = "SELECT *, NULL::uuid AS copy_of FROM dead_letters
    WHERE resolved_at IS NULL AND died_at <= $6
      AND ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR source = $2)
      AND ($3::text IS NULL OR fingerprint = $3)
      AND (cardinality($4::uuid[]) = 0 OR id = ANY ($4)) AND ($5::uuid IS NULL OR id > $5)
    ORDER BY id LIMIT $7 FOR UPDATE";
const GROUPS: &str = "SELECT fingerprint, source, type, count(*) AS letters,
        min(died_at) AS first_died_at, max(died_at) AS last_died_at,
        (array_agg(reason ORDER BY died_at DESC))[1] AS reason,
        (array_agg(id ORDER BY died_at DESC))[1] AS sample_id
    FROM dead_letters
    WHERE resolved_at IS NULL
      AND ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR source = $2)
      AND ($3::text IS NULL OR fingerprint = $3)
    GROUP BY fingerprint, source, type ORDER BY letters DESC, fingerprint LIMIT $4";
const OPEN: &str = "SELECT DISTINCT message_id FROM dead_letters
    WHERE source = ANY ($1) AND message_id = ANY ($2) AND resolved_at IS NULL";
const FIND: &str = "SELECT d.*, o.id AS copy_of FROM dead_letters d
    LEFT JOIN dead_letters o ON o.replaced_by = d.message_id WHERE d.id = $1 LIMIT 1";
const LOCK: &str = "SELECT *, NULL::uuid AS copy_of FROM dead_letters WHERE id = $1 FOR UPDATE";
const RESOLVE: &str = "UPDATE dead_letters SET resolution = $2, resolved_at = $3, resolved_by = $4,
        note = $5, replaced_by = $6,
        redrives = redrives + CASE $2 WHEN 'redriven' THEN 1 ELSE 0 END
    WHERE id = ANY ($1) AND resolved_at IS NULL";
const COUNT: &str = "SELECT count(*) AS letters FROM dead_letters WHERE resolved_at IS NULL
      AND ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR source = $2)
      AND ($3::text IS NULL OR fingerprint = $3)
      AND (cardinality($4::uuid[]) = 0 OR id = ANY ($4))";
const PRUNE: &str = "DELETE FROM dead_letters WHERE id = ANY (ARRAY(
    SELECT id FROM dead_letters WHERE resolved_at < $1 LIMIT $2))";

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
    let versions: Vec<i32> = letters.iter().map(|letter| letter.schema_version).collect();
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
            &versions,
        ],
    )
    .await?;
    Ok(())
}

/// Letters, the newest first, after (that is, older than) the one named; of each payload the first
/// 4096 characters.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    conn: &Conn,
    filter: &Filter,
    shown: Shown,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Kept>, DbError> {
    let Filter { kind, source, fingerprint, .. } = filter;
    let is_open = match shown {
        Shown::Open => Some(true),
        Shown::Resolved => Some(false),
        Shown::All => None,
    };
    let ids = ids(filter);
    let params: [&(dyn ToSql + Sync); 7] =
        [&is_open, kind, source, fingerprint, &ids, &after, &limit];
    conn.rows(LIST, &params).await?.iter().map(kept).collect()
}

/// Open letters that died until `until`, the oldest first, after the one named; nobody else gets
/// at them until the transaction ends.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn take(
    tx: &Conn,
    filter: &Filter,
    after: Option<DeadLetterId>,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<DeadLetter>, DbError> {
    let Filter { kind, source, fingerprint, .. } = filter;
    let (ids, after) = (ids(filter), after.map(|id| id.0));
    let params: [&(dyn ToSql + Sync); 7] =
        [kind, source, fingerprint, &ids, &after, &until, &limit];
    tx.rows(TAKE, &params).await?.iter().map(letter).collect()
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
    let Filter { kind, source, fingerprint, .. } = filter;
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

/// A letter.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn find(conn: &Conn, id: DeadLetterId) -> Result<Option<Kept>, DbError> {
    conn.row(FIND, &[&id.0]).await?.as_ref().map(kept).transpose()
}

/// The same, kept from others until the transaction ends.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn lock(tx: &Conn, id: DeadLetterId) -> Result<Option<Kept>, DbError> {
    tx.row(LOCK, &[&id.0]).await?.as_ref().map(kept).transpose()
}

/// Closes open letters, and says how many were open.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn resolve(
    tx: &Conn,
    letters: &[DeadLetterId],
    resolved: &Resolved,
) -> Result<u64, DbError> {
    let letters: Vec<Uuid> = letters.iter().map(|id| id.0).collect();
    let Resolved { how, at, by, note, replaced_by } = resolved;
    let (how, by) = (how.name(), by.map(|id| id.0));
    let replaced_by = replaced_by.map(|id| id.to_string());
    tx.run(RESOLVE, &[&letters, &how, at, &by, note, &replaced_by]).await
}

/// Counts open letters.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn count(conn: &Conn, filter: &Filter) -> Result<i64, DbError> {
    let Filter { kind, source, fingerprint, .. } = filter;
    match conn.row(COUNT, &[kind, source, fingerprint, &ids(filter)]).await? {
        Some(row) => Ok(row.try_get("letters")?),
        None => Ok(0),
    }
}

/// Forgets up to `limit` letters that were closed before `before`.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prune(conn: &Conn, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    conn.run(PRUNE, &[&before, &limit]).await
}

fn ids(filter: &Filter) -> Vec<Uuid> {
    filter.ids.iter().map(|id| id.0).collect()
}

fn kept(row: &Row) -> Result<Kept, DbError> {
    let resolution: Option<&str> = row.try_get("resolution")?;
    let at: Option<Timestamp> = row.try_get("resolved_at")?;
    let resolved = match resolution.zip(at) {
        Some((how, at)) => Some(Resolved {
            how: Resolution::parse(how).ok_or_else(|| corrupt("resolution", how))?,
            at,
            by: row.try_get::<_, Option<Uuid>>("resolved_by")?.map(UserId),
            note: row.try_get("note")?,
            replaced_by: row
                .try_get::<_, Option<&str>>("replaced_by")?
                .map(|id| id.parse().map_err(|_| corrupt("replaced_by", id)))
                .transpose()?
                .map(MessageId),
        }),
        None => None,
    };
    let copy_of: Option<Uuid> = row.try_get("copy_of")?;
    Ok(Kept { letter: letter(row)?, resolved, copy_of: copy_of.map(DeadLetterId) })
}

fn corrupt(column: &'static str, value: &str) -> DbError {
    DbError::Corrupt { table: "dead_letters", column, value: value.to_owned() }
}

fn letter(row: &Row) -> Result<DeadLetter, DbError> {
    let message_id: &str = row.try_get("message_id")?;
    let message_id = message_id.parse().map_err(|_| corrupt("message_id", message_id))?;
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
        schema_version: row.try_get("schema_version")?,
    })
}
