//! What a load run needs of the database beside the API: people without passwords, how far the
//! messages have got, and a long past to sell seats on top of.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};

const INSERT_PEOPLE: &str = "
    INSERT INTO users (id, email, name, password_hash, created_at, updated_at)
    SELECT id, 'hammer-' || id || '@hammer.invalid', 'Hammer', '', now(), now()
      FROM unnest($1::uuid[]) AS id";

const NOTICES: &str = "
    SELECT booking_id, type, count(*)
      FROM notifications
     WHERE event_id = ANY ($1) AND booking_id IS NOT NULL
     GROUP BY booking_id, type";

const PROGRESS: &str = "
    SELECT (SELECT count(*) FROM outbox),
           (SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL),
           (SELECT count(*) FROM notifications)";

const SOLD: &str = "
    SELECT count(*), coalesce(sum(seats), 0)
      FROM bookings
     WHERE event_id = $1 AND status = 'confirmed'";

/// Interests of so many people in 100 events, as they wait for the bus.
const FILL_OUTBOX: &str = "
    INSERT INTO bus_outbox (id, aggregate_id, type, payload, correlation_id, created_at)
    SELECT gen_random_uuid(), e.id, 'interest.changed',
           json_build_object('eventId', e.id, 'userId', gen_random_uuid(), 'state', 'sure',
                             'previous', NULL, 'privacy', 'public', 'version', 1),
           'bench', now()
      FROM generate_series(1, $1::bigint) AS n
      JOIN (SELECT row_number() OVER () AS i, gen_random_uuid() AS id
              FROM generate_series(1, 100)) AS e ON e.i = n % 100 + 1";

const CREATE_EFFECTS: &str = "
    CREATE TABLE bench_effects (message uuid PRIMARY KEY, subject text NOT NULL, at timestamptz)";

const WRITE_EFFECTS: &str = "
    INSERT INTO bench_effects (message, subject, at)
    SELECT m.id, m.subject, $3 FROM unnest($1::uuid[], $2::text[]) AS m (id, subject)";

const COUNT_EFFECTS: &str = "SELECT count(*) FROM bench_effects";

/// Cancelled bookings of an event, spread over the year before now.
const INSERT_PAST: &str = "
    INSERT INTO bookings (id, event_id, user_id, status, seats, cancelled_seats,
                          created_at, updated_at)
    SELECT gen_random_uuid(), $1, gen_random_uuid(), 'cancelled', 1, 1, at, at
      FROM generate_series(1, $2::bigint) AS n,
           LATERAL (SELECT now() - interval '1 year' * random()) AS past (at)";

/// Databases of earlier rehearsals that nobody uses any more.
const FORGOTTEN: &str = "
    SELECT datname::text
      FROM pg_database
     WHERE starts_with(datname::text, $1)
       AND NOT EXISTS (
           SELECT FROM pg_stat_activity AS busy WHERE busy.datname = pg_database.datname)";

/// How far the messages have got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows in the outbox.
    pub written: i64,
    /// Of them confirmed by the broker.
    pub sent: i64,
    /// Rows in the in-app inbox.
    pub notified: i64,
}

/// Inserts people who can never sign in: their password hash matches nothing.
pub async fn insert_people(conn: &Conn, ids: &[Uuid]) -> Result<u64, DbError> {
    conn.run(INSERT_PEOPLE, &[&ids]).await
}

/// How often each booking's people were told of what: (booking, type, count).
pub async fn notices(conn: &Conn, events: &[Uuid]) -> Result<Vec<(Uuid, String, u32)>, DbError> {
    let rows = conn.rows(NOTICES, &[&events]).await?;
    rows.iter()
        .map(|row| {
            let count: i64 = row.try_get(2)?;
            Ok((row.try_get(0)?, row.try_get(1)?, u32::try_from(count).unwrap_or(u32::MAX)))
        })
        .collect()
}

