//! What each service has done with each message (S1.14 to S1.20). A claim is one statement: of
//! any number of claimers of a message one gets the row, and a crashed one's claim lapses.

use jiff::Timestamp;

use super::{Conn, DbError, Statements as _};
use crate::domain::processing::{ProcessingStatus, ServiceContext};

/// Sorted, so that two claimers of the same messages wait for each other instead of deadlocking.
/// New, failed and due, or left behind by a claimer whose lease is over; never what is final.
const CLAIM: &str = "INSERT INTO processed_events AS p
    (streamName, revision, serviceContext, processingStatus, processedAt, lease_until)
    SELECT k.stream, k.revision, $3, 'processing', $4, $5
    FROM unnest($1::text[], $2::text[]) AS k (stream, revision) ORDER BY 1, 2
    ON CONFLICT (streamName, revision, serviceContext) DO UPDATE
    SET processingStatus = 'processing', processedAt = $4, lease_until = $5,
        fence = p.fence + 1, attempts = p.attempts + 1, next_attempt_at = NULL
    WHERE (p.processingStatus = 'failed' AND p.dead_at IS NULL
           AND (p.next_attempt_at IS NULL OR p.next_attempt_at <= $4))
       OR (p.processingStatus = 'processing'
           AND (p.lease_until IS NULL OR p.lease_until <= $4))
    RETURNING streamName, revision, fence, attempts";
const FIND: &str = "SELECT p.streamName, p.revision, p.processingStatus, p.fence, p.attempts,
        p.dead_at, p.lease_until, p.next_attempt_at, p.last_error
    FROM unnest($1::text[], $2::text[]) AS k (stream, revision)
    JOIN processed_events p
      ON p.streamName = k.stream AND p.revision = k.revision AND p.serviceContext = $3";
const FINISH: &str = "UPDATE processed_events p
    SET processingStatus = f.status, processedAt = $4, lease_until = NULL,
        last_error = f.error, next_attempt_at = f.next_attempt_at, dead_at = f.dead_at
    FROM unnest($1::text[], $2::text[], $5::bigint[], $6::text[], $7::text[],
                $8::timestamptz[], $9::timestamptz[])
         AS f (stream, revision, fence, status, error, next_attempt_at, dead_at)
    WHERE p.streamName = f.stream AND p.revision = f.revision AND p.serviceContext = $3
      AND p.fence = f.fence AND p.processingStatus = 'processing'";
const RESET: &str = "UPDATE processed_events
    SET processingStatus = 'failed', attempts = 0, fence = fence + 1, lease_until = NULL,
        next_attempt_at = NULL, dead_at = NULL
    WHERE streamName = ANY ($1) AND revision = $2 AND serviceContext = $3
      AND processingStatus NOT IN ('processed', 'skipped')";
const STATS: &str = "SELECT serviceContext, processingStatus, count(*) AS messages,
        count(dead_at) AS dead
    FROM processed_events WHERE $1::text IS NULL OR serviceContext = $1
    GROUP BY serviceContext, processingStatus ORDER BY serviceContext, processingStatus";
const PRUNE: &str = "DELETE FROM processed_events WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM processed_events
    WHERE processedAt < $1 AND ($2::text IS NULL OR serviceContext = $2)
      AND (processingStatus IN ('processed', 'skipped') OR dead_at IS NOT NULL)
    LIMIT $3))";

/// Which message of which stream (S1.6, S1.7).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// At most 500 characters.
    pub stream: String,
    /// At most 50 characters.
    pub revision: String,
}

/// A claim that was won.
#[derive(Clone, Debug)]
pub struct Claim {
    /// On which message.
    pub key: Key,
    /// The claim's number: who comes with an older one is not listened to.
    pub fence: i64,
    /// Which attempt this is, the first being 1.
    pub attempts: i32,
}

/// What is known of a message.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which message.
    pub key: Key,
    /// How far it is.
    pub status: ProcessingStatus,
    /// The number of the last claim.
    pub fence: i64,
    /// How often it was tried.
    pub attempts: i32,
    /// When it was given up, if it was.
    pub dead_at: Option<Timestamp>,
    /// Until when somebody works on it.
    pub lease_until: Option<Timestamp>,
    /// When it is due again.
    pub next_attempt_at: Option<Timestamp>,
    /// Why it failed last or was skipped.
    pub last_error: Option<String>,
}

/// The end of a claim.
#[derive(Clone, Debug)]
pub struct Finish {
    /// On which message.
    pub key: Key,
    /// The claim's number.
    pub fence: i64,
    /// How it ended.
    pub status: ProcessingStatus,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// When a failed one is due again.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was given up, if it was.
    pub dead_at: Option<Timestamp>,
}

