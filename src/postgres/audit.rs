//! Who changed what that others rely on: roles, keys, memberships, accounts, events. Append only.
//! And the log of messages, which other statements write to (see the migration), read with it.

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::audit::{Filter, Line, Place, Source};
use crate::domain::ids::UserId;

/// Days whose partitions are made ahead.
const AHEAD: i32 = 3;
/// Before and after all lines: what PostgreSQL and we can both say.
const FIRST: Timestamp = Timestamp::UNIX_EPOCH;
const LAST: Timestamp = Timestamp::constant(32_503_680_000, 0);

const APPEND: &str = "INSERT INTO audit_log (at, actor_id, action, subject, request_id, detail)
    VALUES ($1, $2, $3, $4, $5, $6)";
const APPEND_ALL: &str = "INSERT INTO audit_log (at, actor_id, action, subject, request_id, detail)
    SELECT $1, $2, $3, m.subject, $4, m.detail
    FROM unnest($5::text[], $6::json[]) AS m (subject, detail)";
/// The newest lines of each source, cut before they are put together: changes, the log, and what
/// the relay of the bus notes by batches, which is asked by time or by message.
const LIST: &str = "SELECT * FROM ((
        SELECT at, 'change' AS source, lpad(id::text, 20, '0') COLLATE \"C\" AS key, actor_id,
               action, subject, request_id, NULL AS type, NULL AS service, detail::text AS detail
        FROM audit_log
        WHERE ($1::text IS NULL OR $1 = 'change') AND ($2::text IS NULL OR action = $2)
          AND ($3::uuid IS NULL OR actor_id = $3) AND ($4::text IS NULL OR subject = $4)
          AND ($5::text IS NULL OR request_id = $5) AND $6::text IS NULL AND $7::text IS NULL
          AND at >= $8 AND at < $9 AND at <= $10
          AND (at, 'change'::text, lpad(id::text, 20, '0') COLLATE \"C\")
              < ($10, $11::text, $12::text)
        ORDER BY at DESC, 3 DESC LIMIT $13
    ) UNION ALL (
        SELECT at, 'message', (message_id || ' ' || service || ' ' || action) COLLATE \"C\", NULL,
               'message.' || action, message_id, correlation_id, type, service,
               to_json(detail)::text
        FROM message_log
        WHERE ($1::text IS NULL OR $1 = 'message')
          AND ($2::text IS NULL OR action = $14) AND $3::uuid IS NULL
          AND ($4::text IS NULL OR message_id = $4)
          AND ($5::text IS NULL OR correlation_id = $5) AND ($6::text IS NULL OR type = $6)
          AND ($7::text IS NULL OR service = $7) AND at >= $8 AND at < $9 AND at <= $10
          AND (at, 'message'::text, (message_id || ' ' || service || ' ' || action) COLLATE \"C\")
              < ($10, $11::text, $12::text)
        ORDER BY at DESC, 3 DESC LIMIT $13
    ) UNION ALL (
        SELECT p.at, 'message', (o.id || ' bus published') COLLATE \"C\", NULL,
               'message.published', o.id::text, o.correlation_id, o.type, 'bus',
               to_json(u.position)::text
        FROM bus_publications p CROSS JOIN LATERAL unnest(p.seqs, p.positions) AS u (seq, position)
        JOIN bus_outbox o ON o.seq = u.seq
        WHERE ($1::text IS NULL OR $1 = 'message')
          AND ($2::text IS NULL OR $14 = 'published') AND $3::uuid IS NULL
          AND $4::text IS NULL AND $5::text IS NULL AND ($6::text IS NULL OR o.type = $6)
          AND ($7::text IS NULL OR $7 = 'bus') AND p.at >= $8 AND p.at < $9 AND p.at <= $10
          AND (p.at, 'message'::text, (o.id || ' bus published') COLLATE \"C\")
              < ($10, $11::text, $12::text)
        ORDER BY p.at DESC, 3 DESC LIMIT $13
    ) UNION ALL (
        SELECT s.sent_at, 'message', (o.id || ' bus published') COLLATE \"C\", NULL,
               'message.published', o.id::text, o.correlation_id, o.type, 'bus',
               to_json(s.position)::text
        FROM bus_stragglers s JOIN bus_outbox o ON o.seq = s.seq
        WHERE ($1::text IS NULL OR $1 = 'message')
          AND ($2::text IS NULL OR $14 = 'published') AND $3::uuid IS NULL
          AND $4::text IS NULL AND $5::text IS NULL AND ($6::text IS NULL OR o.type = $6)
          AND ($7::text IS NULL OR $7 = 'bus')
          AND s.sent_at >= $8 AND s.sent_at < $9 AND s.sent_at <= $10
          AND (s.sent_at, 'message'::text, (o.id || ' bus published') COLLATE \"C\")
              < ($10, $11::text, $12::text)
        ORDER BY s.sent_at DESC, 3 DESC LIMIT $13
    ) UNION ALL (
        SELECT m.sent_at, 'message', (m.id || ' bus published') COLLATE \"C\", NULL,
               'message.published', m.id::text, m.correlation_id, m.type, 'bus',
               to_json(m.position)::text
        FROM bus_messages m
        WHERE ($1::text IS NULL OR $1 = 'message')
          AND ($2::text IS NULL OR $14 = 'published') AND $3::uuid IS NULL
          AND ($4::text IS NOT NULL OR $5::text IS NOT NULL)
          AND ($4::text IS NULL OR m.id = $15::uuid)
          AND ($5::text IS NULL OR m.correlation_id = $5) AND ($6::text IS NULL OR m.type = $6)
          AND ($7::text IS NULL OR $7 = 'bus')
          AND m.sent_at >= $8 AND m.sent_at < $9 AND m.sent_at <= $10
          AND (m.sent_at, 'message'::text, (m.id || ' bus published') COLLATE \"C\")
              < ($10, $11::text, $12::text)
        ORDER BY m.sent_at DESC, 3 DESC LIMIT $13
    )) AS lines ORDER BY at DESC, source DESC, key DESC LIMIT $13";
const BEGIN_DAYS: &str = "SELECT message_log_begin_day(($1::timestamptz AT TIME ZONE 'UTC')::date
        + ahead) IS NULL FROM generate_series(0, $2::integer) AS ahead";
const END_DAYS: &str = "SELECT message_log_end_days(($1::timestamptz AT TIME ZONE 'UTC')::date)
    AS dropped";
const PRUNE: &str = "DELETE FROM audit_log WHERE id = ANY (ARRAY(
    SELECT id FROM audit_log WHERE at < $1 LIMIT $2))";

