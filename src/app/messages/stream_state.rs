//! How the streams of a type are, all shards together: what they are called at the broker that is
//! in use, how long they are, and how far behind each group is that reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future;
use tokio::time::timeout;

use super::parcels::Parcels;
use super::streams::{Sight, look};
use crate::app::App;
use crate::config::Provider;
use crate::domain::stream_type::StreamType;

/// How long the broker may take to tell: an operator wants to see the rest when it is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// How one group is.
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

/// How a type is at the broker.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Messages on its streams; `None` while no group reads them.
    pub length: Option<u64>,
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
    /// `None`: the broker is away.
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
    future::join_all(app.registry.types().map(|kind| one(app, kind))).await
}

/// One type.
pub async fn one(app: &App, kind: &StreamType) -> TypeState {
    let sights = timeout(PATIENCE, look(app, kind)).await.ok().and_then(Result::ok);
    let prefix = app.config.bus.prefix.as_str();
    let streams = Parcels::streams(kind);
    TypeState {
        kind: *kind,
        redis: streams.iter().map(|stream| stream.redis_key(prefix)).collect(),
        nats: streams.iter().map(|stream| stream.nats_subject(prefix)).collect(),
        live: sights.map(together),
    }
}

fn together(sights: Vec<Sight>) -> Live {
    let mut live = Live::default();
    for Sight { groups, .. } in sights {
        if let Some(length) = groups.iter().map(|(_, lag)| lag.length).max() {
            live.length = Some(live.length.unwrap_or_default().saturating_add(length));
        }
        for (group, lag) in groups {
            let sum = live.groups.entry(group).or_default();
            sum.pending = sum.pending.saturating_add(lag.pending);
            sum.lag = sum.lag.saturating_add(lag.lag);
            sum.consumers = sum.consumers.max(lag.consumers);
            sum.oldest_age = sum.oldest_age.max(lag.oldest_age);
        }
    }
    live
}

#[cfg(test)]
mod tests {
    use crate::bus::Stream;
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
