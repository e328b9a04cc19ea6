//! What each service has done with each message (S1.14 to S1.20). A claim is one statement: of
//! any number of claimers of a message one gets the row, and a crashed one's claim lapses.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Conn, DbError, Statements as _};
use crate::domain::processing::{ProcessingStatus, ServiceContext, kind_of};

/// New, failed and due, or left behind by a claimer whose lease is over; never what is final.
const CLAIM: &str = "INSERT INTO processed_events AS p
    (streamName, revision, serviceContext, processingStatus, processedAt, lease_until)
    VALUES ($1, $2, $3, 'processing', $4, $5)
    ON CONFLICT (streamName, revision, serviceContext) DO UPDATE
    SET processingStatus = 'processing', processedAt = $4, lease_until = $5,
        fence = p.fence + 1, attempts = p.attempts + 1, next_attempt_at = NULL
    WHERE (p.processingStatus = 'failed' AND p.dead_at IS NULL
           AND (p.next_attempt_at IS NULL OR p.next_attempt_at <= $4))
       OR (p.processingStatus = 'processing'
           AND (p.lease_until IS NULL OR p.lease_until <= $4))
    RETURNING fence, attempts";
/// LIMIT keeps it a look-up for each key, whatever the planner believes of a table that was empty
/// when it planned.
const FIND: &str = "SELECT p.streamName, p.revision, p.processingStatus, p.fence, p.attempts,
        p.dead_at, p.lease_until, p.next_attempt_at, p.last_error
    FROM unnest($1::text[], $2::text[]) AS k (stream, revision)
    CROSS JOIN LATERAL (SELECT * FROM processed_events e
        WHERE e.streamName = k.stream AND e.revision = k.revision AND e.serviceContext = $3
        LIMIT 1) p";
/// A claim as above, ended with the statement that makes it: for work that is committed with it.
/// Sorted, so that two that deal with the same messages wait for each other instead of
/// deadlocking.
const SETTLE: &str = "WITH ended AS (
        INSERT INTO processed_events AS p
        (streamName, revision, serviceContext, processingStatus, processedAt, last_error, dead_at,
         partition_key)
        SELECT k.stream, k.revision, $1, k.status, $2, k.error, k.dead_at, k.partition_key
        FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[])
             AS k (stream, revision, status, error, dead_at, partition_key) ORDER BY 1, 2
        ON CONFLICT (streamName, revision, serviceContext) DO UPDATE
        SET processingStatus = EXCLUDED.processingStatus, processedAt = $2, lease_until = NULL,
            fence = p.fence + 1, attempts = p.attempts + 1, next_attempt_at = NULL,
            last_error = EXCLUDED.last_error, dead_at = EXCLUDED.dead_at
        WHERE (p.processingStatus = 'failed' AND p.dead_at IS NULL
               AND (p.next_attempt_at IS NULL OR p.next_attempt_at <= $2))
           OR (p.processingStatus = 'processing'
               AND (p.lease_until IS NULL OR p.lease_until <= $2))
        RETURNING streamName, revision, processingStatus, last_error),
    logged AS (
        INSERT INTO message_log (at, action, message_id, type, service, detail)
        SELECT $2, e.processingStatus, e.revision, k.type, $1, e.last_error
        FROM ended e JOIN unnest($9::text[], $10::text[]) AS k (stream, type)
          ON e.streamName = k.stream)
    SELECT streamName, revision FROM ended";
/// The log's line is of the same transaction: nobody has seen it yet.
const SKIP: &str = "WITH skipped AS (
        UPDATE processed_events p SET processingStatus = 'skipped', last_error = k.why
        FROM unnest($2::text[], $3::text[], $4::text[]) AS k (stream, revision, why)
        WHERE p.streamName = k.stream AND p.revision = k.revision AND p.serviceContext = $1
        RETURNING p.revision, p.processedAt, p.last_error)
    UPDATE message_log l SET action = 'skipped', detail = s.last_error FROM skipped s
    WHERE l.message_id = s.revision AND l.at = s.processedAt AND l.service = $1";
/// Those that wait for their next attempt, by what their order is kept by. The index is empty
/// unless something is wrong. One that nobody has seen for long is not coming.
const WAITING: &str = "SELECT partition_key, revision, next_attempt_at FROM processed_events
    WHERE serviceContext = $1 AND partition_key = ANY ($2)
      AND processingStatus = 'failed' AND dead_at IS NULL AND partition_key IS NOT NULL
      AND greatest(processedAt, next_attempt_at) > $3";
