//! What somebody was woken for, one open row a kind and subject, and what of the tables says that
//! something is wrong.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::alarm::judge::Dead;
use crate::domain::alarm::{Alarm, AlarmKind, Sighting};
use crate::domain::ids::{AlarmId, UserId};
use crate::domain::message::Lane;

/// Letters counted at one look; more are as bad.
const COUNTED_MAX: i64 = 10_000;
/// Most people who are told.
const ADMINS_MAX: i64 = 1000;

const GIVEN_UP: &str = "SELECT type AS what, count(*) AS letters,
        (array_agg(reason ORDER BY died_at DESC))[1] AS reason
    FROM (SELECT type, reason, died_at FROM dead_letters
          WHERE source = 'relay' AND resolved_at IS NULL ORDER BY died_at DESC LIMIT $1) d
    GROUP BY type ORDER BY type LIMIT 100";
const DIED: &str = "SELECT source AS what, count(*) AS letters,
        (array_agg(reason ORDER BY died_at DESC))[1] AS reason
    FROM (SELECT source, reason, died_at FROM dead_letters
          WHERE resolved_at IS NULL AND died_at > $2 AND source <> 'relay'
          ORDER BY died_at DESC LIMIT $1) d
    GROUP BY source ORDER BY source LIMIT 100";
const OLDEST_UNSENT: &str = "SELECT created_at FROM oldest_unsent WHERE lane = $1";
/// Any number that nobody else uses for advisory locks in this database: those who write alarms
/// take turns.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'414c41524d'::bigint)";
const ANY_OPEN: &str = "SELECT EXISTS (SELECT 1 FROM alarms WHERE closed_at IS NULL) AS found";
const OPEN: &str = "INSERT INTO alarms
        (id, kind, subject, opened_at, last_seen_at, told_at, process, detail)
    SELECT s.id, s.kind, s.subject, s.opened_at, $1, $1, $2, s.detail
    FROM unnest($3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::jsonb[])
         AS s (id, kind, subject, opened_at, detail)
    ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO NOTHING
    RETURNING *";
const TOUCH: &str = "UPDATE alarms a SET last_seen_at = greatest(a.last_seen_at, $1),
        process = $2, detail = s.detail
    FROM unnest($3::text[], $4::text[], $5::jsonb[]) AS s (kind, subject, detail)
    WHERE a.closed_at IS NULL AND a.kind = s.kind AND a.subject = s.subject";
const CLOSE: &str = "UPDATE alarms SET closed_at = $1
    WHERE closed_at IS NULL AND last_seen_at <= $2 RETURNING *";
/// All of them as soon as one is due, so that there is one reminder and not one for each.
const REMIND: &str = "UPDATE alarms SET told_at = $1
    WHERE closed_at IS NULL
      AND EXISTS (SELECT 1 FROM alarms d WHERE d.closed_at IS NULL AND d.told_at <= $2)
    RETURNING *";
const ADMINS: &str = "SELECT id FROM users WHERE role = 'admin' AND deactivated_at IS NULL
    ORDER BY id LIMIT $1";
const LIST: &str = "SELECT * FROM alarms
    WHERE ($1::boolean IS NULL OR (closed_at IS NULL) = $1)
      AND ($2::text IS NULL OR kind = $2) AND ($3::uuid IS NULL OR id < $3)
    ORDER BY id DESC LIMIT $4";
const PRUNE: &str = "DELETE FROM alarms WHERE id = ANY (ARRAY(
    SELECT id FROM alarms WHERE closed_at < $1 LIMIT $2))";

/// What the relay gave up and nobody has dealt with, by type.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn given_up(conn: &Conn) -> Result<Vec<Dead>, DbError> {
    conn.rows(GIVEN_UP, &[&COUNTED_MAX]).await?.iter().map(dead).collect()
}

/// What died after `since` for services, and nobody has dealt with, by service.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn died(conn: &Conn, since: Timestamp) -> Result<Vec<Dead>, DbError> {
    conn.rows(DIED, &[&COUNTED_MAX, &since]).await?.iter().map(dead).collect()
}

/// When the oldest message was written that has not left by that lane.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn oldest_unsent(conn: &Conn, lane: Lane) -> Result<Option<Timestamp>, DbError> {
    let row = conn.row(OLDEST_UNSENT, &[&lane.name()]).await?;
    Ok(row.map(|row| row.try_get("created_at")).transpose()?.flatten())
}

/// Whether any alarm is open.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn any_open(conn: &Conn) -> Result<bool, DbError> {
    match conn.row(ANY_OPEN, &[]).await? {
        Some(row) => Ok(row.try_get("found")?),
        None => Ok(false),
    }
}

