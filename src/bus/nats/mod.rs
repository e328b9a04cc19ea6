//! The bus on NATS `JetStream`, from NATS 2.9 on. Each type (and each shard of one) has a stream of
//! its own, on file, whose only subject is `events.` and the type: so each can be deleted, trimmed
//! and measured by itself, and somebody who listens to `events.>` hears all. A group is a durable
//! pull consumer with explicit acknowledgement that begins at the start.
//!
//! NATS leaves out a second copy of a message (`Nats-Msg-Id`) that comes within a second. It
//! does not know consumers by name: what one had when it died comes to anybody of the group, after
//! `bus.claim_idle_ms`. It confirms before the disk does, unless the server is told otherwise
//! (`sync_interval: always`); what it loses is published again from PostgreSQL.

mod link;
mod replay;
mod subscriber;

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::anyhow;
use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config as StreamConfig, StorageType, Stream as Log};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::link::{Link, Live, away};
use self::subscriber::NatsSubscriber;
use super::{
    Answer, BusError, BusHealth, Delivery, EventBus, From, Lag, Outgoing, Position, PublishError,
    Status, Stream, Subscriber, Subscription,
};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::domain::message::Defect;

/// What NATS says when a stream is not there.
const NOT_FOUND: usize = 404;
/// What it says when it has no room, or something is broken.
const UNAVAILABLE: usize = 503;
/// A second copy of a message that comes within this time is left out. Short: one that is sent
/// again, from the dead letters or because it was lost, has the id that it had.
const DUPLICATES: Duration = Duration::from_secs(1);
/// A group may have so many messages in hand and waiting; then nothing new is given to it.
const PENDING_MAX: i64 = 100_000;
/// NATS says that a stream is deleted before its files are, and takes those of a new one with them.
const SETTLE: Duration = Duration::from_millis(250);
/// A trim drops at most so many messages, and asks for so many at once.
const TRIM_MAX: u64 = 5000;
const TRIM_WIDTH: usize = 64;
/// What is kept of a body that is too long.
const KEPT: usize = 65_536;
/// Room that a message needs beside its body: subject and headers.
const BESIDE: usize = 1024;

/// What subscribers and the bus share.
struct Shared {
    link: Link,
    prefix: String,
    limit: usize,
    patience: Duration,
    claim_idle: Duration,
    clock: Clock,
    declared: Mutex<BTreeMap<Stream, BTreeSet<String>>>,
}

/// The provider.
pub struct Nats(Arc<Shared>);

impl Nats {
    /// Connects when first used; its runtime has to outlive it.
    ///
    /// # Errors
    /// When the URL cannot be understood.
    pub fn new(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let patience = Duration::from_millis(config.bus.answer_timeout_ms);
        Ok(Self(Arc::new(Shared {
            link: Link::new(&config.bus.nats_url, patience)?,
            prefix: config.bus.prefix.clone(),
            limit: config.bus.message_limit_bytes,
            patience,
            claim_idle: Duration::from_millis(config.bus.claim_idle_ms),
            clock,
            declared: Mutex::default(),
        })))
    }
}

impl Shared {
    fn name(&self, stream: &Stream) -> String {
        stream.nats_name(&self.prefix)
    }

    fn groups(&self, stream: &Stream) -> BTreeSet<String> {
        let declared = self.declared.lock().ok();
        declared.and_then(|declared| declared.get(stream).cloned()).unwrap_or_default()
    }

    fn remember(&self, streams: &[Stream], groups: &[&str]) {
        if let Ok(mut declared) = self.declared.lock() {
            for stream in streams {
                let known = declared.entry(stream.clone()).or_default();
                known.extend(groups.iter().map(|group| (*group).to_owned()));
            }
        }
    }

    /// Makes the streams and those of their groups that were declared, where they are not.
    async fn restore(&self, streams: &[Stream]) -> Result<(), BusError> {
        let jetstream = self.link.live().await?.jetstream;
        for stream in streams {
            let config = StreamConfig {
                name: self.name(stream),
                subjects: vec![stream.nats_subject(&self.prefix)],
                storage: StorageType::File,
                num_replicas: 1,
                duplicate_window: DUPLICATES,
                ..Default::default()
            };
            let made = self.in_time(jetstream.get_or_create_stream(config)).await?;
            for group in self.groups(stream) {
                let consumer = pull::Config {
                    durable_name: Some(group),
                    deliver_policy: DeliverPolicy::All,
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: self.claim_idle,
                    max_deliver: -1,
                    max_ack_pending: PENDING_MAX,
                    ..Default::default()
                };
                self.in_time(made.create_consumer(consumer)).await?;
            }
        }
        Ok(())
    }