/// Whoever waits for another one is waited for by those behind. That is no attempt.
const HOLD: &str = "INSERT INTO processed_events AS p
    (streamName, revision, serviceContext, processingStatus, processedAt, last_error,
     next_attempt_at, partition_key, attempts, fence)
    SELECT k.stream, k.revision, $1, 'failed', $2, 'waits for one before it', k.due, k.key, 0, 0
    FROM unnest($3::text[], $4::text[], $5::timestamptz[], $6::text[])
         AS k (stream, revision, due, key) ORDER BY 1, 2
    ON CONFLICT (streamName, revision, serviceContext) DO UPDATE
    SET processedAt = $2, next_attempt_at = EXCLUDED.next_attempt_at
    WHERE p.processingStatus = 'failed' AND p.attempts = 0 AND p.dead_at IS NULL";
const KEYED: &str = "UPDATE processed_events SET partition_key = $5
    WHERE streamName = $1 AND revision = $2 AND serviceContext = $3 AND fence = $4";
const FINISH: &str = "WITH ended AS (
        UPDATE processed_events
        SET processingStatus = $5, processedAt = $6, lease_until = NULL, last_error = $7,
            next_attempt_at = $8, dead_at = $9
        WHERE streamName = $1 AND revision = $2 AND serviceContext = $3 AND fence = $4
          AND processingStatus = 'processing'
        RETURNING revision)
    INSERT INTO message_log (at, action, message_id, type, service, detail)
    SELECT $6, $5, revision, $10::text, $3, $7 FROM ended";
const RESET: &str = "UPDATE processed_events p
    SET processingStatus = 'failed', attempts = 0, fence = p.fence + 1, lease_until = NULL,
        next_attempt_at = NULL, dead_at = NULL
    FROM unnest($1::text[], $2::text[], $3::text[]) AS k (stream, revision, service)
    WHERE p.streamName = k.stream AND p.revision = k.revision AND p.serviceContext = k.service
      AND p.processingStatus NOT IN ('processed', 'skipped')";
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

/// The end of a message whose effects are written in the same transaction.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Which message.
    pub key: Key,
    /// How it ends if the claim is won.
    pub status: ProcessingStatus,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was given up, if it was.
    pub dead_at: Option<Timestamp>,
    /// By which its order is kept.
    pub partition_key: Option<String>,
}

/// A message that waits for its next attempt, and others of its partition key with it.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Their key.
    pub partition_key: String,
    /// The message.
    pub revision: String,
    /// When it is due.
    pub next_attempt_at: Option<Timestamp>,
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

/// Claims a message for a service until `lease_until`; `None` when it is final, leased by somebody
/// else, or not due yet.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn claim(
    conn: &Conn,
    service: ServiceContext,
    key: &Key,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Option<Claim>, DbError> {
    let row =
        conn.row(CLAIM, &[&key.stream, &key.revision, &service.name(), &now, &lease_until]).await?;
    row.map(|row| {
        Ok(Claim {
            key: key.clone(),
            fence: row.try_get("fence")?,
            attempts: row.try_get("attempts")?,
        })
    })
    .transpose()
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
    let streams: Vec<&str> = keys.iter().map(|key| key.stream.as_str()).collect();
    let revisions: Vec<&str> = keys.iter().map(|key| key.revision.as_str()).collect();
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

/// Ends a claim, and says whether it still was the claimer's.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn finish(
    conn: &Conn,
    service: ServiceContext,
    end: &Finish,
    now: Timestamp,
) -> Result<bool, DbError> {
    let Finish { key, fence, status, error, next_attempt_at, dead_at } = end;
    let (service, status) = (service.name(), status.name());
    let Key { stream, revision } = key;
    let ended = conn
        .run(
            FINISH,
            &[
                stream,
                revision,
                &service,
                fence,
                &status,
                &now,
                error,
                next_attempt_at,
                dead_at,
                &kind_of(stream),
            ],
        )
        .await?;
    Ok(ended > 0)
}

