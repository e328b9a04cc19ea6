//! What spans say of messages that were sent or dealt with, whichever broker carried them.

use std::time::Instant;

use super::spans::{Batch, SpanKind, Spans, Step, number, text};
use crate::config;
use crate::domain::ids::MessageId;

/// What RabbitMQ is called.
pub const RABBITMQ: &str = "rabbitmq";

/// Messages that went the same way together.
pub struct Passage<'a> {
    batch: Batch<'a>,
    /// What was done: `send` or `process`.
    operation: &'static str,
    system: &'static str,
    count: usize,
}

/// What the broker of the bus is called.
pub fn system(provider: config::Provider) -> &'static str {
    match provider {
        config::Provider::Redis => "redis",
        config::Provider::Nats => "nats",
        config::Provider::Memory => "memory",
    }
}

/// One of them.
pub struct Passenger<'a> {
    /// The queue or stream.
    pub destination: &'a str,
    /// Its id for good.
    pub id: MessageId,
    /// Its type.
    pub kind: &'a str,
    /// The request that caused it.
    pub request_id: &'a str,
    /// W3C trace context of that request.
    pub traceparent: Option<&'a str>,
    /// In a word why it failed, if it did.
    pub failure: Option<&'static str>,
}

impl<'a> Passage<'a> {
    /// So many messages were sent together by a broker of this kind; `None` if nobody wants to
    /// know.
    pub fn sent(
        spans: &'a Spans,
        system: &'static str,
        begun: Instant,
        count: usize,
    ) -> Option<Self> {
        Some(Self { batch: spans.batch(begun)?, operation: "send", system, count })
    }

    /// So many messages were dealt with together.
    pub fn processed(
        spans: &'a Spans,
        system: &'static str,
        begun: Instant,
        count: usize,
    ) -> Option<Self> {
        Some(Self { batch: spans.batch(begun)?, operation: "process", system, count })
    }

    /// Adds one.
    pub fn add(&mut self, message: &Passenger<'_>) {
        let Self { operation, system, count, .. } = *self;
        self.batch.add(message.traceparent, || Step {
            kind: if operation == "send" { SpanKind::Producer } else { SpanKind::Consumer },
            name: format!("{operation} {}", message.destination),
            request_id: message.request_id.to_owned(),
            failure: message.failure.map(str::to_owned),
            attributes: vec![
                ("messaging.system", text(system)),
                ("messaging.operation.name", text(operation)),
                ("messaging.operation.type", text(operation)),
                ("messaging.destination.name", text(message.destination)),
                ("messaging.message.id", text(message.id)),
                ("messaging.batch.message_count", number(count)),
                ("happening.message.type", text(message.kind)),
            ],
        });
    }
}