/// Keeps others from writing alarms until the transaction ends.
///
/// # Errors
/// When PostgreSQL is away, or somebody holds it for too long.
pub async fn lock(tx: &Conn) -> Result<(), DbError> {
    tx.rows(LOCK, &[]).await.map(drop)
}

/// Opens alarms, each with its id and since when it is bad; says which of them nobody had opened.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn open(
    tx: &Conn,
    seen: &[(AlarmId, &Sighting, Timestamp)],
    process: &str,
    now: Timestamp,
) -> Result<Vec<Alarm>, DbError> {
    let ids: Vec<Uuid> = seen.iter().map(|(id, ..)| id.0).collect();
    let kinds: Vec<&str> = seen.iter().map(|(_, one, _)| one.kind.name()).collect();
    let subjects: Vec<&str> = seen.iter().map(|(_, one, _)| one.subject.as_str()).collect();
    let since: Vec<Timestamp> = seen.iter().map(|(.., since)| *since).collect();
    let details: Vec<Value> = seen.iter().map(|(_, one, _)| detail(one)).collect();
    let rows = tx.rows(OPEN, &[&now, &process, &ids, &kinds, &subjects, &since, &details]).await?;
    alarms(&rows)
}

/// Notes that alarms, if they are open, were seen.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn touch(
    tx: &Conn,
    seen: &[&Sighting],
    process: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let kinds: Vec<&str> = seen.iter().map(|one| one.kind.name()).collect();
    let subjects: Vec<&str> = seen.iter().map(|one| one.subject.as_str()).collect();
    let details: Vec<Value> = seen.iter().map(|one| detail(one)).collect();
    tx.run(TOUCH, &[&now, &process, &kinds, &subjects, &details]).await.map(drop)
}

/// Closes alarms that nobody has seen since then; says which.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn close(
    tx: &Conn,
    unseen_since: Timestamp,
    now: Timestamp,
) -> Result<Vec<Alarm>, DbError> {
    alarms(&tx.rows(CLOSE, &[&now, &unseen_since]).await?)
}

/// All that are open if people were told of one of them then or earlier; they count as told now.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn remind(
    tx: &Conn,
    told_before: Timestamp,
    now: Timestamp,
) -> Result<Vec<Alarm>, DbError> {
    alarms(&tx.rows(REMIND, &[&now, &told_before]).await?)
}

/// Who runs the instance.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn admins(conn: &Conn) -> Result<Vec<UserId>, DbError> {
    let rows = conn.rows(ADMINS, &[&ADMINS_MAX]).await?;
    rows.iter().map(|row| Ok(UserId(row.try_get("id")?))).collect()
}

/// Alarms, the newest first, after (that is, older than) the one named; those that are (not) open
/// and of that kind, if it is said.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    conn: &Conn,
    is_open: Option<bool>,
    kind: Option<AlarmKind>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Alarm>, DbError> {
    let kind = kind.map(AlarmKind::name);
    alarms(&conn.rows(LIST, &[&is_open, &kind, &after, &limit]).await?)
}

/// Forgets up to `limit` alarms that were over before `before`.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prune(conn: &Conn, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    conn.run(PRUNE, &[&before, &limit]).await
}

fn dead(row: &Row) -> Result<Dead, DbError> {
    let letters: i64 = row.try_get("letters")?;
    let count = u64::try_from(letters).unwrap_or(0);
    Ok(Dead { what: row.try_get("what")?, count, reason: row.try_get("reason")? })
}

fn detail(one: &Sighting) -> Value {
    json!({ "value": one.value, "limit": one.limit, "note": one.note })
}

/// Of kinds that a newer version knows, this one cannot tell anything.
fn alarms(rows: &[Row]) -> Result<Vec<Alarm>, DbError> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(kind) = AlarmKind::parse(row.try_get("kind")?) else { continue };
        let detail: Value = row.try_get("detail")?;
        let number = |name: &str| detail.get(name).and_then(Value::as_u64).unwrap_or(0);
        let note = detail.get("note").and_then(Value::as_str).unwrap_or_default();
        found.push(Alarm {
            id: AlarmId(row.try_get("id")?),
            kind,
            subject: row.try_get("subject")?,
            value: number("value"),
            limit: number("limit"),
            note: note.to_owned(),
            process: row.try_get("process")?,
            opened_at: row.try_get("opened_at")?,
            last_seen_at: row.try_get("last_seen_at")?,
            closed_at: row.try_get("closed_at")?,
        });
    }
    Ok(found)
}
