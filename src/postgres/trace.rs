//! The whole life of what one request caused, for those who want to know what became of it. Each
//! part is a look-up by an index for each message, whatever the planner believes of the tables.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};

/// Of both ways; ids rise with time.
const MESSAGES: &str = "SELECT * FROM ((
        SELECT id, type, lane, created_at, sent_at, dead_at, next_attempt_at, attempts,
               last_error, position, traceparent
        FROM outbox WHERE correlation_id = $1 ORDER BY seq LIMIT $2
    ) UNION ALL (
        SELECT id, type, 'bus', created_at, sent_at, dead_at, next_attempt_at, attempts,
               last_error, position, traceparent
        FROM bus_messages WHERE correlation_id = $1 ORDER BY seq LIMIT $2
    )) AS sent ORDER BY created_at, id LIMIT $2";
const STEPS: &str = "SELECT p.revision, p.serviceContext, p.streamName, p.processingStatus,
        p.processedAt, p.attempts, p.last_error, p.next_attempt_at, p.dead_at
    FROM unnest($1::text[], $2::text[]) AS k (stream, revision)
    CROSS JOIN LATERAL (SELECT * FROM processed_events e
        WHERE e.streamName = k.stream AND e.revision = k.revision LIMIT 20) p
    ORDER BY p.processedAt";
const LETTERS: &str = "SELECT d.message_id, d.id, d.source, d.reason, d.attempts, d.died_at,
        d.resolved_at, d.redrives
    FROM unnest($1::text[]) AS m (id) CROSS JOIN unnest($2::text[]) AS s (source)
    CROSS JOIN LATERAL (SELECT * FROM dead_letters l
        WHERE l.source = s.source AND l.message_id = m.id LIMIT 1) d
    ORDER BY d.died_at";
const DELIVERIES: &str = "SELECT n.message_id, n.id, n.user_id, n.created_at, n.read_at
    FROM unnest($1::text[]) AS m (id)
    CROSS JOIN LATERAL (SELECT * FROM notifications o WHERE o.message_id = m.id LIMIT $2) n
    ORDER BY n.created_at, n.id";
const CHANGES: &str = "SELECT at, actor_id, action, subject, detail FROM audit_log
    WHERE request_id = $1 ORDER BY id LIMIT $2";

/// A message that the request caused, or that followed from one.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which.
    pub id: Uuid,
    /// Its type.
    pub kind: String,
    /// By which way it leaves.
    pub lane: String,
    /// When it was written, with its cause.
    pub created_at: Timestamp,
    /// When the broker confirmed it.
    pub sent_at: Option<Timestamp>,
    /// When the relay gave it up.
    pub dead_at: Option<Timestamp>,
    /// When the relay tries again.
    pub next_attempt_at: Option<Timestamp>,
    /// Failed publications.
    pub attempts: i32,
    /// Why the last of them failed.
    pub last_error: Option<String>,
    /// Where the broker put it.
    pub position: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// What a service did with a message.
#[derive(Clone, Debug)]
pub struct Step {
    /// The message.
    pub message: String,
    /// The service.
    pub service: String,
    /// Under which stream it remembers it.
    pub stream: String,
    /// How far it is.
    pub status: String,
    /// Since when.
    pub at: Timestamp,
    /// How often it tried.
    pub attempts: i32,
    /// Why it failed last or was skipped.
    pub last_error: Option<String>,
    /// When it is due again.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
}

/// A dead letter of a message.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The message.
    pub message: String,
    /// The letter.
    pub id: Uuid,
    /// Where it died.
    pub source: String,
    /// What of.
    pub reason: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it died.
    pub died_at: Timestamp,
    /// When it was sent again.
    pub resolved_at: Option<Timestamp>,
    /// How often it was.
    pub redrives: i32,
}

/// An entry of an inbox.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The message.
    pub message: String,
    /// The entry.
    pub id: Uuid,
    /// Whose inbox.
    pub user_id: Uuid,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// When it was read.
    pub read_at: Option<Timestamp>,
}

/// A change that the request made.
#[derive(Clone, Debug)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor_id: Option<Uuid>,
    /// What.
    pub action: String,
    /// Of what.
    pub subject: String,
    /// The details.
    pub detail: Option<Value>,
}

/// The messages that a request caused, the first ones, in their order.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn messages(conn: &Conn, correlation_id: &str, limit: i64) -> Result<Vec<Sent>, DbError> {
    let rows = conn.rows(MESSAGES, &[&correlation_id, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Sent {
                id: row.try_get("id")?,
                kind: row.try_get("type")?,
                lane: row.try_get("lane")?,
                created_at: row.try_get("created_at")?,
                sent_at: row.try_get("sent_at")?,
                dead_at: row.try_get("dead_at")?,
                next_attempt_at: row.try_get("next_attempt_at")?,
                attempts: row.try_get("attempts")?,
                last_error: row.try_get("last_error")?,
                position: row.try_get("position")?,
                traceparent: row.try_get("traceparent")?,
            })
        })
        .collect()
}

/// What services did with messages, by the streams and ids that they remember them under.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn steps(
    conn: &Conn,
    streams: &[String],
    revisions: &[String],
) -> Result<Vec<Step>, DbError> {
    let rows = conn.rows(STEPS, &[&streams, &revisions]).await?;
    rows.iter()
        .map(|row| {
            Ok(Step {
                message: row.try_get("revision")?,
                service: row.try_get("servicecontext")?,
                stream: row.try_get("streamname")?,
                status: row.try_get("processingstatus")?,
                at: row.try_get("processedat")?,
                attempts: row.try_get("attempts")?,
                last_error: row.try_get("last_error")?,
                next_attempt_at: row.try_get("next_attempt_at")?,
                dead_at: row.try_get("dead_at")?,
            })
        })
        .collect()
}

/// The dead letters of messages at these places.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn letters(
    conn: &Conn,
    messages: &[String],
    sources: &[&str],
) -> Result<Vec<Letter>, DbError> {
    let rows = conn.rows(LETTERS, &[&messages, &sources]).await?;
    rows.iter()
        .map(|row| {
            Ok(Letter {
                message: row.try_get("message_id")?,
                id: row.try_get("id")?,
                source: row.try_get("source")?,
                reason: row.try_get("reason")?,
                attempts: row.try_get("attempts")?,
                died_at: row.try_get("died_at")?,
                resolved_at: row.try_get("resolved_at")?,
                redrives: row.try_get("redrives")?,
            })
        })
        .collect()
}

/// The inboxes that messages reached, the first `limit` of each.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn deliveries(
    conn: &Conn,
    messages: &[String],
    limit: i64,
) -> Result<Vec<Delivered>, DbError> {
    let rows = conn.rows(DELIVERIES, &[&messages, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Delivered {
                message: row.try_get("message_id")?,
                id: row.try_get("id")?,
                user_id: row.try_get("user_id")?,
                created_at: row.try_get("created_at")?,
                read_at: row.try_get("read_at")?,
            })
        })
        .collect()
}

/// What a request changed, as the audit log has it.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn changes(conn: &Conn, request_id: &str, limit: i64) -> Result<Vec<Change>, DbError> {
    let rows = conn.rows(CHANGES, &[&request_id, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Change {
                at: row.try_get("at")?,
                actor_id: row.try_get("actor_id")?,
                action: row.try_get("action")?,
                subject: row.try_get("subject")?,
                detail: row.try_get("detail")?,
            })
        })
        .collect()
}
