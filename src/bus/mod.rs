//! BUS. Streams of messages that several groups of consumers read at their own pace, whichever
//! broker keeps them: chosen by one config key, and nothing else changes.
//!
//! A provider promises what `tests/bus` asks of each one with real servers: a stream keeps the
//! order of its messages; a group begins at the start of a stream and is given each message at
//! least once, until it is acknowledged; a trim never drops what a group has not acknowledged.
//! Nothing here is the truth: whatever a broker loses is published again from PostgreSQL.

pub mod envelope;
pub mod memory;
pub mod nats;
pub mod pattern;
pub mod redis_streams;
pub mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

pub use self::stream::{Position, Receipt, Stream};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::domain::ids::MessageId;
use crate::domain::message::Defect;

/// A promise of an answer of a broker.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, BusError>>;

/// Why a broker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// It is not there, or did not answer in time. What it was asked may have been done.
    #[error("the bus is unavailable")]
    Away(#[source] anyhow::Error),
    /// It answered, and said no.
    #[error("the bus refused")]
    Refused(#[source] anyhow::Error),
}

/// Why a message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It is longer than the bus takes, and always will be.
    #[error("the message has {bytes} bytes; the bus takes {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The longest that is taken.
        limit: usize,
    },
    /// It is not on the stream: the broker will not have it.
    #[error("refused: {0}")]
    Refused(String),
    /// It is not on the stream, and that is not its fault: the broker is away or takes nothing now,
    /// or one before it on its stream was not stored.
    #[error("not stored: {0}")]
    NotSent(String),
    /// Whether it is on the stream is unknown. Published again it may be there twice.
    #[error("perhaps not stored: {0}")]
    Lost(String),
}

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where to.
    pub stream: Stream,
    /// Its id for good, by which a broker that can leaves out a second copy.
    pub id: MessageId,
    /// The envelope.
    pub body: Bytes,
}

/// A message as it was received.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where from.
    pub stream: Stream,
    /// Its place there.
    pub position: Position,
    /// How often it has been handed to the group, this time included; 1 is the first time.
    pub attempt: u32,
    /// What was sent, or as much of it as the limit allows.
    pub body: Bytes,
    /// Why it cannot be an envelope, if the provider already knows.
    pub defect: Option<Defect>,
    /// When the broker stored it, by the broker's clock.
    pub stored_at: Option<Timestamp>,
}

impl Delivery {
    /// By which it is acknowledged.
    pub fn receipt(&self) -> Receipt {
        Receipt { stream: self.stream.clone(), position: self.position }
    }

    /// What it says.
    ///
    /// # Errors
    /// Why nobody can ever read it.
    pub fn envelope(&self) -> Result<envelope::Envelope, Defect> {
        match &self.defect {
            Some(defect) => Err(defect.clone()),
            None => envelope::Envelope::parse(&self.body),
        }
    }
}

/// Who reads what.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The streams, all of them known to [`EventBus::declare`].
    pub streams: Vec<Stream>,
    /// On whose behalf: each group gets every message once, whichever consumer takes it.
    pub group: String,
    /// The name of this consumer. One that comes back under the same name is given first what it
    /// had not acknowledged (where the provider knows consumers by name).
    pub consumer: String,
}

/// Where to begin to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the oldest message there is.
    Start,
    /// At this place, or the next one that there is.
    At(Position),
    /// Behind this place.
    After(Position),
    /// At what was stored at this time or later.
    Time(Timestamp),
}

/// How a broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It answers and takes messages.
    Up,
    /// It answers, and takes no messages now.
    Degraded,
    /// It does not answer.
    Down,
}

/// A look at a broker.
#[derive(Clone, Debug)]
pub struct BusHealth {
    /// In a word.
    pub status: Status,
    /// Whether it answers.
    pub connected: bool,
    /// What is wrong, if anything is.
    pub reason: Option<String>,
}

/// How far a group is behind on a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Messages on the stream.
    pub length: u64,
    /// Messages that were delivered and are not acknowledged, those that wait to be retried
    /// included.
    pub pending: u64,
    /// Messages that were not delivered yet.
    pub lag: u64,
    /// How long ago the oldest message was stored that the group has not acknowledged.
    pub oldest_age: Option<Duration>,
    /// The place of the last message on the stream.
    pub last_position: Option<Position>,
    /// Consumers that the broker knows of in this group.
    pub consumers: u64,
}

