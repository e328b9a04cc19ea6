//! Messages on their way out. A fact is written here in the transaction of its cause; the relay
//! claims it by lease and fence, publishes it and marks it sent, so nothing is lost between. What
//! is for the bus goes to a log of its own (`bus_outbox.rs`).

mod payload;

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

pub use self::payload::payload;
use super::{Conn, Db, DbError, Statements as _, bus_outbox, sent};
use crate::domain::fact::Fact;
use crate::domain::ids::MessageId;
use crate::domain::message::Lane;

/// Identity values follow the arrays' order, so within an aggregate `seq` is the order of facts.
const INSERT: &str = "INSERT INTO outbox
    (id, aggregate_id, type, schema_version, payload, correlation_id, traceparent, created_at)
    SELECT m.id, m.aggregate_id, m.type, m.schema_version, m.payload::json, m.correlation_id,
           m.traceparent, m.created_at
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::text[], $6::text[],
                $7::text[], $8::timestamptz[])
         AS m (id, aggregate_id, type, schema_version, payload, correlation_id, traceparent,
               created_at)";

/// Nobody waits for the disk: what a crash of PostgreSQL makes it forget of claims and of what was
/// sent (the last moments) is done again, and consumers know what they have had.
pub(super) const LAZILY: &str = "SET LOCAL synchronous_commit = off;";
/// Two relays that claim at once do not see each other's leases, so one could overtake the other
/// within an aggregate: claims take turns (by any number that nobody else uses for advisory locks
/// in this database), and each begins after the one before is committed. The settings keep the
/// planner, whose statistics lag behind a burst, to the partial indexes: with a sort or a hash
/// each claim would read the whole backlog.
const BEFORE_CLAIM: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
    SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
    SELECT pg_advisory_xact_lock(x'4f5554424f58'::bigint)";

/// Due rows in their order; not those whose aggregate has an earlier one that is leased or waits
/// for its retry. `seq > 0` and `seq + 0` leave each of the two scans one index to take, see the
/// migration; a scalar subquery, unlike NOT EXISTS, is never turned into a join that reads all:
/// 20 ms instead of 6 s for 500 of 20,000.
const CLAIM: &str = "WITH due AS MATERIALIZED (
        SELECT o.seq FROM outbox o
        WHERE o.lane = 'mail' AND o.sent_at IS NULL AND o.dead_at IS NULL AND o.seq > 0
          AND (o.lease_until IS NULL OR o.lease_until <= $1)
          AND (o.next_attempt_at IS NULL OR o.next_attempt_at <= $1)
          AND (SELECT true FROM outbox e
              WHERE e.lane = 'mail' AND e.aggregate_id = o.aggregate_id AND e.seq + 0 < o.seq
                AND e.sent_at IS NULL AND e.dead_at IS NULL
                AND (e.lease_until IS NOT NULL OR e.next_attempt_at IS NOT NULL)
                AND (e.lease_until > $1 OR e.next_attempt_at > $1) LIMIT 1) IS NULL
        ORDER BY o.seq LIMIT $2 FOR UPDATE OF o SKIP LOCKED)
    UPDATE outbox o SET lease_until = $3, fence = o.fence + 1 FROM due WHERE o.seq = due.seq
    RETURNING o.seq, o.id, o.aggregate_id, o.type, o.payload::text AS payload, o.correlation_id,
              o.traceparent, o.created_at, o.fence, o.attempts, o.schema_version";
const MARK_SENT: &str = "WITH sent AS (
        UPDATE outbox o SET sent_at = $3, lease_until = NULL, position = m.position
        FROM unnest($1::bigint[], $2::bigint[], $4::text[]) AS m (seq, fence, position)
        WHERE o.seq = m.seq AND o.fence = m.fence AND o.sent_at IS NULL
        RETURNING o.id, o.type, o.lane, o.correlation_id, o.position)
    INSERT INTO message_log (at, action, message_id, type, service, correlation_id, detail)
    SELECT $3, 'published', id, type, lane, correlation_id, position FROM sent";
const RELEASE: &str = "UPDATE outbox o SET lease_until = NULL, next_attempt_at = $3
    FROM unnest($1::bigint[], $2::bigint[]) AS m (seq, fence)
    WHERE o.seq = m.seq AND o.fence = m.fence AND o.sent_at IS NULL";
const FAIL: &str = "WITH failed AS (
        UPDATE outbox o SET attempts = o.attempts + 1, lease_until = NULL, last_error = m.error,
            next_attempt_at = m.next_attempt_at, dead_at = m.dead_at, failed_at = $6
        FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[])
             AS m (seq, fence, error, next_attempt_at, dead_at)
        WHERE o.seq = m.seq AND o.fence = m.fence AND o.sent_at IS NULL
        RETURNING o.seq, o.id, o.type, o.lane, o.correlation_id, o.last_error),
    logged AS (
        INSERT INTO message_log (at, action, message_id, type, service, correlation_id, detail)
        SELECT $6, 'refused', id, type, lane, correlation_id, last_error FROM failed)
    SELECT seq FROM failed";
