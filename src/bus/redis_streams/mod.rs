//! The bus on Redis Streams (written for 6.2 and later, tested with 7.0). A stream is a key, a
//! group is a consumer group that begins at 0. What waits to be retried is pending for a consumer
//! called `(waiting)`, and in a sorted set beside the stream, by when it is due. Commands that are
//! several in truth are scripts (`bus/lua/`), so that a crash leaves nothing half done.
//!
//! Redis does not leave out second copies: what is published twice is there twice. It stores in
//! memory and writes to disk each second, so that what it confirmed last may be lost; then it is
//! published again from PostgreSQL.

mod link;
mod scripts;
mod subscriber;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use redis::{Client, Pipeline, RedisResult, Value};
use secrecy::ExposeSecret as _;

use self::link::{Failure, Link, call};
use self::subscriber::RedisSubscriber;
use super::{
    Answer, BusError, BusHealth, Delivery, EventBus, From, Lag, Outgoing, Position, PublishError,
    Status, Stream, Subscriber, Subscription,
};
use crate::config::{self, Config};
use crate::domain::message::Defect;

/// A script appends at most so many messages, or about so many bytes: Redis does nothing else
/// meanwhile.
const APPEND_MAX: usize = 128;
const APPEND_BYTES: usize = 1 << 20;
/// About as many bytes are handed out at once.
const HANDED_BYTES: usize = 8 << 20;
/// A script drops at most so many entries, and a trim calls it so many times.
const TRIM_STEP: u64 = 1000;
const TRIM_STEPS: usize = 50;
/// A consumer that has nothing and has not asked for so long is struck off.
const GONE: Duration = Duration::from_hours(24);
/// As many messages are counted by hand when Redis does not know how many there are.
const COUNT_MAX: u64 = 10_000;

/// What subscribers and the bus share.
struct Shared {
    client: Client,
    prefix: String,
    limit: usize,
    patience: Duration,
    claim_idle: Duration,
    link: Link,
    declared: Mutex<BTreeMap<Stream, BTreeSet<String>>>,
}

/// The provider.
pub struct RedisStreams(Arc<Shared>);

impl RedisStreams {
    /// Connects when first used, with connections of its own.
    ///
    /// # Errors
    /// When the URL cannot be understood.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let client = Client::open(config.redis.url.expose_secret())
            .context("redis.url (REDIS_URL) is not a Redis URL")?;
        let patience = Duration::from_millis(config.bus.answer_timeout_ms);
        Ok(Self(Arc::new(Shared {
            link: Link::new(client.clone(), patience),
            client,
            prefix: config.bus.prefix.clone(),
            limit: config.bus.message_limit_bytes,
            patience,
            claim_idle: Duration::from_millis(config.bus.claim_idle_ms),
            declared: Mutex::default(),
        })))
    }
}

impl Shared {
    fn key(&self, stream: &Stream) -> String {
        stream.redis_key(&self.prefix)
    }

    /// In a cluster the braces keep it where the stream is.
    fn due_key(&self, stream: &Stream, group: &str) -> String {
        format!("{{{}}}:due:{group}", self.key(stream))
    }

    fn groups(&self, stream: &Stream) -> Vec<String> {
        let declared = self.declared.lock();
        declared
            .ok()
            .and_then(|declared| {
                declared.get(stream).map(|groups| groups.iter().cloned().collect())
            })
            .unwrap_or_default()
    }

    fn remember(&self, streams: &[Stream], groups: &[&str]) {
        if let Ok(mut declared) = self.declared.lock() {
            for stream in streams {
                let known = declared.entry(stream.clone()).or_default();
                known.extend(groups.iter().map(|group| (*group).to_owned()));
            }
        }
    }

