//! Publishing by hand: an operator's message takes the way of every other one, through the outbox,
//! and the audit log tells who it was.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, Error, Origin, Result};
use crate::domain::ids::{MessageId, UserId};
use crate::domain::message::Lane;
use crate::domain::refusal::Refusal;
use crate::domain::stream_type::Publisher;
use crate::postgres::outbox::{self, RawMessage};
use crate::postgres::{Conn, audit};

/// A message that is on its way.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The message.
    pub id: MessageId,
    /// Its type.
    pub kind: String,
    /// The version of its schema.
    pub version: u32,
    /// Messages that have it in common keep their order.
    pub partition_key: String,
    /// By which its whole life can be looked up.
    pub correlation_id: String,
}

/// Writes an operator's message to the outbox.
///
/// # Errors
/// [`Refusal::UnknownType`], [`Refusal::PublisherNotAllowed`], [`Refusal::MessageTooLarge`], or
/// [`Refusal::Invalid`] with pointers that begin with `/data`.
pub async fn by_hand(
    app: &App,
    tx: &Conn,
    actor: UserId,
    origin: &Origin,
    kind: &str,
    data: Value,
) -> Result<Accepted> {
    let id = MessageId(app.ids.uuid());
    let prepared = app.registry.prepare(Publisher::Operator, kind, id, data).map_err(inside)?;
    let now = app.clock.now();
    let message = RawMessage {
        id,
        aggregate_id: aggregate(&prepared.partition_key, id),
        lane: Lane::Bus,
        kind: kind.to_owned(),
        schema_version: prepared.version(),
        payload: prepared.payload,
        correlation_id: origin.correlation_id.clone(),
        traceparent: origin.traceparent.clone(),
        created_at: now,
    };
    outbox::append_raw(tx, &[message]).await?;
    let (action, subject) = ("message.submitted", id.to_string());
    let request = Some(origin.correlation_id.as_str());
    let detail = json!({ "type": kind });
    audit::append(tx, now, Some(actor), action, &subject, request, Some(&detail)).await?;
    Ok(Accepted {
        id,
        kind: kind.to_owned(),
        version: prepared.kind.version(),
        partition_key: prepared.partition_key,
        correlation_id: origin.correlation_id.clone(),
    })
}

/// By what the outbox keeps the order: the partition key, which is an id; a message without one
/// stands for itself.
pub fn aggregate(partition_key: &str, id: MessageId) -> Uuid {
    partition_key.parse().unwrap_or(id.0)
}

/// What is wrong with the data, as seen from the request's body.
fn inside(error: Error) -> Error {
    let Error::Refused(Refusal::Invalid(mut faults)) = error else { return error };
    for fault in &mut faults {
        fault.pointer.insert_str(0, "/data");
    }
    Refusal::Invalid(faults).into()
}
