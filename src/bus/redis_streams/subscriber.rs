//! One consumer on Redis, with a connection of its own: a blocked read must not hold up anybody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use super::super::{Answer, BusError, Delivery, Receipt, Stream, Subscriber, Subscription};
use super::link::{self, Link, call};
use super::{HANDED_BYTES, Shared, deliveries, scripts};

/// Redis is asked to wait for a message at most so long at a time.
const BLOCK_MAX: Duration = Duration::from_secs(1);
/// Most that is taken of each stream at the end of such a wait; the rest comes with the next read.
const WOKEN_MAX: usize = 16;
/// How often one looks for what others let lie: half of the time that it may lie, within these.
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_secs(5);
/// As many are given back at once.
const LEAVE_STEP: usize = 500;
/// A closed subscriber gives back at most so many times as many.
const LEAVE_STEPS: usize = 20;

/// An entry as Redis tells it: its id, and name and value of each field.
type Entry = (String, Vec<Vec<u8>>);

/// One stream of a subscriber.
struct Reading {
    stream: Stream,
    key: String,
    due_key: String,
    /// Behind which of those that were its own they have not been handed out; empty: all were.
    own: String,
    next_due: Option<Instant>,
}

/// The consumer.
pub struct RedisSubscriber {
    shared: Arc<Shared>,
    link: Link,
    group: String,
    consumer: String,
    readings: Vec<Reading>,
    /// Whose turn is next: none of the streams starves.
    turn: usize,
    look_at: Instant,
    /// Set while Redis owes an answer: what was in one that nobody took is its own again.
    owed: bool,
}

impl RedisSubscriber {
    pub(super) fn new(shared: Arc<Shared>, subscription: Subscription) -> Self {
        let Subscription { streams, group, consumer } = subscription;
        let reading = |stream: Stream| Reading {
            key: shared.key(&stream),
            due_key: shared.due_key(&stream, &group),
            stream,
            own: "-".to_owned(),
            next_due: None,
        };
        Self {
            readings: streams.into_iter().map(reading).collect(),
            link: Link::new(shared.client.clone(), shared.patience),
            shared,
            group,
            consumer,
            turn: 0,
            look_at: Instant::now(),
            owed: false,
        }
    }

    async fn read(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        if std::mem::replace(&mut self.owed, true) {
            self.link.reset().await;
            for reading in &mut self.readings {
                "-".clone_into(&mut reading.own);
            }
        }
        let found = self.read_on(max, Instant::now() + wait).await?;
        self.owed = false;
        Ok(found)
    }

