//! A message as the bus brought it, read: what it says, or why nobody can ever handle it.

use jiff::Timestamp;

use super::handle::{Message, asks};
use super::ledger::Record;
use super::registry::Registry;
use crate::bus::Delivery;
use crate::bus::envelope::Envelope;
use crate::domain::ids::MessageId;
use crate::domain::message::{self, Defect, PAYLOAD_MAX};
use crate::domain::processing::{ProcessingStatus, bus_stream_name, stream_name};
use crate::postgres::inbox::Ending;

/// A delivery, read.
#[derive(Clone)]
pub struct Taken {
    /// The message's own id, or one made of what was found.
    pub id: MessageId,
    /// Under what the inbox knows it, with its version.
    pub stream: String,
    /// Its type, or that of the stream it lay on.
    pub kind: String,
    /// The version of its type that the payload is of, as its envelope says.
    pub schema_version: i32,
    /// Its data as it came, or the whole of what is no envelope.
    pub payload: String,
    /// The id of the request that caused it.
    pub correlation_id: Option<String>,
    /// W3C trace context of that request.
    pub traceparent: Option<String>,
    /// By what its order is kept; none of what is parked.
    pub partition_key: Option<String>,
    /// What it says, or why nobody can ever handle it.
    pub content: Result<Message, Defect>,
}

impl Taken {
    /// As the ledger keeps it.
    pub fn record(&self) -> Record<'_> {
        Record {
            stream: self.stream.clone(),
            id: self.id,
            kind: &self.kind,
            schema_version: self.schema_version,
            payload: &self.payload,
            correlation_id: self.correlation_id.as_deref(),
            traceparent: self.traceparent.as_deref(),
            partition_key: self.partition_key.as_deref(),
        }
    }

    /// How its claim ends when it is won.
    pub fn ending(&self, now: Timestamp) -> Ending {
        let key = self.record().key();
        let partition_key = self.partition_key.clone();
        match &self.content {
            Ok(_) => Ending {
                key,
                status: ProcessingStatus::Processed,
                error: None,
                dead_at: None,
                partition_key,
            },
            Err(defect) => Ending {
                key,
                status: ProcessingStatus::Failed,
                error: Some(defect.reason().to_owned()),
                dead_at: Some(now),
                partition_key,
            },
        }
    }

    /// Reads a delivery for somebody who handles these types.
    pub fn read(delivery: &Delivery, kinds: &[&'static str], registry: &Registry) -> Self {
        match delivery.envelope() {
            Ok(envelope) => Self::open(delivery, envelope, kinds, registry),
            Err(defect) => Self {
                id: made_up(delivery),
                stream: stream_name(None),
                kind: message::kind(delivery.stream.kind()),
                schema_version: 1,
                payload: text(&delivery.body),
                correlation_id: None,
                traceparent: None,
                partition_key: None,
                content: Err(defect),
            },
        }
    }

    fn open(
        delivery: &Delivery,
        envelope: Envelope,
        kinds: &[&'static str],
        registry: &Registry,
    ) -> Self {
        let version = u32::from(envelope.version);
        // Whole, however long: it may be sent again from the dead letters.
        let payload = envelope.data.to_string();
        let asked = asks(kinds, &envelope.kind);
        let known = registry.find(&envelope.kind).filter(|_| asked).map(|kind| kind.name);
        let misplaced = envelope.kind != delivery.stream.kind();
        let content = match known {
            Some(_) if misplaced => {
                Err(Defect::new(format!("is on the stream of {}", delivery.stream)))
            }
            None => Err(Defect::new("is of a type that is not handled here")),
            Some(kind) => {
                registry.accept(kind, version, envelope.id, envelope.data).map(|data| Message {
                    id: envelope.id,
                    kind,
                    data,
                    happened_at: envelope.time,
                    correlation_id: envelope.correlation_id.clone().unwrap_or_default(),
                    traceparent: envelope.traceparent.clone(),
                })
            }
        };
        Self {
            // A copy at the wrong place does not stand in the way of the message itself.
            id: if misplaced { made_up(delivery) } else { envelope.id },
            stream: bus_stream_name(&envelope.kind, version),
            kind: message::kind(&envelope.kind),
            schema_version: i32::from(envelope.version),
            payload,
            correlation_id: envelope.correlation_id,
            traceparent: envelope.traceparent,
            // What is parked waits for nobody.
            partition_key: envelope.partition_key.filter(|_| content.is_ok()),
            content,
        }
    }
}

/// The id of what has none: made of its place and of what it says, so that it is another one when
/// places begin anew.
fn made_up(delivery: &Delivery) -> MessageId {
    let (stream, position) = (delivery.stream.to_string(), delivery.position.to_string());
    message::derived_id(&[stream.as_bytes(), position.as_bytes(), &delivery.body])
}

/// A body as a dead letter keeps it.
fn text(body: &[u8]) -> String {
    let kept = body.get(..body.len().min(PAYLOAD_MAX)).unwrap_or_default();
    message::storable(&String::from_utf8_lossy(kept), PAYLOAD_MAX)
}
