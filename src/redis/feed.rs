//! What processes tell each other through Redis pub/sub: deltas of events, and news for people's
//! inboxes. Nothing here is kept: what is lost on the way is found by its version, or in the inbox.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::{FutureExt as _, StreamExt as _};
use redis::Pipeline;
use redis::aio::{PubSub, PubSubSink, PubSubStream};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Away, Redis, keys};
use crate::domain::ids::{EventId, UserId};
use crate::domain::seat_view::Delta;

/// Longest message that is read, in bytes. No delta of ours is longer: the largest one frees an
/// event, and is then told as `full`.
const MESSAGE_MAX: usize = 1 << 20;
/// Channels in one command.
const CHUNK: usize = 512;
/// The bits of a version that count deltas; the epoch is above them.
const SEQ_BITS: u32 = 32;

/// What can be listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The deltas of an event.
    Deltas(EventId),
    /// A person's inbox.
    Inbox(UserId),
}

impl Topic {
    fn channel(self) -> String {
        match self {
            Self::Deltas(event) => keys::deltas(event),
            Self::Inbox(user) => keys::notifications(user),
        }
    }

    fn of(channel: &str) -> Option<Self> {
        let (noun, rest) = channel.split_once(':')?;
        let (id, what) = rest.split_once(':')?;
        let id = Uuid::parse_str(id.strip_prefix('{')?.strip_suffix('}')?).ok()?;
        match (noun, what) {
            ("event", "deltas") => Some(Self::Deltas(EventId(id))),
            ("user", "notifications") => Some(Self::Inbox(UserId(id))),
            _ => None,
        }
    }
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event's seats changed.
    Delta(EventId, Delta),
    /// Somebody was told something: the notification as JSON.
    News(UserId, String),
}

/// A subscription. Its loss is an error of [`Feed::next`]; then make a new one.
pub struct Feed {
    sink: PubSubSink,
    stream: PubSubStream,
    patience: Duration,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Feed {
    /// Connects. Nothing is subscribed yet.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn open(redis: &Redis) -> Result<Self, Away> {
        let connecting = timeout(redis.connect_timeout, redis.client.get_async_pubsub());
        let pubsub: PubSub = connecting.await.map_err(|_| late())??;
        let (sink, stream) = pubsub.split();
        Ok(Self { sink, stream, patience: redis.connect_timeout })
    }

    /// Listens to more. What is published after this returns is heard.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn subscribe(&mut self, topics: &[Topic]) -> Result<(), Away> {
        for chunk in topics.chunks(CHUNK) {
            let channels: Vec<String> = chunk.iter().map(|topic| topic.channel()).collect();
            timeout(self.patience, self.sink.subscribe(channels)).await.map_err(|_| late())??;
        }
        Ok(())
    }

    /// Listens to less.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn unsubscribe(&mut self, topics: &[Topic]) -> Result<(), Away> {
        for chunk in topics.chunks(CHUNK) {
            let channels: Vec<String> = chunk.iter().map(|topic| topic.channel()).collect();
            timeout(self.patience, self.sink.unsubscribe(channels)).await.map_err(|_| late())??;
        }
        Ok(())
    }

    /// Whether the connection answers: a peer that vanished without a word would else be waited
    /// for for ever.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&mut self) -> Result<(), Away> {
        let _: redis::Value =
            timeout(self.patience, self.sink.ping()).await.map_err(|_| late())??;
        Ok(())
    }

    /// The next thing to hear. Dropping the wait loses nothing.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn next(&mut self) -> Result<Heard, Away> {
        loop {
            let message = self.stream.next().await.context("the subscription has ended");
            if let Some(heard) = hear(&message.map_err(Away)?) {
                return Ok(heard);
            }
        }
    }

    /// The next thing to hear, if it is there already.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn try_next(&mut self) -> Result<Option<Heard>, Away> {
        self.next().now_or_never().transpose()
    }
}

fn late() -> Away {
    Away(anyhow!("it did not answer in time"))
}

fn hear(message: &redis::Msg) -> Option<Heard> {
    let topic = Topic::of(message.get_channel_name())?;
    let payload = message.get_payload_bytes();
    match topic {
        Topic::Deltas(event) => Some(Heard::Delta(event, read(payload))),
        Topic::Inbox(user) if payload.len() <= MESSAGE_MAX => {
            Some(Heard::News(user, String::from_utf8(payload.to_vec()).ok()?))
        }
        Topic::Inbox(_) => None,
    }
}