/// How many messages of a service are how far.
#[derive(Clone, Debug)]
pub struct Count {
    /// The service, as stored: other programs may write here too.
    pub service: String,
    /// How far.
    pub status: ProcessingStatus,
    /// How many.
    pub messages: i64,
    /// How many of them were given up.
    pub dead: i64,
}

/// Prepares the statements of [`claim`] and [`finish`] for those who run them in a flight.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prepare(conn: &Conn) -> Result<(), DbError> {
    conn.prepare_cached(CLAIM).await?;
    conn.prepare_cached(FINISH).await?;
    Ok(())
}

/// Claims messages for a service until `lease_until`, and answers the claims that were won. The
/// others are final, leased by somebody else, or not due yet. Keys must differ.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn claim(
    conn: &Conn,
    service: ServiceContext,
    keys: &[&Key],
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Vec<Claim>, DbError> {
    let (streams, revisions) = columns(keys);
    let rows =
        conn.rows(CLAIM, &[&streams, &revisions, &service.name(), &now, &lease_until]).await?;
    rows.iter()
        .map(|row| {
            Ok(Claim {
                key: key(row)?,
                fence: row.try_get("fence")?,
                attempts: row.try_get("attempts")?,
            })
        })
        .collect()
}

/// What a service knows of messages; those it has never seen are left out.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn find(
    conn: &Conn,
    service: ServiceContext,
    keys: &[&Key],
) -> Result<Vec<Entry>, DbError> {
    let (streams, revisions) = columns(keys);
    let rows = conn.rows(FIND, &[&streams, &revisions, &service.name()]).await?;
    rows.iter()
        .map(|row| {
            Ok(Entry {
                key: key(row)?,
                status: status(row)?,
                fence: row.try_get("fence")?,
                attempts: row.try_get("attempts")?,
                dead_at: row.try_get("dead_at")?,
                lease_until: row.try_get("lease_until")?,
                next_attempt_at: row.try_get("next_attempt_at")?,
                last_error: row.try_get("last_error")?,
            })
        })
        .collect()
}

/// Ends claims, those that are still the claimer's, and says how many that were.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn finish(
    conn: &Conn,
    service: ServiceContext,
    ends: &[Finish],
    now: Timestamp,
) -> Result<u64, DbError> {
    let keys: Vec<&Key> = ends.iter().map(|end| &end.key).collect();
    let (streams, revisions) = columns(&keys);
    let fences: Vec<i64> = ends.iter().map(|end| end.fence).collect();
    let statuses: Vec<&str> = ends.iter().map(|end| end.status.name()).collect();
    let errors: Vec<Option<&str>> = ends.iter().map(|end| end.error.as_deref()).collect();
    let next: Vec<_> = ends.iter().map(|end| end.next_attempt_at).collect();
    let dead: Vec<_> = ends.iter().map(|end| end.dead_at).collect();
    conn.run(
        FINISH,
        &[&streams, &revisions, &service.name(), &now, &fences, &statuses, &errors, &next, &dead],
    )
    .await
}

/// Lets a message that was given up be tried again from the start; what is final stays final.
/// `service` is as stored.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn reset(
    conn: &Conn,
    service: &str,
    streams: &[String],
    revision: &str,
) -> Result<(), DbError> {
    conn.run(RESET, &[&streams, &revision, &service]).await.map(drop)
}

/// Counts by service and status.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn stats(conn: &Conn, service: Option<ServiceContext>) -> Result<Vec<Count>, DbError> {
    let service = service.map(ServiceContext::name);
    let rows = conn.rows(STATS, &[&service]).await?;
    rows.iter()
        .map(|row| {
            Ok(Count {
                service: row.try_get("servicecontext")?,
                status: status(row)?,
                messages: row.try_get("messages")?,
                dead: row.try_get("dead")?,
            })
        })
        .collect()
}

/// Forgets up to `limit` messages that were done with before `before`.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prune(
    conn: &Conn,
    before: Timestamp,
    service: Option<ServiceContext>,
    limit: i64,
) -> Result<u64, DbError> {
    conn.run(PRUNE, &[&before, &service.map(ServiceContext::name), &limit]).await
}

fn columns<'a>(keys: &[&'a Key]) -> (Vec<&'a str>, Vec<&'a str>) {
    keys.iter().map(|key| (key.stream.as_str(), key.revision.as_str())).unzip()
}

fn key(row: &tokio_postgres::Row) -> Result<Key, DbError> {
    Ok(Key { stream: row.try_get("streamname")?, revision: row.try_get("revision")? })
}

fn status(row: &tokio_postgres::Row) -> Result<ProcessingStatus, DbError> {
    let name: &str = row.try_get("processingstatus")?;
    ProcessingStatus::parse(name).ok_or_else(|| DbError::Corrupt {
        table: "processed_events",
        column: "processingStatus",
        value: name.to_owned(),
    })
}