    /// The same for streams that were there a moment ago.
    async fn restore_lost(&self, streams: &[Stream]) -> Result<(), BusError> {
        tokio::time::sleep(SETTLE).await;
        self.restore(streams).await
    }

    /// The stream as NATS knows it, if it does.
    async fn log(&self, stream: &Stream) -> Result<Option<Log>, BusError> {
        let jetstream = self.link.live().await?.jetstream;
        let name = self.name(stream);
        let found = async {
            match jetstream.get_stream(name).await {
                Ok(log) => Ok(Some(log)),
                Err(error) => match error.kind() {
                    GetStreamErrorKind::JetStream(no) if no.code() == NOT_FOUND => Ok(None),
                    _ => Err(error),
                },
            }
        };
        self.in_time(found).await
    }

    /// Bounds what NATS may take to answer.
    async fn in_time<T, E: Into<anyhow::Error>>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BusError> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.link.blame(error.into()).await),
            Err(_) => Err(away("no answer in time")),
        }
    }

    /// The bound for a body: ours, or the server's if that is lower.
    fn limit(&self, live: &Live) -> usize {
        self.limit.min(live.client.max_payload().saturating_sub(BESIDE))
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Position, PublishError>> {
        let everything: Vec<usize> = (0..batch.len()).collect();
        let mut outcomes = self.publish_these(batch, &everything).await;
        // The stream of these is not there: nothing was stored.
        let homeless: Vec<usize> = (0..batch.len())
            .filter(|index| matches!(outcomes.get(*index), Some(Err(Fate::Homeless))))
            .collect();
        let streams: BTreeSet<&Stream> =
            homeless.iter().filter_map(|index| Some(&batch.get(*index)?.stream)).collect();
        let streams: Vec<Stream> = streams.into_iter().cloned().collect();
        if !streams.is_empty() && self.restore_lost(&streams).await.is_ok() {
            let again = self.publish_these(batch, &homeless).await;
            for (index, outcome) in homeless.into_iter().zip(again) {
                if let Some(place) = outcomes.get_mut(index) {
                    *place = outcome;
                }
            }
        }
        let told = |outcome: Result<Position, Fate>| {
            outcome.map_err(|fate| match fate {
                Fate::Homeless => PublishError::NotSent("there is no such stream".to_owned()),
                Fate::Known(error) => error,
            })
        };
        outcomes.into_iter().map(told).collect()
    }

    /// Sends these of the batch, one behind the other, and then waits for all confirms.
    async fn publish_these(
        &self,
        batch: &[Outgoing],
        indices: &[usize],
    ) -> Vec<Result<Position, Fate>> {
        let not_sent = |why: &str| Fate::Known(PublishError::NotSent(why.to_owned()));
        let live = match self.link.live().await {
            Ok(live) if live.client.connection_state() == State::Connected => live,
            _ => return indices.iter().map(|_| Err(not_sent("not connected"))).collect(),
        };
        let (mut sent, mut failed) = (Vec::with_capacity(indices.len()), BTreeSet::new());
        for one in indices.iter().filter_map(|index| batch.get(*index)) {
            let (bytes, limit) = (one.body.len(), self.limit(&live));
            if bytes > limit {
                sent.push(Err(Fate::Known(PublishError::TooLarge { bytes, limit })));
                continue;
            }
            if failed.contains(&one.stream) {
                sent.push(Err(not_sent("one before it was not sent")));
                continue;
            }
            let message = PublishMessage::build()
                .payload(one.body.clone())
                .message_id(one.id.to_string())
                .expected_stream(self.name(&one.stream));
            let subject = one.stream.nats_subject(&self.prefix);
            let confirm = live.jetstream.send_publish(subject, message).await;
            if confirm.is_err() {
                failed.insert(one.stream.clone());
            }
            sent.push(confirm.map_err(|error| fate(&error)));
        }
        let confirms = sent.into_iter().map(async |confirm| {
            let stored = confirm?.into_future().await.map_err(|error| fate(&error))?;
            Ok(Position::Sequence(stored.sequence))
        });
        join_all(confirms).await
    }

    async fn length(&self, stream: &Stream) -> Result<u64, BusError> {
        let log = self.log(stream).await?;
        Ok(log.map_or(0, |log| log.cached_info().state.messages))
    }

    async fn lag(&self, stream: &Stream, group: &str) -> Result<Lag, BusError> {
        match self.look(stream, group).await {
            Err(BusError::Refused(_)) => {
                self.restore_lost(std::slice::from_ref(stream)).await?;
                self.look(stream, group).await
            }
            found => found,
        }
    }

    async fn look(&self, stream: &Stream, group: &str) -> Result<Lag, BusError> {
        let missing = || BusError::Refused(anyhow!("there is no stream {stream}"));
        let log = self.log(stream).await?.ok_or_else(missing)?;
        let consumer = self.in_time(log.consumer_info(group)).await?;
        let state = &log.cached_info().state;
        let first = state.first_sequence.max(consumer.ack_floor.stream_sequence + 1);
        let oldest_age = if first > state.last_sequence {
            None
        } else {
            let oldest = self.in_time(log.get_raw_message(first)).await.ok();
            let stored = oldest.and_then(|oldest| timestamp(oldest.time));
            stored.map(|stored| self.clock.now().duration_since(stored).unsigned_abs())
        };
        Ok(Lag {
            length: state.messages,
            pending: u64::try_from(consumer.num_ack_pending).unwrap_or(u64::MAX),
            lag: consumer.num_pending,
            oldest_age,
            last_position: (state.last_sequence > 0)
                .then_some(Position::Sequence(state.last_sequence)),
            consumers: u64::try_from(consumer.num_waiting).unwrap_or(u64::MAX),
        })
    }

    async fn trim(&self, stream: &Stream, since: Timestamp, max: u64) -> Result<u64, BusError> {
        let jetstream = self.link.live().await?.jetstream;
        let Some(log) = self.log(stream).await? else { return Ok(0) };
        let state = log.cached_info().state.clone();
        let mut missing = self.groups(stream);
        let mut bound = state.last_sequence + 1;
        let mut consumers = log.consumers();
        while let Some(consumer) = self.in_time(consumers.try_next()).await? {
            // Those without a name come and go (a replay).
            if consumer.config.durable_name.is_some() {
                missing.remove(&consumer.name);
                bound = bound.min(consumer.ack_floor.stream_sequence + 1);
            }
        }
        if !missing.is_empty() {
            self.restore_lost(std::slice::from_ref(stream)).await?;
            return Ok(0);
        }
        let by_count = (state.last_sequence + 1).saturating_sub(max);
        let by_time = if timestamp(state.first_timestamp).is_some_and(|first| first < since) {
            self.first_since(&log, since).await?.unwrap_or(state.last_sequence + 1)
        } else {
            state.first_sequence
        };
        let keep_from = by_count.max(by_time).min(bound);
        // One by one: a purge makes servers before 2.9.15 forget what is pending (their #3892).
        let upto = keep_from.min(state.first_sequence.saturating_add(TRIM_MAX));
        let mut deletions = futures_util::stream::iter(state.first_sequence..upto)
            .map(|sequence| {
                self.in_time(delete(&jetstream, &log.cached_info().config.name, sequence))
            })
            .buffer_unordered(TRIM_WIDTH);
        let mut dropped = 0;
        while let Some(deleted) = deletions.next().await {
            dropped += u64::from(deleted?);
        }
        Ok(dropped)
    }

    async fn health(&self) -> BusHealth {
        let down =
            |reason| BusHealth { status: Status::Down, connected: false, reason: Some(reason) };
        let degraded =
            |reason| BusHealth { status: Status::Degraded, connected: true, reason: Some(reason) };
        let live = match self.link.live().await {
            Ok(live) => live,
            Err(error) => return down(format!("{:#}", anyhow::Error::new(error))),
        };
        if live.client.connection_state() != State::Connected {
            return down("not connected".to_owned());
        }
        // The server says there whether it has JetStream, and what is wrong with it.
        let asked = live.client.request("$JS.API.INFO", Bytes::new());
        let told = self.in_time(async { anyhow::Ok(asked.await?.payload) }).await;
        let said: Result<Value, BusError> =
            told.map(|body| serde_json::from_slice(&body).unwrap_or_default());
        match said {
            Ok(said) => match said.pointer("/error/description") {
                None => BusHealth { status: Status::Up, connected: true, reason: None },
                Some(why) => degraded(format!("JetStream: {why}")),
            },
            // The client is connected; nobody is there to answer for JetStream, or is too slow.
            Err(BusError::Refused(error)) => degraded(format!("JetStream: {error:#}")),
            Err(error) => down(format!("{:#}", anyhow::Error::new(error))),
        }
    }
}