/// A delta as the scripts write it. What cannot be read says that something changed.
fn read(payload: &[u8]) -> Delta {
    let parsed = if payload.len() > MESSAGE_MAX {
        None
    } else {
        serde_json::from_slice::<Wire>(payload).ok()
    };
    let Some(wire) = parsed else {
        tracing::warn!(bytes = payload.len(), "a delta cannot be read");
        return Delta { full: true, ..Delta::default() };
    };
    Delta {
        version: wire.v,
        held: wire.held.0,
        released: wire.released.0,
        taken: wire.taken.0,
        freed: wire.freed.0,
        available: wire.available,
        total: wire.total,
        lost: wire.lost.0.into_iter().map(|(token, seats)| (token, seats.0)).collect(),
        full: wire.full,
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    v: i64,
    held: Seats,
    released: Seats,
    taken: Seats,
    freed: Seats,
    available: Option<u32>,
    total: Option<u32>,
    lost: Lost,
    full: bool,
}

/// Seats. Lua's JSON cannot tell an empty list from an empty map.
#[derive(Default)]
struct Seats(Vec<u32>);

/// Tokens and their seats. The same the other way round.
#[derive(Default)]
struct Lost(BTreeMap<String, Seats>);

struct Either<T>(std::marker::PhantomData<T>);

impl<'de> Visitor<'de> for Either<Seats> {
    type Value = Seats;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of seats")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seats, A::Error> {
        let mut seats = Vec::new();
        while let Some(seat) = seq.next_element()? {
            seats.push(seat);
        }
        Ok(Seats(seats))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seats, A::Error> {
        match map.next_entry::<IgnoredAny, IgnoredAny>()? {
            None => Ok(Seats::default()),
            Some(_) => Err(serde::de::Error::custom("seats are a list")),
        }
    }
}

impl<'de> Visitor<'de> for Either<Lost> {
    type Value = Lost;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tokens to seats")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lost, A::Error> {
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(Lost::default()),
            Some(_) => Err(serde::de::Error::custom("lost is a map")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lost, A::Error> {
        let mut lost = BTreeMap::new();
        while let Some((token, seats)) = map.next_entry()? {
            lost.insert(token, seats);
        }
        Ok(Lost(lost))
    }
}

impl<'de> Deserialize<'de> for Seats {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either::<Self>(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Lost {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either::<Self>(std::marker::PhantomData))
    }
}

/// The versions that Redis shows of events, in their order; `None` for what it knows nothing
/// about that can be believed.
///
/// # Errors
/// When Redis is away.
pub async fn versions(redis: &Redis, events: &[EventId]) -> Result<Vec<Option<i64>>, Away> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let Some((mut connection, epoch)) = redis.link.believed().await? else {
        return Ok(vec![None; events.len()]);
    };
    let mut pipeline = Pipeline::new();
    for event in events {
        pipeline.cmd("HMGET").arg(keys::state(*event)).arg(&["epoch", "seq"]);
    }
    let rows: Vec<(Option<i64>, Option<i64>)> =
        pipeline.query_async(&mut connection).await.map_err(|error| redis.link.failed(error))?;
    let version = |(of, seq): (Option<i64>, Option<i64>)| {
        (of == Some(epoch)).then(|| (epoch << SEQ_BITS).saturating_add(seq.unwrap_or(0)))
    };
    Ok(rows.into_iter().map(version).collect())
}

/// Tells people's open sockets what their inboxes got: (who, the notification as JSON).
///
/// # Errors
/// When Redis is away: then nobody is told now, and the inboxes have it.
pub async fn announce(redis: &Redis, news: &[(UserId, String)]) -> Result<(), Away> {
    if news.is_empty() {
        return Ok(());
    }
    let mut connection = redis.link.connection().await?;
    let mut pipeline = Pipeline::new();
    for (user, notification) in news {
        pipeline.cmd("PUBLISH").arg(keys::notifications(*user)).arg(notification).ignore();
    }
    pipeline.exec_async(&mut connection).await.map_err(|error| redis.link.failed(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_names_its_topic_and_nothing_else_does() {
        let id = Uuid::from_u128(7);
        for topic in [Topic::Deltas(EventId(id)), Topic::Inbox(UserId(id))] {
            assert_eq!(Topic::of(&topic.channel()), Some(topic));
        }
        let strangers =
            ["", "event", "event:x:deltas", "event:{7}:deltas", "user:{}:notifications", ":::"];
        for channel in strangers {
            assert_eq!(Topic::of(channel), None, "{channel}");
        }
    }

    #[test]
    fn deltas_are_read_as_lua_writes_them() {
        let text = r#"{"v":12884901889,"held":[7],"released":{},"taken":[1],"available":40,
            "lost":{"t":[3],"u":{}},"new":1}"#;
        let delta = read(text.as_bytes());
        assert_eq!((delta.version, delta.available, delta.total), (12_884_901_889, Some(40), None));
        assert_eq!((delta.held, delta.taken, delta.freed), (vec![7], vec![1], vec![]));
        assert_eq!(delta.lost.get("t"), Some(&vec![3]));
        assert!(delta.lost.contains_key("u") && !delta.full);
        assert!(read(br#"{"v":1,"lost":[]}"#).lost.is_empty());
    }

    #[test]
    fn what_cannot_be_read_says_that_something_changed() {
        for bad in [&b""[..], b"{", b"\xff", br#"{"held":{"a":1}}"#, br#"{"v":"1"}"#, b"[1,2]"] {
            assert!(read(bad).full, "{bad:?}");
        }
        assert!(read(&vec![b' '; MESSAGE_MAX + 1]).full);
    }
}