const HURRY: &str = "UPDATE outbox SET next_attempt_at = NULL
    WHERE lane = 'mail' AND sent_at IS NULL AND dead_at IS NULL AND attempts > 0 AND seq > 0
      AND next_attempt_at IS NOT NULL";
const PRUNE: &str = "DELETE FROM outbox WHERE seq = ANY (ARRAY(
    SELECT seq FROM outbox
    WHERE seq <= $3 AND created_at < $1 AND (sent_at < $1 OR dead_at < $1) LIMIT $2))";

/// A fact to be told, and where it came from.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The message's id for good: consumers know it as `revision`.
    pub id: MessageId,
    /// What happened.
    pub fact: Fact,
    /// The id of the request that caused it.
    pub correlation_id: String,
    /// W3C trace context of that request.
    pub traceparent: Option<String>,
    /// When it happened.
    pub created_at: Timestamp,
}

/// A message whose payload is already made.
#[derive(Clone, Debug)]
pub struct RawMessage {
    /// The message's id for good.
    pub id: MessageId,
    /// Order is kept among messages of one aggregate.
    pub aggregate_id: Uuid,
    /// The `type` on the wire.
    pub kind: String,
    /// The version of its type that the payload is of.
    pub schema_version: i32,
    /// JSON text.
    pub payload: String,
    /// The id of the request that caused it.
    pub correlation_id: String,
    /// W3C trace context of that request.
    pub traceparent: Option<String>,
    /// When it happened.
    pub created_at: Timestamp,
    /// By which way it leaves.
    pub lane: Lane,
}

/// Prepares the statement of [`append`], for those who run it in a pipelined flight: there nothing
/// may wait for a preparation.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prepare(conn: &Conn) -> Result<(), DbError> {
    conn.prepare_cached(INSERT).await?;
    Ok(())
}

/// Writes facts in the transaction of their cause, in their order, with one statement.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn append(conn: &Conn, messages: &[NewMessage]) -> Result<(), DbError> {
    if messages.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::with_capacity(messages.len());
    for message in messages {
        columns.ids.push(message.id.0);
        columns.aggregates.push(message.fact.aggregate_id);
        columns.kinds.push(message.fact.kind.name());
        columns.payloads.push(payload(&message.fact));
        columns.correlations.push(&message.correlation_id);
        columns.traces.push(message.traceparent.as_deref());
        columns.created.push(message.created_at);
        columns.versions.push(1);
    }
    columns.insert(conn, INSERT).await
}

/// Writes messages whose payload is already made, each for its way.
///
/// # Errors
/// When PostgreSQL is away, or a payload is not JSON.
pub async fn append_raw(conn: &Conn, messages: &[RawMessage]) -> Result<(), DbError> {
    for (lane, insert) in [(Lane::Mail, INSERT), (Lane::Bus, bus_outbox::INSERT)] {
        let mut columns = Columns::with_capacity(messages.len());
        for message in messages.iter().filter(|message| message.lane == lane) {
            columns.ids.push(message.id.0);
            columns.aggregates.push(message.aggregate_id);
            columns.kinds.push(&message.kind);
            columns.payloads.push(message.payload.clone());
            columns.correlations.push(&message.correlation_id);
            columns.traces.push(message.traceparent.as_deref());
            columns.created.push(message.created_at);
            columns.versions.push(message.schema_version);
        }
        if !columns.ids.is_empty() {
            columns.insert(conn, insert).await?;
        }
    }
    Ok(())
}

/// One array a column: a commit of the booking desk writes hundreds of rows at once.
struct Columns<'a> {
    ids: Vec<Uuid>,
    aggregates: Vec<Uuid>,
    kinds: Vec<&'a str>,
    versions: Vec<i32>,
    payloads: Vec<String>,
    correlations: Vec<&'a str>,
    traces: Vec<Option<&'a str>>,
    created: Vec<Timestamp>,
}

impl Columns<'_> {
    fn with_capacity(rows: usize) -> Self {
        Self {
            ids: Vec::with_capacity(rows),
            aggregates: Vec::with_capacity(rows),
            kinds: Vec::with_capacity(rows),
            versions: Vec::with_capacity(rows),
            payloads: Vec::with_capacity(rows),
            correlations: Vec::with_capacity(rows),
            traces: Vec::with_capacity(rows),
            created: Vec::with_capacity(rows),
        }
    }

    async fn insert(self, conn: &Conn, statement: &'static str) -> Result<(), DbError> {
        conn.run(
            statement,
            &[
                &self.ids,
                &self.aggregates,
                &self.kinds,
                &self.versions,
                &self.payloads,
                &self.correlations,
                &self.traces,
                &self.created,
            ],
        )
        .await?;
        Ok(())
    }
}

