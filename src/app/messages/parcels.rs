//! How messages of the outbox are packed for the bus, and which streams and groups there are.

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::handle::{Handling, asks};
use super::registry::{Registry, partition_key_of};
use super::relay::Stored;
use crate::bus::envelope::{Envelope, SOURCE};
use crate::bus::{BusError, EventBus, Outgoing, Stream};
use crate::domain::stream_type::StreamType;

/// Packs messages.
#[derive(Clone)]
pub struct Parcels {
    registry: Registry,
    groups: Vec<(&'static str, &'static [&'static str])>,
}

impl Parcels {
    /// For these types, and these who read them.
    pub fn new(registry: Registry, handlers: &[Handling]) -> Self {
        let groups = handlers.iter().map(|one| (one.service().name(), one.kinds())).collect();
        Self { registry, groups }
    }

    /// The streams of a type.
    pub fn streams(kind: &StreamType) -> Vec<Stream> {
        (0..kind.shards.max(1)).map(|shard| Stream::shard(kind.name, shard)).collect()
    }

    /// The groups that read a type.
    pub fn groups(&self, kind: &str) -> Vec<&'static str> {
        let reads = self.groups.iter().filter(|(_, kinds)| asks(kinds, kind));
        reads.map(|(group, _)| *group).collect()
    }

    /// Every type, its streams, and the groups that read them.
    pub fn all(&self) -> Vec<(StreamType, Vec<Stream>, Vec<&'static str>)> {
        let types = self.registry.types();
        types.map(|kind| (*kind, Self::streams(kind), self.groups(kind.name))).collect()
    }

    /// Every stream that is read, with each group that reads it.
    pub fn readers(&self) -> Vec<(Stream, &'static str)> {
        let mut readers = Vec::new();
        for (_, streams, groups) in self.all() {
            for stream in streams {
                readers.extend(groups.iter().map(|group| (stream.clone(), *group)));
            }
        }
        readers
    }

    /// Makes sure that all streams and groups exist. Those of a type that the broker refuses keep
    /// no other type back: whoever publishes to them or reads them is told.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn declare(&self, bus: &dyn EventBus) -> Result<(), BusError> {
        for (kind, streams, groups) in self.all() {
            match bus.declare(&streams, &groups).await {
                Err(BusError::Refused(error)) => {
                    let error = format!("{error:#}");
                    tracing::error!(r#type = kind.name, error, "streams cannot be declared");
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Whether somebody is told at once when one of this type cannot be published (S3.44).
    pub fn is_critical(&self, kind: &str) -> bool {
        self.registry.find(kind).is_some_and(|kind| kind.critical)
    }

    /// What goes out for a message. Consumers see to it that it makes sense.
    pub fn pack(&self, message: &Stored) -> Outgoing {
        let kind = self.registry.find(&message.kind);
        let key = kind.map(|kind| partition_key_of(kind, &message.payload));
        let key = key.filter(|key| !key.is_empty());
        // PostgreSQL has checked that it is JSON.
        let data: &RawValue = serde_json::from_str(&message.payload).unwrap_or(RawValue::NULL);
        let shard = kind.map_or(0, |kind| kind.shard_of(key.as_deref().unwrap_or_default()));
        let envelope = Envelope {
            id: message.id,
            source: SOURCE.to_owned(),
            kind: message.kind.clone(),
            subject: key.clone(),
            time: message.created_at,
            version: u16::try_from(message.schema_version).unwrap_or(u16::MAX),
            correlation_id: Some(message.correlation_id.clone()),
            traceparent: message.traceparent.clone(),
            partition_key: key,
            data,
        };
        let stream = Stream::shard(&message.kind, shard);
        Outgoing { stream, id: message.id, body: envelope.to_bytes() }
    }

    /// Drops from every stream what its type keeps no longer. Never what a group has yet to see.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn trim(
        &self,
        bus: &dyn EventBus,
        now: Timestamp,
        max_length: u64,
    ) -> Result<u64, BusError> {
        let mut gone = 0_u64;
        for (kind, streams, _) in self.all() {
            let kept = jiff::SignedDuration::from_hours(i64::from(kind.retention_hours));
            let since = now.checked_sub(kept).unwrap_or(Timestamp::MIN);
            for stream in &streams {
                gone = gone.saturating_add(bus.trim(stream, since, max_length).await?);
            }
        }
        Ok(gone)
    }
}
