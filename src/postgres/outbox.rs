//! Messages on their way out. A fact is written here in the transaction of its cause; the relay
//! claims it by lease and fence, publishes it and marks it sent, so nothing is lost between.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::fact::Fact;
use crate::domain::ids::MessageId;

/// Identity values follow the arrays' order, so within an aggregate `seq` is the order of facts.
const INSERT: &str = "INSERT INTO outbox
    (id, aggregate_id, type, payload, correlation_id, traceparent, created_at, next_attempt_at)
    SELECT m.id, m.aggregate_id, m.type, m.payload::json, m.correlation_id, m.traceparent,
           m.created_at, m.next_attempt_at
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                $7::timestamptz[], $8::timestamptz[])
         AS m (id, aggregate_id, type, payload, correlation_id, traceparent, created_at,
               next_attempt_at)";

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
    /// JSON text.
    pub payload: String,
    /// The id of the request that caused it.
    pub correlation_id: String,
    /// W3C trace context of that request.
    pub traceparent: Option<String>,
    /// When it happened.
    pub created_at: Timestamp,
    /// Not to be published before; `None` is at once.
    pub not_before: Option<Timestamp>,
}

/// The documented payload (S4.25 to S4.29): its four fields are always there; ours follow when
/// they say something.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    r#type: &'static str,
    event_id: Option<Uuid>,
    user_id: Option<Uuid>,
    seats: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    booking_id: Option<Uuid>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    seat_numbers: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<Uuid>,
}

/// The message body of a fact.
pub fn payload(fact: &Fact) -> String {
    let payload = Payload {
        r#type: fact.kind.name(),
        event_id: fact.event_id.map(|id| id.0),
        user_id: fact.user_id.map(|id| id.0),
        seats: fact.seats,
        booking_id: fact.booking_id.map(|id| id.0),
        seat_numbers: &fact.seat_numbers,
        invitation_id: fact.invitation.map(|(id, _)| id.0),
        organization_id: fact.invitation.map(|(_, id)| id.0),
    };
    // Strings, numbers and ids: there is nothing in it that JSON cannot say.
    serde_json::to_string(&payload).unwrap_or_default()
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
        columns.not_before.push(None);
    }
    columns.insert(conn).await
}

/// Writes messages whose payload is already made.
///
/// # Errors
/// When PostgreSQL is away, or a payload is not JSON.
pub async fn append_raw(conn: &Conn, messages: &[RawMessage]) -> Result<(), DbError> {
    if messages.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::with_capacity(messages.len());
    for message in messages {
        columns.ids.push(message.id.0);
        columns.aggregates.push(message.aggregate_id);
        columns.kinds.push(&message.kind);
        columns.payloads.push(message.payload.clone());
        columns.correlations.push(&message.correlation_id);
        columns.traces.push(message.traceparent.as_deref());
        columns.created.push(message.created_at);
        columns.not_before.push(message.not_before);
    }
    columns.insert(conn).await
}

/// One array a column: a commit of the booking desk writes hundreds of rows at once.
struct Columns<'a> {
    ids: Vec<Uuid>,
    aggregates: Vec<Uuid>,
    kinds: Vec<&'a str>,
    payloads: Vec<String>,
    correlations: Vec<&'a str>,
    traces: Vec<Option<&'a str>>,
    created: Vec<Timestamp>,
    not_before: Vec<Option<Timestamp>>,
}

impl Columns<'_> {
    fn with_capacity(rows: usize) -> Self {
        Self {
            ids: Vec::with_capacity(rows),
            aggregates: Vec::with_capacity(rows),
            kinds: Vec::with_capacity(rows),
            payloads: Vec::with_capacity(rows),
            correlations: Vec::with_capacity(rows),
            traces: Vec::with_capacity(rows),
            created: Vec::with_capacity(rows),
            not_before: Vec::with_capacity(rows),
        }
    }

    async fn insert(self, conn: &Conn) -> Result<(), DbError> {
        conn.run(
            INSERT,
            &[
                &self.ids,
                &self.aggregates,
                &self.kinds,
                &self.payloads,
                &self.correlations,
                &self.traces,
                &self.created,
                &self.not_before,
            ],
        )
        .await?;
        Ok(())
    }
}