/// Notes a change in the transaction that makes it. `actor` is `None` for the system itself;
/// `action` is like `api_key.created`; `subject` is the id of what was changed.
pub async fn append(
    tx: &Conn,
    now: Timestamp,
    actor: Option<UserId>,
    action: &str,
    subject: &str,
    request_id: Option<&str>,
    detail: Option<&Value>,
) -> Result<(), DbError> {
    let actor = actor.map(|id| id.0);
    tx.run(APPEND, &[&now, &actor, &action, &subject, &request_id, &detail]).await?;
    Ok(())
}

/// Notes the same change of many things, each with its detail.
pub async fn append_all(
    tx: &Conn,
    now: Timestamp,
    actor: Option<UserId>,
    action: &str,
    request_id: Option<&str>,
    changed: &[(String, Value)],
) -> Result<(), DbError> {
    let actor = actor.map(|id| id.0);
    let subjects: Vec<&str> = changed.iter().map(|(subject, _)| subject.as_str()).collect();
    let details: Vec<&Value> = changed.iter().map(|(_, detail)| detail).collect();
    tx.run(APPEND_ALL, &[&now, &actor, &action, &request_id, &subjects, &details]).await?;
    Ok(())
}

/// Up to `limit` lines, the newest first, behind that place.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    conn: &Conn,
    filter: &Filter,
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<Line>, DbError> {
    let Filter { source, action, actor, subject, request_id, kind, service, since, until } = filter;
    let (source, actor) = (source.map(Source::name), actor.map(|id| id.0));
    let (since, until) = (since.unwrap_or(FIRST), until.unwrap_or(LAST));
    let at = after.and_then(|place| Timestamp::from_microsecond(place.at_us).ok());
    let (at, from) = (at.unwrap_or(LAST), after.map_or("z", |place| place.source.name()));
    let key = after.map_or("", |place| place.key.as_str());
    let told = action.as_deref().map(|action| action.strip_prefix("message.").unwrap_or("none"));
    let message: Option<Uuid> = subject.as_deref().and_then(|subject| subject.parse().ok());
    let params: [&(dyn ToSql + Sync); 15] = [
        &source, action, &actor, subject, request_id, kind, service, &since, &until, &at, &from,
        &key, &limit, &told, &message,
    ];
    conn.rows(LIST, &params).await?.iter().map(line).collect()
}

/// Makes the partitions of today and the next days, and drops those of the days before `before`;
/// says how many.
///
/// # Errors
/// When PostgreSQL is away, or others use the log without a pause.
pub async fn turn_days(conn: &Conn, now: Timestamp, before: Timestamp) -> Result<i64, DbError> {
    conn.rows(BEGIN_DAYS, &[&now, &AHEAD]).await?;
    match conn.row(END_DAYS, &[&before]).await? {
        Some(row) => Ok(row.try_get("dropped")?),
        None => Ok(0),
    }
}

/// Forgets up to `limit` changes that were made before `before`.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prune(conn: &Conn, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    conn.run(PRUNE, &[&before, &limit]).await
}

fn line(row: &Row) -> Result<Line, DbError> {
    let source: &str = row.try_get("source")?;
    let actor: Option<Uuid> = row.try_get("actor_id")?;
    Ok(Line {
        at: row.try_get("at")?,
        source: if source == Source::Change.name() { Source::Change } else { Source::Message },
        key: row.try_get("key")?,
        actor: actor.map(UserId),
        action: row.try_get("action")?,
        subject: row.try_get("subject")?,
        request_id: row.try_get("request_id")?,
        kind: row.try_get("type")?,
        service: row.try_get("service")?,
        detail: row.try_get("detail")?,
    })
}