/// Claims messages and ends the claims at once; the caller's transaction commits that together
/// with their effects. Says which claims were won.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn settle(
    conn: &Conn,
    service: ServiceContext,
    endings: &[Ending],
    now: Timestamp,
) -> Result<Vec<Key>, DbError> {
    let streams: Vec<&str> = endings.iter().map(|end| end.key.stream.as_str()).collect();
    let revisions: Vec<&str> = endings.iter().map(|end| end.key.revision.as_str()).collect();
    let statuses: Vec<&str> = endings.iter().map(|end| end.status.name()).collect();
    let errors: Vec<Option<&str>> = endings.iter().map(|end| end.error.as_deref()).collect();
    let dead: Vec<_> = endings.iter().map(|end| end.dead_at).collect();
    let keys: Vec<Option<&str>> = endings.iter().map(|end| end.partition_key.as_deref()).collect();
    let (named, types) = types(&streams);
    let service = service.name();
    let rows = conn
        .rows(
            SETTLE,
            &[
                &service, &now, &streams, &revisions, &statuses, &errors, &dead, &keys, &named,
                &types,
            ],
        )
        .await?;
    rows.iter().map(key).collect()
}

/// The streams among these, each once, and their types: they are few, and those who look up by key
/// compare each row with each of them.
pub(super) fn types<'a>(streams: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    let named: BTreeSet<&str> = streams.iter().copied().collect();
    named.into_iter().map(|stream| (stream, kind_of(stream))).unzip()
}

/// Notes that there was nothing to do for messages that were settled in this transaction.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn skip(
    conn: &Conn,
    service: ServiceContext,
    skipped: &[(Key, &'static str)],
) -> Result<(), DbError> {
    let streams: Vec<&str> = skipped.iter().map(|(key, _)| key.stream.as_str()).collect();
    let revisions: Vec<&str> = skipped.iter().map(|(key, _)| key.revision.as_str()).collect();
    let reasons: Vec<&str> = skipped.iter().map(|(_, why)| *why).collect();
    conn.run(SKIP, &[&service.name(), &streams, &revisions, &reasons]).await.map(drop)
}

/// The messages with these partition keys that wait for their next attempt, those that were heard
/// of, or are due, after `since`.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn waiting(
    conn: &Conn,
    service: ServiceContext,
    partition_keys: &[&str],
    since: Timestamp,
) -> Result<Vec<Waiting>, DbError> {
    let rows = conn.rows(WAITING, &[&service.name(), &partition_keys, &since]).await?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                partition_key: row.try_get("partition_key")?,
                revision: row.try_get("revision")?,
                next_attempt_at: row.try_get("next_attempt_at")?,
            })
        })
        .collect()
}

/// Notes that messages wait for others of their partition key, each until when. It counts against
/// none of them.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn hold(
    conn: &Conn,
    service: ServiceContext,
    held: &[(Key, String, Timestamp)],
    now: Timestamp,
) -> Result<(), DbError> {
    let streams: Vec<&str> = held.iter().map(|(key, _, _)| key.stream.as_str()).collect();
    let revisions: Vec<&str> = held.iter().map(|(key, _, _)| key.revision.as_str()).collect();
    let due: Vec<Timestamp> = held.iter().map(|(_, _, due)| *due).collect();
    let keys: Vec<&str> = held.iter().map(|(_, key, _)| key.as_str()).collect();
    conn.run(HOLD, &[&service.name(), &now, &streams, &revisions, &due, &keys]).await.map(drop)
}

/// Notes by which the order of a claimed message is kept.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn keep_order(
    conn: &Conn,
    service: ServiceContext,
    claim: &Claim,
    partition_key: &str,
) -> Result<(), DbError> {
    let Claim { key: Key { stream, revision }, fence, .. } = claim;
    conn.run(KEYED, &[stream, revision, &service.name(), fence, &partition_key]).await.map(drop)
}

/// Lets messages that were given up be tried again from the start; what is final stays final.
/// Each comes with its service, as stored.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn reset(conn: &Conn, given_up: &[(Key, &str)]) -> Result<(), DbError> {
    let streams: Vec<&str> = given_up.iter().map(|(key, _)| key.stream.as_str()).collect();
    let revisions: Vec<&str> = given_up.iter().map(|(key, _)| key.revision.as_str()).collect();
    let services: Vec<&str> = given_up.iter().map(|(_, service)| *service).collect();
    conn.run(RESET, &[&streams, &revisions, &services]).await.map(drop)
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