/// A message as the outbox keeps it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its place in the outbox.
    pub seq: i64,
    /// The message's id for good.
    pub id: MessageId,
    /// Order is kept among messages of one aggregate.
    pub aggregate_id: Uuid,
    /// The `type` on the wire.
    pub kind: String,
    /// The version of its type that the payload is of.
    pub schema_version: i32,
    /// JSON text.
    pub payload: String,
    /// The id of the request that caused it.
    pub correlation_id: String,
    /// W3C trace context of that request.
    pub traceparent: Option<String>,
    /// When it happened.
    pub created_at: Timestamp,
    /// How often its publication failed.
    pub attempts: i32,
}

impl Stored {
    pub(super) fn from_row(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            seq: row.try_get("seq")?,
            id: MessageId(row.try_get("id")?),
            aggregate_id: row.try_get("aggregate_id")?,
            kind: row.try_get("type")?,
            payload: row.try_get("payload")?,
            correlation_id: row.try_get("correlation_id")?,
            traceparent: row.try_get("traceparent")?,
            created_at: row.try_get("created_at")?,
            attempts: row.try_get("attempts")?,
            schema_version: row.try_get("schema_version")?,
        })
    }
}

/// A message that the relay holds until its lease ends.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The claim's number: who comes with an older one is not listened to.
    pub fence: i64,
    /// What is to be sent.
    pub message: Stored,
}

/// A publication that the broker refused.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its place in the outbox.
    pub seq: i64,
    /// The claim's number.
    pub fence: i64,
    /// Why.
    pub error: String,
    /// When to try again.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was given up, if it was.
    pub dead_at: Option<Timestamp>,
}

/// Claims up to `limit` due messages until `lease_until`, in their order.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn claim(
    db: &Db,
    now: Timestamp,
    lease_until: Timestamp,
    limit: i64,
) -> Result<Vec<Claimed>, DbError> {
    let tx = db.begin().await?;
    tx.batch_execute(&format!("{LAZILY}{BEFORE_CLAIM}")).await?;
    let rows = tx.rows(CLAIM, &[&now, &limit, &lease_until]).await?;
    let mut claimed = rows.iter().map(claimed).collect::<Result<Vec<_>, DbError>>()?;
    tx.commit().await?;
    claimed.sort_unstable_by_key(|claimed| claimed.message.seq);
    Ok(claimed)
}

/// Marks messages as sent, those that are still the claimer's, and says how many. With each comes
/// where the broker put it, if it says so.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn mark_sent(
    db: &Db,
    messages: &[(&Claimed, Option<&str>)],
    now: Timestamp,
) -> Result<u64, DbError> {
    let claimed: Vec<&Claimed> = messages.iter().map(|(claimed, _)| *claimed).collect();
    let (seqs, fences) = keys(&claimed);
    let positions: Vec<Option<&str>> = messages.iter().map(|(_, position)| *position).collect();
    let tx = db.begin().await?;
    tx.batch_execute(LAZILY).await?;
    let sent = tx.run(MARK_SENT, &[&seqs, &fences, &now, &positions]).await?;
    tx.commit().await?;
    Ok(sent)
}

/// Gives messages back unsent, due at once or at `due`; nothing counts against them.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn release(
    conn: &Conn,
    messages: &[&Claimed],
    due: Option<Timestamp>,
) -> Result<(), DbError> {
    let (seqs, fences) = keys(messages);
    conn.run(RELEASE, &[&seqs, &fences, &due]).await.map(drop)
}

/// Notes failed publications and says which of them were still the claimer's.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn fail(conn: &Conn, failures: &[Failure], now: Timestamp) -> Result<Vec<i64>, DbError> {
    let seqs: Vec<i64> = failures.iter().map(|failure| failure.seq).collect();
    let fences: Vec<i64> = failures.iter().map(|failure| failure.fence).collect();
    let errors: Vec<&str> = failures.iter().map(|failure| failure.error.as_str()).collect();
    let next: Vec<_> = failures.iter().map(|failure| failure.next_attempt_at).collect();
    let dead: Vec<_> = failures.iter().map(|failure| failure.dead_at).collect();
    let rows = conn.rows(FAIL, &[&seqs, &fences, &errors, &next, &dead, &now]).await?;
    rows.iter().map(|row| Ok(row.try_get("seq")?)).collect()
}

/// Makes failed publications due at once, and says how many: whoever starts tries them again
/// (S2.53).
///
/// # Errors
/// When PostgreSQL is away.
pub async fn hurry(conn: &Conn) -> Result<u64, DbError> {
    conn.run(HURRY, &[]).await
}

/// Forgets up to `limit` messages that were sent or given up before `before`.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prune(conn: &Conn, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    let place = sent::place_before(conn, Lane::Mail, before).await?;
    conn.run(PRUNE, &[&before, &limit, &place]).await
}

fn keys(claimed: &[&Claimed]) -> (Vec<i64>, Vec<i64>) {
    claimed.iter().map(|one| (one.message.seq, one.fence)).unzip()
}

fn claimed(row: &Row) -> Result<Claimed, DbError> {
    Ok(Claimed { fence: row.try_get("fence")?, message: Stored::from_row(row)? })
}
