//! How the streams of the bus are: what they are called at the broker that is in use, how long
//! they are, and how far behind each group is that reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future;
use tokio::time::timeout;

use super::parcels::Parcels;
use crate::app::App;
use crate::bus::{BusError, EventBus, Lag, Stream};
use crate::config::Provider;
use crate::domain::stream_type::StreamType;

/// How long the broker may take to tell: an operator wants to see the rest when it is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// How one group is with a type's streams, all shards together.
#[derive(Clone, Debug, Default)]
pub struct GroupLive {
    /// Delivered and not acknowledged, those that wait to be retried included.
    pub pending: u64,
    /// Not delivered yet.
    pub lag: u64,
    /// How long ago the oldest message was stored that it has not acknowledged.
    pub oldest_age: Option<Duration>,
    /// Consumers that the broker knows of.
    pub consumers: u64,
}

/// How a type's streams are, all shards together.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Messages on them.
    pub length: u64,
    /// By name.
    pub groups: BTreeMap<&'static str, GroupLive>,
}

/// A type and its streams.
#[derive(Clone, Debug)]
pub struct TypeState {
    /// The type.
    pub kind: StreamType,
    /// What each shard is called on Redis, with the installation's prefix.
    pub redis: Vec<String>,
    /// The same on NATS.
    pub nats: Vec<String>,
    /// `None`: the broker is away, or has no such streams yet.
    pub live: Option<Live>,
}

/// The name of the broker in use.
pub fn provider(app: &App) -> &'static str {
    match app.bus.provider() {
        Provider::Redis => "redis",
        Provider::Nats => "nats",
        Provider::Memory => "memory",
    }
}

/// Every type.
pub async fn all(app: &App) -> Vec<TypeState> {
    let states = app.registry.types().map(|kind| one(app, kind));
    future::join_all(states).await
}

/// One type.
pub async fn one(app: &App, kind: &StreamType) -> TypeState {
    let (streams, groups) = (Parcels::streams(kind), app.parcels.groups(kind.name));
    let prefix = app.config.bus.prefix.as_str();
    let live = look(app.bus.as_ref(), &streams, &groups).await;
    TypeState {
        kind: *kind,
        redis: streams.iter().map(|stream| stream.redis_key(prefix)).collect(),
        nats: streams.iter().map(|stream| stream.nats_subject(prefix)).collect(),
        live,
    }
}

/// How streams are on a broker; `None` when it is away or does not have them.
pub(super) async fn look(
    bus: &dyn EventBus,
    streams: &[Stream],
    groups: &[&'static str],
) -> Option<Live> {
    match timeout(PATIENCE, live(bus, streams, groups)).await {
        Ok(Ok(live)) => Some(live),
        Ok(Err(error)) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::debug!(?streams, error, "a stream cannot be looked at");
            None
        }
        Err(_) => None,
    }
}

async fn live(
    bus: &dyn EventBus,
    streams: &[Stream],
    groups: &[&'static str],
) -> Result<Live, BusError> {
    let mut live = Live::default();
    for stream in streams {
        live.length = live.length.saturating_add(bus.length(stream).await?);
        for group in groups {
            let Lag { pending, lag, oldest_age, consumers, .. } = bus.lag(stream, group).await?;
            let sum = live.groups.entry(group).or_default();
            sum.pending = sum.pending.saturating_add(pending);
            sum.lag = sum.lag.saturating_add(lag);
            sum.consumers = sum.consumers.max(consumers);
            sum.oldest_age = sum.oldest_age.max(oldest_age);
        }
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::stream_type::ALL;

    #[test]
    fn the_registry_and_the_bus_call_streams_the_same() {
        for kind in ALL {
            for shard in [0, 1, 7] {
                let stream = Stream::shard(kind.name, shard);
                assert_eq!(stream.redis_key(""), kind.redis_stream(shard));
                assert_eq!(stream.nats_subject(""), kind.nats_subject(shard));
            }
        }
    }
}