/// What became of one that was not confirmed.
enum Fate {
    /// There is no stream for it: it was not stored.
    Homeless,
    /// That.
    Known(PublishError),
}

fn fate(error: &async_nats::jetstream::context::PublishError) -> Fate {
    let why = error.to_string();
    Fate::Known(match error.kind() {
        PublishErrorKind::StreamNotFound => return Fate::Homeless,
        PublishErrorKind::MaxPayloadExceeded => PublishError::Refused(why),
        PublishErrorKind::MaxAckPending => PublishError::NotSent(why),
        PublishErrorKind::Other => match code(error) {
            Some(UNAVAILABLE) => PublishError::NotSent(why),
            Some(_) => PublishError::Refused(why),
            None => PublishError::Lost(why),
        },
        _ => PublishError::Lost(why),
    })
}

/// The code with which NATS itself said no, if it did.
fn code(error: &(dyn std::error::Error + 'static)) -> Option<usize> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(said) = error.downcast_ref::<jetstream::Error>() {
            return Some(said.code());
        }
        cause = error.source();
    }
    None
}

/// Deletes a message without writing over what was on the disk. False if it was gone already.
async fn delete(jetstream: &Context, name: &str, sequence: u64) -> anyhow::Result<bool> {
    let subject = format!("STREAM.MSG.DELETE.{name}");
    let asked = json!({"seq": sequence, "no_erase": true});
    let told: Value = jetstream.request(subject, &asked).await?;
    Ok(told.get("success").is_some_and(|success| *success == Value::Bool(true)))
}