    /// Makes the groups that were declared of these streams, where they are not.
    async fn restore(&self, link: &Link, streams: &[Stream]) -> Result<(), BusError> {
        let mut pipeline = Pipeline::new();
        for stream in streams {
            let key = self.key(stream);
            for group in self.groups(stream) {
                let create = pipeline.cmd("XGROUP").arg("CREATE");
                create.arg(&key).arg(group).arg("0").arg("MKSTREAM");
            }
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        for answer in link.all(&mut pipeline).await? {
            match answer {
                Err(error) if error.code() != Some("BUSYGROUP") => {
                    return Err(link::refused(&error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn length(&self, stream: &Stream) -> Result<u64, BusError> {
        let mut command = redis::cmd("XLEN");
        command.arg(self.key(stream));
        Ok(self.link.one(command).await?)
    }

    async fn lag(&self, stream: &Stream, group: &str) -> Result<Lag, BusError> {
        let key = self.key(stream);
        let mut command = call(&scripts::LAG, &[&key]);
        command.arg(group).arg(COUNT_MAX);
        let mut told: Vec<Value> = self.link.one(command.clone()).await?;
        if told.is_empty() {
            self.restore(&self.link, std::slice::from_ref(stream)).await?;
            told = self.link.one(command).await?;
        }
        if told.is_empty() {
            return Err(BusError::Refused(anyhow!("{stream} has no group {group}")));
        }
        let value = Value::Array(told);
        let (length, pending, lag, age, last, consumers): (u64, u64, u64, i64, String, u64) =
            redis::from_redis_value(value).map_err(|error| Failure::Answer(error.into()))?;
        Ok(Lag {
            length,
            pending,
            lag,
            oldest_age: u64::try_from(age).ok().map(Duration::from_millis),
            last_position: last.parse().ok(),
            consumers,
        })
    }

    async fn trim(&self, stream: &Stream, since: Timestamp, max: u64) -> Result<u64, BusError> {
        let key = self.key(stream);
        let mut command = call(&scripts::TRIM, &[&key]);
        command.arg(since.as_millisecond().max(0)).arg(max).arg(TRIM_STEP);
        command.arg(GONE.as_millis().to_string());
        for group in self.groups(stream) {
            command.arg(group);
        }
        let mut dropped = 0;
        for _ in 0..TRIM_STEPS {
            let now: i64 = self.link.one(command.clone()).await?;
            let Ok(now) = u64::try_from(now) else {
                self.restore(&self.link, std::slice::from_ref(stream)).await?;
                break;
            };
            dropped += now;
            if now < TRIM_STEP {
                break;
            }
        }
        Ok(dropped)
    }

    async fn replay(
        &self,
        stream: &Stream,
        from: From,
        max: usize,
    ) -> Result<Vec<Delivery>, BusError> {
        let from = match from {
            From::Start => "-".to_owned(),
            From::At(position) => position.to_string(),
            From::After(position) => format!("({position}"),
            From::Time(time) => time.as_millisecond().max(0).to_string(),
        };
        let mut command = call(&scripts::LOOK, &[&self.key(stream)]);
        command.arg(from).arg(max).arg(HANDED_BYTES).arg(self.limit);
        let entries: Vec<Value> = self.link.one(command).await?;
        Ok(deliveries(stream, entries, self.limit))
    }

    async fn health(&self) -> BusHealth {
        let down = |reason| BusHealth { status: Status::Down, connected: false, reason };
        let mut pipeline = Pipeline::new();
        pipeline.cmd("INFO").arg("memory").cmd("INFO").arg("persistence");
        let told: Vec<String> = match self.link.all(&mut pipeline).await {
            Err(error) => return down(Some(format!("{:#}", anyhow::Error::new(error)))),
            Ok(answers) => answers
                .into_iter()
                .filter_map(|answer| redis::from_redis_value(answer.ok()?).ok())
                .collect(),
        };
        let told = told.join("\n");
        let number = |name: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        let full = number("maxmemory:")
            .zip(number("used_memory:"))
            .is_some_and(|(most, used)| most > 0 && used >= most);
        let (status, reason) = if told.is_empty() || number("loading:") == Some(1) {
            (Status::Degraded, Some("Redis is loading its data"))
        } else if full {
            (Status::Degraded, Some("Redis has no memory left"))
        } else {
            (Status::Up, None)
        };
        BusHealth { status, connected: true, reason: reason.map(str::to_owned) }
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Position, PublishError>> {
        let mut outcomes: Vec<Option<Result<Position, PublishError>>> = vec![None; batch.len()];
        let mut queues: BTreeMap<&Stream, Vec<(usize, &Bytes)>> = BTreeMap::new();
        for (index, one) in batch.iter().enumerate() {
            let bytes = one.body.len();
            if bytes > self.limit {
                let error = PublishError::TooLarge { bytes, limit: self.limit };
                set(&mut outcomes, index, Err(error));
            } else {
                queues.entry(&one.stream).or_default().push((index, &one.body));
            }
        }
        let mut queues: Vec<Queue<'_>> = queues
            .into_iter()
            .map(|(stream, bodies)| Queue { key: self.key(stream), bodies, done: 0 })
            .collect();
        while !queues.is_empty() {
            self.publish_round(&mut queues, &mut outcomes).await;
            queues.retain(|queue| queue.done < queue.bodies.len());
        }
        let unknown = || Err(PublishError::Lost("no answer".to_owned()));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unknown)).collect()
    }

    /// One script a stream, all of them at once.
    async fn publish_round(
        &self,
        queues: &mut [Queue<'_>],
        outcomes: &mut [Option<Result<Position, PublishError>>],
    ) {
        let mut pipeline = Pipeline::new();
        let mut counts = Vec::new();
        for queue in queues.iter() {
            let mut command = call(&scripts::APPEND, &[&queue.key]);
            let (mut count, mut bytes) = (0, 0);
            for (_, body) in queue.bodies.iter().skip(queue.done).take(APPEND_MAX) {
                if count > 0 && bytes + body.len() > APPEND_BYTES {
                    break;
                }
                command.arg(body.as_ref());
                count += 1;
                bytes += body.len();
            }
            counts.push(count);
            pipeline.add_command(command);
        }
        let answers = self.link.all(&mut pipeline).await;
        let (answers, lost) = match answers {
            Ok(answers) => (answers, None),
            Err(error) => (Vec::new(), Some(format!("{:#}", anyhow::Error::from(error)))),
        };
        let mut answers = answers.into_iter();
        for (queue, count) in queues.iter_mut().zip(counts) {
            match (&lost, answers.next()) {
                (None, Some(answer)) => queue.settle(count, answer, outcomes),
                (why, _) => {
                    queue.give_up(count, why.as_deref().unwrap_or_default(), outcomes);
                }
            }
        }
    }
}

/// What goes to one stream.
struct Queue<'a> {
    key: String,
    bodies: Vec<(usize, &'a Bytes)>,
    done: usize,
}

impl Queue<'_> {
    /// What Redis said of the next `count`.
    fn settle(
        &mut self,
        count: usize,
        answer: RedisResult<Value>,
        outcomes: &mut [Option<Result<Position, PublishError>>],
    ) {
        let told: Vec<String> = match answer.and_then(|value| Ok(redis::from_redis_value(value)?)) {
            Ok(told) => told,
            // The script was not run.
            Err(error) => {
                self.give_up(0, &error.to_string(), outcomes);
                return;
            }
        };
        let mut told = told.into_iter();
        let why = told.next().unwrap_or_default();
        for ((index, _), id) in self.bodies.iter().skip(self.done).take(count).zip(told) {
            let position = id.parse().map_err(|_| PublishError::Lost(format!("stored as {id:?}")));
            set(outcomes, *index, position);
        }
        if why.is_empty() {
            self.done += count;
        } else {
            self.give_up(0, &why, outcomes);
        }
    }

    /// Whether the next `unknown` were stored nobody knows; those behind them were not. Redis never
    /// says no for what is in a message, but for what is the matter with itself.
    fn give_up(
        &mut self,
        unknown: usize,
        why: &str,
        outcomes: &mut [Option<Result<Position, PublishError>>],
    ) {
        let left = self.bodies.iter().skip(self.done);
        for (nth, (index, _)) in left.enumerate() {
            let why = why.to_owned();
            let error =
                if nth < unknown { PublishError::Lost(why) } else { PublishError::NotSent(why) };
            if outcomes.get(*index).is_some_and(Option::is_none) {
                set(outcomes, *index, Err(error));
            }
        }
        self.done = self.bodies.len();
    }
}

fn set<T>(outcomes: &mut [Option<T>], index: usize, outcome: T) {
    if let Some(place) = outcomes.get_mut(index) {
        *place = Some(outcome);
    }
}

/// What the scripts hand out: id, attempt, length, body, again and again.
fn deliveries(stream: &Stream, entries: Vec<Value>, limit: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(entries.len() / 4);
    let mut values = entries.into_iter();
    while let (Some(id), Some(attempt), Some(length), Some(body)) =
        (values.next(), values.next(), values.next(), values.next())
    {
        let read = || -> Option<(Position, u32, i64, Vec<u8>)> {
            let id: String = redis::from_redis_value(id).ok()?;
            Some((
                id.parse().ok()?,
                redis::from_redis_value(attempt).ok()?,
                redis::from_redis_value(length).ok()?,
                redis::from_redis_value(body).ok()?,
            ))
        };
        let Some((position, attempt, length, body)) = read() else { continue };
        let defect = match usize::try_from(length) {
            Err(_) => Some(Defect::new("the entry has no field `data`")),
            Ok(bytes) if bytes > limit => {
                Some(Defect::new(format!("the message has {bytes} bytes; at most {limit} may be")))
            }
            Ok(_) => None,
        };
        deliveries.push(Delivery {
            stream: stream.clone(),
            position,
            attempt,
            body: body.into(),
            defect,
            stored_at: stored_at(position),
        });
    }
    deliveries
}

fn stored_at(position: Position) -> Option<Timestamp> {
    let Position::Entry { ms, .. } = position else { return None };
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

impl EventBus for RedisStreams {
    fn provider(&self) -> config::Provider {
        config::Provider::Redis
    }

    fn limit(&self) -> usize {
        self.0.limit
    }

    fn declare<'a>(&'a self, streams: &'a [Stream], groups: &'a [&'a str]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.0.remember(streams, groups);
            self.0.restore(&self.0.link, streams).await
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
            self.0.restore(&self.0.link, &subscription.streams).await?;
            let subscriber: Box<dyn Subscriber> =
                Box::new(RedisSubscriber::new(Arc::clone(&self.0), subscription));
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