/// How far the messages have got.
pub async fn progress(conn: &Conn) -> Result<Progress, DbError> {
    let Some(row) = conn.row(PROGRESS, &[]).await? else { return Ok(Progress::default()) };
    Ok(Progress { written: row.try_get(0)?, sent: row.try_get(1)?, notified: row.try_get(2)? })
}

/// Confirmed bookings of an event, and their seats.
pub async fn sold(conn: &Conn, event: Uuid) -> Result<(i64, i64), DbError> {
    let Some(row) = conn.row(SOLD, &[&event]).await? else { return Ok((0, 0)) };
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Gives an event `count` cancelled bookings.
pub async fn insert_past(conn: &Conn, event: Uuid, count: i64) -> Result<u64, DbError> {
    conn.run(INSERT_PAST, &[&event, &count]).await
}

/// Makes a database. `name` must be a plain identifier of ours.
pub async fn create_database(conn: &Conn, name: &str) -> Result<(), DbError> {
    Ok(conn.batch_execute(&format!("CREATE DATABASE {name}")).await?)
}

/// Removes a database and throws out who uses it. `name` must be a plain identifier of ours.
pub async fn drop_database(conn: &Conn, name: &str) -> Result<(), DbError> {
    Ok(conn.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?)
}

/// Databases whose names start with `prefix` and that nobody uses.
pub async fn forgotten_databases(conn: &Conn, prefix: &str) -> Result<Vec<String>, DbError> {
    let rows = conn.rows(FORGOTTEN, &[&prefix]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Writes out what is dirty, so that the next run does not pay for the last one. Only a superuser
/// may; for others it is left out.
pub async fn checkpoint(conn: &Conn) {
    if let Err(error) = conn.batch_execute("CHECKPOINT").await {
        tracing::debug!(%error, "no checkpoint before the run");
    }
}

/// Does now what autovacuum would do in the middle of a run.
pub async fn vacuum(conn: &Conn) -> Result<(), DbError> {
    Ok(conn.batch_execute("VACUUM (ANALYZE) bookings").await?)
}

/// Puts so many messages of the bus into the outbox.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn fill_outbox(conn: &Conn, count: i64) -> Result<u64, DbError> {
    conn.run(FILL_OUTBOX, &[&count]).await
}

/// Makes a table for what messages come to.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn create_effects(conn: &Conn) -> Result<(), DbError> {
    Ok(conn.batch_execute(CREATE_EFFECTS).await?)
}

/// What messages come to: a row each.
///
/// # Errors
/// When PostgreSQL is away, or one comes to it twice.
pub async fn write_effects(
    conn: &Conn,
    messages: &[Uuid],
    subjects: &[&str],
    now: Timestamp,
) -> Result<u64, DbError> {
    conn.run(WRITE_EFFECTS, &[&messages, &subjects, &now]).await
}

/// How many rows there are.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn count_effects(conn: &Conn) -> Result<i64, DbError> {
    Ok(conn.row(COUNT_EFFECTS, &[]).await?.map_or(Ok(0), |row| row.try_get(0))?)
}

/// The rows that consuming these messages writes, inserted as `psql` would from a file.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn insert_plainly(
    conn: &Conn,
    messages: &[Uuid],
    subject: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let all =
        |row: &dyn Fn(&Uuid) -> String| messages.iter().map(row).collect::<Vec<_>>().join(",");
    let claims = all(&|id| {
        format!(
            "('$et-happening.interest.changed.v1','{id}','plain','processed','{now}','{subject}')"
        )
    });
    let log = all(&|id| format!("('{now}','processed','{id}','interest.changed','plain')"));
    let effects = all(&|id| format!("('{id}','{subject}','{now}')"));
    let text = format!(
        "BEGIN;
        INSERT INTO processed_events (streamName, revision, serviceContext, processingStatus,
            processedAt, partition_key) VALUES {claims};
        INSERT INTO message_log (at, action, message_id, type, service) VALUES {log};
        INSERT INTO bench_effects (message, subject, at) VALUES {effects};
        COMMIT"
    );
    Ok(conn.batch_execute(&text).await?)
}