/// A time of NATS as one of ours.
fn timestamp(time: async_nats::datetime::DateTime) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.unix_timestamp_nanos()).ok()
}

/// A message as it was received; `None` if it came from no stream.
fn delivery(stream: &Stream, message: &jetstream::Message, limit: usize) -> Option<Delivery> {
    let info = message.info().ok()?;
    let bytes = message.payload.len();
    let too_long = || Defect::new(format!("the message has {bytes} bytes; at most {limit} may be"));
    let kept = if bytes > limit { KEPT.min(bytes) } else { bytes };
    Some(Delivery {
        stream: stream.clone(),
        position: Position::Sequence(info.stream_sequence),
        attempt: u32::try_from(info.delivered).unwrap_or(u32::MAX),
        body: message.payload.slice(..kept),
        defect: (bytes > limit).then(too_long),
        stored_at: timestamp(info.published),
    })
}

impl EventBus for Nats {
    fn provider(&self) -> config::Provider {
        config::Provider::Nats
    }

    fn limit(&self) -> usize {
        self.0.limit
    }

    fn declare<'a>(&'a self, streams: &'a [Stream], groups: &'a [&'a str]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.0.remember(streams, groups);
            self.0.restore(streams).await
        })
    }

    fn publish<'a>(
        &'a self,
        batch: &'a [Outgoing],
    ) -> BoxFuture<'a, Vec<Result<Position, PublishError>>> {
        Box::pin(self.0.publish(batch))
    }

    fn subscribe(&self, subscription: Subscription) -> Answer<'_, Box<dyn Subscriber>> {
        Box::pin(async move {
            self.0.remember(&subscription.streams, &[&subscription.group]);
            self.0.restore(&subscription.streams).await?;
            let subscriber: Box<dyn Subscriber> =
                Box::new(NatsSubscriber::new(Arc::clone(&self.0), subscription));
            Ok(subscriber)
        })
    }

    fn health(&self) -> BoxFuture<'_, BusHealth> {
        Box::pin(self.0.health())
    }

    fn length<'a>(&'a self, stream: &'a Stream) -> Answer<'a, u64> {
        Box::pin(self.0.length(stream))
    }

    fn lag<'a>(&'a self, stream: &'a Stream, group: &'a str) -> Answer<'a, Lag> {
        Box::pin(self.0.lag(stream, group))
    }

    fn trim<'a>(
        &'a self,
        stream: &'a Stream,
        keep_since: Timestamp,
        keep_max: u64,
    ) -> Answer<'a, u64> {
        Box::pin(self.0.trim(stream, keep_since, keep_max))
    }

    fn replay<'a>(
        &'a self,
        stream: &'a Stream,
        from: From,
        max: usize,
    ) -> Answer<'a, Vec<Delivery>> {
        Box::pin(self.0.replay(stream, from, max))
    }
}