/// One consumer's view of its streams. Dropped, whatever it has not acknowledged is delivered
/// again, at the latest after `bus.claim_idle_ms`.
pub trait Subscriber: Send {
    /// Up to `max` messages: first those that this consumer had before it was started again, then
    /// those whose retry is due, then those that others let lie for too long, then new ones. Waits
    /// up to `wait` for the first one, and never for more.
    ///
    /// # Errors
    /// When the broker is away. The next call connects again.
    fn read(&mut self, max: usize, wait: Duration) -> Answer<'_, Vec<Delivery>>;

    /// They are dealt with; the group does not see them again.
    ///
    /// # Errors
    /// When the broker is away. Some or all of them come again.
    fn ack<'a>(&'a mut self, dealt: &'a [Receipt]) -> Answer<'a, ()>;

    /// They come again to anybody of the group, each after so long. In the meantime they count as
    /// pending and are given to nobody.
    ///
    /// # Errors
    /// When the broker is away. They come again, at the latest after `bus.claim_idle_ms`.
    fn retry<'a>(&'a mut self, late: &'a [(Receipt, Duration)]) -> Answer<'a, ()>;

    /// Gives back at once what was handed to this consumer and is not acknowledged.
    ///
    /// # Errors
    /// When the broker is away: then it comes to others after `bus.claim_idle_ms`.
    fn close(&mut self) -> Answer<'_, ()>;
}

/// A broker of streams.
pub trait EventBus: Send + Sync {
    /// Which one.
    fn provider(&self) -> config::Provider;

    /// The longest body that it takes, in bytes.
    fn limit(&self) -> usize;

    /// Makes sure that streams and groups exist; groups begin at the start of the stream. What is
    /// declared is remembered, and declared anew when the broker lost it.
    ///
    /// # Errors
    /// When the broker is away or says no.
    fn declare<'a>(&'a self, streams: &'a [Stream], groups: &'a [&'a str]) -> Answer<'a, ()>;

    /// Publishes in order, and says of each one what became of it. When one is not stored, those
    /// behind it on its stream are not either.
    fn publish<'a>(
        &'a self,
        batch: &'a [Outgoing],
    ) -> BoxFuture<'a, Vec<Result<Position, PublishError>>>;

    /// Begins to read.
    ///
    /// # Errors
    /// When the broker is away or says no.
    fn subscribe(&self, subscription: Subscription) -> Answer<'_, Box<dyn Subscriber>>;

    /// How it is. Answers also when the broker does not.
    fn health(&self) -> BoxFuture<'_, BusHealth>;

    /// How many messages lie on a stream; none if there is no such stream.
    ///
    /// # Errors
    /// When the broker is away.
    fn length<'a>(&'a self, stream: &'a Stream) -> Answer<'a, u64>;

    /// How far a group is behind.
    ///
    /// # Errors
    /// When the broker is away, or there is no such stream or group.
    fn lag<'a>(&'a self, stream: &'a Stream, group: &'a str) -> Answer<'a, Lag>;

    /// Drops what was stored before `keep_since`, and the oldest ones while there are more than
    /// `keep_max`; never what a group has not acknowledged. Says how many went. Bounded: what is
    /// left goes with the next calls.
    ///
    /// # Errors
    /// When the broker is away.
    fn trim<'a>(
        &'a self,
        stream: &'a Stream,
        keep_since: Timestamp,
        keep_max: u64,
    ) -> Answer<'a, u64>;

    /// Up to `max` messages as they lie there, for nobody's group: nothing changes by it.
    ///
    /// # Errors
    /// When the broker is away.
    fn replay<'a>(
        &'a self,
        stream: &'a Stream,
        from: From,
        max: usize,
    ) -> Answer<'a, Vec<Delivery>>;
}

/// The bus that the settings name. Connects when first used.
///
/// # Errors
/// When a URL cannot be understood.
pub fn open(config: &Config, clock: &Clock) -> anyhow::Result<Arc<dyn EventBus>> {
    open_as(config.bus.provider, config, clock)
}

/// A bus of this provider, for those that need two at a time (moving from one to the other).
///
/// # Errors
/// When a URL cannot be understood.
pub fn open_as(
    provider: config::Provider,
    config: &Config,
    clock: &Clock,
) -> anyhow::Result<Arc<dyn EventBus>> {
    Ok(match provider {
        config::Provider::Redis => Arc::new(redis_streams::RedisStreams::new(config)?),
        config::Provider::Nats => Arc::new(nats::Nats::new(config, clock.clone())?),
        config::Provider::Memory => Arc::new(memory::Memory::new(&config.bus, clock.clone())),
    })
}