    async fn read_on(&mut self, max: usize, until: Instant) -> Result<Vec<Delivery>, BusError> {
        loop {
            let found = self.take(max).await?;
            let now = Instant::now();
            if !found.is_empty() || now >= until || self.readings.is_empty() {
                return Ok(found);
            }
            let due = self.readings.iter().filter_map(|reading| reading.next_due).min();
            let wake = [Some(until), Some(self.look_at), due].into_iter().flatten().min();
            let left = wake.map_or(BLOCK_MAX, |wake| wake.saturating_duration_since(now));
            let found = self.block(max, left.min(BLOCK_MAX)).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }

    /// What there is: of each stream its share, and of those with more what room is left.
    async fn take(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let idle = if Instant::now() >= self.look_at {
            self.look_at = Instant::now() + (self.shared.claim_idle / 2).clamp(LOOK_MIN, LOOK_MAX);
            self.shared.claim_idle
        } else {
            Duration::ZERO
        };
        let count = self.readings.len().min(max);
        if count == 0 {
            return Ok(Vec::new());
        }
        self.turn = (self.turn + 1) % self.readings.len();
        let share = max / count;
        let order: Vec<usize> =
            (0..count).map(|step| (self.turn + step) % self.readings.len()).collect();
        let (mut found, full) = self.take_of(&order, share, idle).await?;
        for index in full {
            let room = max.saturating_sub(found.len());
            if room == 0 {
                break;
            }
            // What came already must not be lost for an error now; the next read meets it again.
            match self.take_of(&[index], room, Duration::ZERO).await {
                Ok((more, _)) => found.extend(more),
                Err(error) => {
                    tracing::debug!(?error, "a second helping failed");
                    for reading in &mut self.readings {
                        "-".clone_into(&mut reading.own);
                    }
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Up to `share` of each of these streams, and which of them may have more.
    async fn take_of(
        &mut self,
        order: &[usize],
        share: usize,
        idle: Duration,
    ) -> Result<(Vec<Delivery>, Vec<usize>), BusError> {
        let mut pipeline = Pipeline::with_capacity(order.len());
        for reading in order.iter().filter_map(|index| self.readings.get(*index)) {
            let mut command = call(&scripts::TAKE, &[&reading.key, &reading.due_key]);
            command.arg(&self.group).arg(&self.consumer).arg(share);
            command.arg(HANDED_BYTES / order.len().max(1)).arg(self.shared.limit);
            command.arg(&reading.own).arg(millis(idle));
            pipeline.add_command(command);
        }
        let answers = self.link.all(&mut pipeline).await?;
        let (mut found, mut full, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        let mut failure = None;
        for (index, answer) in order.iter().zip(answers) {
            let Some(reading) = self.readings.get_mut(*index) else { continue };
            match answer {
                Ok(value) => {
                    let of_this = reading.put(value, self.shared.limit)?;
                    if of_this.len() >= share {
                        full.push(*index);
                    }
                    found.extend(of_this);
                }
                Err(error) if link::is_no_group(&error) => lost.push(reading.stream.clone()),
                Err(error) => failure = Some(error),
            }
        }
        if !lost.is_empty() {
            tracing::warn!(streams = ?lost, group = self.group, "declared anew: they were gone");
            if let Err(error) = self.shared.restore(&self.link, &lost).await
                && found.is_empty()
            {
                return Err(error);
            }
        }
        match failure {
            // The other streams go on.
            Some(error) if found.is_empty() => Err(link::refused(&error)),
            Some(error) => {
                tracing::warn!(%error, group = self.group, "a stream cannot be read");
                Ok((found, full))
            }
            None => Ok((found, full)),
        }
    }

    /// Waits for something new.
    async fn block(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        // 0 would mean for ever.
        let wait = millis(wait).max(1);
        let mut pipeline = Pipeline::with_capacity(1);
        let command = pipeline.cmd("XREADGROUP").arg("GROUP").arg(&self.group).arg(&self.consumer);
        command.arg("COUNT").arg(max.min(WOKEN_MAX)).arg("BLOCK").arg(wait).arg("STREAMS");
        for reading in &self.readings {
            command.arg(&reading.key);
        }
        for _ in &self.readings {
            command.arg(">");
        }
        match self.link.all(&mut pipeline).await?.into_iter().next() {
            Some(Ok(value)) => self.woken(value),
            // The streams that are gone are found by the next look at each of them.
            Some(Err(error)) if link::is_no_group(&error) => Ok(Vec::new()),
            Some(Err(error)) => Err(link::refused(&error)),
            None => Ok(Vec::new()),
        }
    }

    /// What a blocked read brought: `[[key, [[id, [field, value, ...]], ...]], ...]`.
    fn woken(&self, value: Value) -> Result<Vec<Delivery>, BusError> {
        let read: Option<Vec<(String, Vec<Entry>)>> =
            redis::from_redis_value(value).map_err(|error| link::refused(&error.into()))?;
        let mut found = Vec::new();
        for (key, entries) in read.unwrap_or_default() {
            let Some(reading) = self.readings.iter().find(|reading| reading.key == key) else {
                continue;
            };
            let mut values = Vec::with_capacity(entries.len() * 4);
            for (id, fields) in entries {
                let (length, body) = body(fields, self.shared.limit);
                values.push(Value::BulkString(id.into_bytes()));
                values.push(Value::Int(1));
                values.push(Value::Int(length));
                values.push(Value::BulkString(body));
            }
            found.extend(deliveries(&reading.stream, values, self.shared.limit));
        }
        Ok(found)
    }

    async fn ack(&mut self, dealt: &[Receipt]) -> Result<(), BusError> {
        let mut pipeline = Pipeline::new();
        for reading in &self.readings {
            let ids: Vec<String> = dealt
                .iter()
                .filter(|receipt| receipt.stream == reading.stream)
                .map(|receipt| receipt.position.to_string())
                .collect();
            if !ids.is_empty() {
                pipeline.cmd("XACK").arg(&reading.key).arg(&self.group).arg(&ids);
                pipeline.cmd("ZREM").arg(&reading.due_key).arg(&ids);
            }
        }
        self.settle(&mut pipeline).await
    }

    async fn retry(&mut self, late: &[(Receipt, Duration)]) -> Result<(), BusError> {
        let mut pipeline = Pipeline::new();
        for reading in &self.readings {
            let mut command = call(&scripts::POSTPONE, &[&reading.key, &reading.due_key]);
            command.arg(&self.group).arg(&self.consumer);
            let mut some = false;
            for (receipt, after) in late {
                if receipt.stream == reading.stream {
                    command.arg(receipt.position.to_string()).arg(millis(*after));
                    some = true;
                }
            }
            if some {
                pipeline.add_command(command);
            }
        }
        self.settle(&mut pipeline).await
    }

    async fn settle(&mut self, pipeline: &mut Pipeline) -> Result<(), BusError> {
        if pipeline.is_empty() {
            return Ok(());
        }
        for answer in self.link.all(pipeline).await? {
            match answer {
                // With the group went whatever there was to settle.
                Err(error) if !link::is_no_group(&error) => return Err(link::refused(&error)),
                _ => {}
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), BusError> {
        for _ in 0..LEAVE_STEPS {
            let mut pipeline = Pipeline::new();
            for reading in &self.readings {
                let mut command = call(&scripts::LEAVE, &[&reading.key, &reading.due_key]);
                command.arg(&self.group).arg(&self.consumer).arg(LEAVE_STEP);
                pipeline.add_command(command);
            }
            let given = self.link.all(&mut pipeline).await?;
            let more = given.into_iter().flatten().any(|count| {
                redis::from_redis_value::<usize>(count).is_ok_and(|count| count >= LEAVE_STEP)
            });
            if !more {
                break;
            }
        }
        Ok(())
    }
}

impl Reading {
    /// What the script told of this stream.
    fn put(&mut self, value: Value, limit: usize) -> Result<Vec<Delivery>, BusError> {
        let (own, next_due, gone, entries): (String, i64, u64, Vec<Value>) =
            redis::from_redis_value(value).map_err(|error| link::refused(&error.into()))?;
        self.own = own;
        self.next_due =
            u64::try_from(next_due).ok().map(|ms| Instant::now() + Duration::from_millis(ms));
        if gone > 0 {
            tracing::warn!(stream = %self.stream, gone, "pending messages were deleted");
            metrics::counter!("bus_messages_gone_total").increment(gone);
        }
        Ok(deliveries(&self.stream, entries, limit))
    }
}

/// The same as `part_entry.lua` makes of an entry: its length or -1, and what is kept of it.
fn body(fields: Vec<Vec<u8>>, limit: usize) -> (i64, Vec<u8>) {
    const KEPT: usize = 65_536;
    let mut names = fields.iter().step_by(2);
    if let Some(at) = names.position(|name| name == b"data") {
        let mut data = fields.into_iter().nth(at * 2 + 1).unwrap_or_default();
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        if data.len() > limit {
            data.truncate(KEPT);
        }
        return (length, data);
    }
    let mut kept = Vec::new();
    for pair in fields.chunks(2) {
        if kept.len() > KEPT {
            break;
        }
        if !kept.is_empty() {
            kept.push(b'\n');
        }
        kept.extend(pair.join(&b'='));
    }
    kept.truncate(KEPT);
    (-1, kept)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Subscriber for RedisSubscriber {
    fn read(&mut self, max: usize, wait: Duration) -> Answer<'_, Vec<Delivery>> {
        Box::pin(self.read(max, wait))
    }

    fn ack<'a>(&'a mut self, dealt: &'a [Receipt]) -> Answer<'a, ()> {
        Box::pin(self.ack(dealt))
    }

    fn retry<'a>(&'a mut self, late: &'a [(Receipt, Duration)]) -> Answer<'a, ()> {
        Box::pin(self.retry(late))
    }

    fn close(&mut self) -> Answer<'_, ()> {
        Box::pin(self.close())
    }
}
