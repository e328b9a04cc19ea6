//! The bus in memory, for tests of handlers and for a process that is alone and may forget: it
//! passes the same conformance suite as the brokers, but for what needs a broker to be killed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{
    Answer, BusError, BusHealth, Delivery, EventBus, From, Lag, Outgoing, Position, PublishError,
    Receipt, Status, Stream, Subscriber, Subscription,
};
use crate::clock::Clock;
use crate::config;

/// A reader looks so often whether a retry is due: the clock may be moved by hand.
const LOOK: Duration = Duration::from_millis(10);

struct Stored {
    body: Bytes,
    at: Timestamp,
}

struct Pending {
    consumer: String,
    attempt: u32,
    /// When it was handed out last.
    since: Timestamp,
    /// When it is to be handed out again, if it waits for that.
    due: Option<Timestamp>,
}

#[derive(Default)]
struct Group {
    /// Up to here all was handed out once.
    reached: u64,
    pending: BTreeMap<u64, Pending>,
    consumers: BTreeSet<String>,
}

impl Group {
    /// The first message that it has not acknowledged.
    fn unacknowledged(&self) -> u64 {
        self.pending.keys().next().copied().unwrap_or(self.reached + 1)
    }
}

#[derive(Default)]
struct Log {
    last: u64,
    messages: BTreeMap<u64, Stored>,
    groups: BTreeMap<String, Group>,
}

struct Shared {
    logs: Mutex<BTreeMap<Stream, Log>>,
    arrived: Notify,
    clock: Clock,
    limit: usize,
    claim_idle: Duration,
}

/// The provider. What it holds ends with it.
pub struct Memory(Arc<Shared>);

impl Memory {
    /// An empty one, whose delays go by `clock`.
    pub fn new(config: &config::Bus, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            logs: Mutex::default(),
            arrived: Notify::new(),
            clock,
            limit: config.message_limit_bytes,
            claim_idle: Duration::from_millis(config.claim_idle_ms),
        }))
    }
}

impl Shared {
    /// Nothing in here panics half way, so a poisoned lock guards whole values.
    fn logs(&self) -> MutexGuard<'_, BTreeMap<Stream, Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn declare(&self, streams: &[Stream], groups: &[&str]) {
        let mut logs = self.logs();
        for stream in streams {
            let log = logs.entry(stream.clone()).or_default();
            for group in groups {
                log.groups.entry((*group).to_owned()).or_default();
            }
        }
    }

    fn publish(&self, one: &Outgoing) -> Result<Position, PublishError> {
        let (bytes, limit) = (one.body.len(), self.limit);
        if bytes > limit {
            return Err(PublishError::TooLarge { bytes, limit });
        }
        let mut logs = self.logs();
        let log = logs.entry(one.stream.clone()).or_default();
        log.last += 1;
        let stored = Stored { body: one.body.clone(), at: self.clock.now() };
        log.messages.insert(log.last, stored);
        Ok(Position::Sequence(log.last))
    }
}

impl Log {
    fn delivery(&self, stream: &Stream, number: u64, attempt: u32) -> Option<Delivery> {
        let stored = self.messages.get(&number)?;
        Some(Delivery {
            stream: stream.clone(),
            position: Position::Sequence(number),
            attempt,
            body: stored.body.clone(),
            defect: None,
            stored_at: Some(stored.at),
        })
    }
}

struct MemorySubscriber {
    shared: Arc<Shared>,
    subscription: Subscription,
    /// What was its own when it came, and has not been handed out since.
    own: BTreeSet<(Stream, u64)>,
    /// Whose turn is next: none of the streams starves.
    turn: usize,
}

impl MemorySubscriber {
    fn new(shared: Arc<Shared>, subscription: Subscription) -> Self {
        let mut own = BTreeSet::new();
        let logs = shared.logs();
        for stream in &subscription.streams {
            let log = logs.get(stream);
            let Some(group) = log.and_then(|log| log.groups.get(&subscription.group)) else {
                continue;
            };
            let its = group
                .pending
                .iter()
                .filter(|(_, one)| one.consumer == subscription.consumer && one.due.is_none());
            own.extend(its.map(|(number, _)| (stream.clone(), *number)));
        }
        drop(logs);
        Self { shared, subscription, own, turn: 0 }
    }

    /// Of each stream its share, and then what room is left.
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let streams = self.subscription.streams.len().max(1);
        self.turn = (self.turn + 1) % streams;
        let mut found = Vec::new();
        for share in [max.div_ceil(streams), max] {
            for step in 0..streams {
                let place = (self.turn + step) % streams;
                let Some(stream) = self.subscription.streams.get(place).cloned() else { continue };
                let room = share.min(max.saturating_sub(found.len()));
                found.extend(self.take_of(&stream, room));
            }
        }
        found
    }

    fn take_of(&mut self, stream: &Stream, max: usize) -> Vec<Delivery> {
        let now = self.shared.clock.now();
        let mut logs = self.shared.logs();
        let Subscription { group: name, consumer, .. } = &self.subscription;
        let log = logs.entry(stream.clone()).or_default();
        let mut group = log.groups.remove(name).unwrap_or_default();
        group.consumers.insert(consumer.clone());
        // Who comes first: its own, those that are due, those that lie.
        let rank = |number: u64, one: &Pending| match one.due {
            Some(due) => (due <= now).then_some(1),
            None if self.own.contains(&(stream.clone(), number)) => Some(0),
            None => {
                let lies = now.duration_since(one.since).unsigned_abs();
                (lies >= self.shared.claim_idle).then_some(2)
            }
        };
        let pending = group.pending.iter();
        let mut again: Vec<(u8, u64)> =
            pending.filter_map(|(number, one)| Some((rank(*number, one)?, *number))).collect();
        again.sort_unstable();
        again.truncate(max);
        let mut found = Vec::new();
        for (_, number) in again {
            self.own.remove(&(stream.clone(), number));
            let Some(one) = group.pending.get_mut(&number) else { continue };
            one.attempt = one.attempt.saturating_add(1);
            (one.since, one.due) = (now, None);
            one.consumer.clone_from(consumer);
            found.extend(log.delivery(stream, number, one.attempt));
        }
        let behind = (Bound::Excluded(group.reached), Bound::Unbounded);
        let room = max.saturating_sub(found.len());
        for (number, _) in log.messages.range(behind).take(room) {
            let one = Pending { consumer: consumer.clone(), attempt: 1, since: now, due: None };
            group.reached = *number;
            group.pending.insert(*number, one);
            found.extend(log.delivery(stream, *number, 1));
        }
        log.groups.insert(name.clone(), group);
        found
    }

    async fn read(&mut self, max: usize, wait: Duration) -> Vec<Delivery> {
        let until = Instant::now() + wait;
        let shared = Arc::clone(&self.shared);
        loop {
            let arrived = shared.arrived.notified();
            let found = self.take(max);
            let left = until.saturating_duration_since(Instant::now());
            if !found.is_empty() || left.is_zero() {
                return found;
            }
            timeout(left.min(LOOK), arrived).await.ok();
        }
    }

    /// Changes what is pending for the group of this consumer.
    fn settle(&self, receipt: &Receipt, change: impl FnOnce(&mut BTreeMap<u64, Pending>, u64)) {
        let Position::Sequence(number) = receipt.position else { return };
        let mut logs = self.shared.logs();
        let log = logs.get_mut(&receipt.stream);
        if let Some(group) = log.and_then(|log| log.groups.get_mut(&self.subscription.group)) {
            change(&mut group.pending, number);
        }
    }
}

impl Subscriber for MemorySubscriber {
    fn read(&mut self, max: usize, wait: Duration) -> Answer<'_, Vec<Delivery>> {
        Box::pin(async move { Ok(self.read(max, wait).await) })
    }

    fn ack<'a>(&'a mut self, dealt: &'a [Receipt]) -> Answer<'a, ()> {
        for receipt in dealt {
            self.settle(receipt, |pending, number| {
                pending.remove(&number);
            });
        }
        Box::pin(async { Ok(()) })
    }

    fn retry<'a>(&'a mut self, late: &'a [(Receipt, Duration)]) -> Answer<'a, ()> {
        let now = self.shared.clock.now();
        for (receipt, after) in late {
            self.settle(receipt, |pending, number| {
                let one = pending.get_mut(&number);
                if let Some(one) = one.filter(|one| one.consumer == self.subscription.consumer) {
                    // The clock has cut off a part of this millisecond.
                    let after = after.saturating_add(Duration::from_millis(1));
                    one.due = Some(now.checked_add(after).unwrap_or(Timestamp::MAX));
                }
            });
        }
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Answer<'_, ()> {
        let now = self.shared.clock.now();
        let Subscription { streams, group, consumer } = &self.subscription;
        let mut logs = self.shared.logs();
        for stream in streams {
            let log = logs.get_mut(stream);
            let Some(group) = log.and_then(|log| log.groups.get_mut(group)) else { continue };
            group.consumers.remove(consumer);
            for one in group.pending.values_mut() {
                if one.consumer == *consumer && one.due.is_none() {
                    one.due = Some(now);
                }
            }
        }
        self.shared.arrived.notify_waiters();
        Box::pin(async { Ok(()) })
    }
}

impl EventBus for Memory {
    fn provider(&self) -> config::Provider {
        config::Provider::Memory
    }

    fn limit(&self) -> usize {
        self.0.limit
    }

    fn declare<'a>(&'a self, streams: &'a [Stream], groups: &'a [&'a str]) -> Answer<'a, ()> {
        self.0.declare(streams, groups);
        Box::pin(async { Ok(()) })
    }

    fn publish<'a>(
        &'a self,
        batch: &'a [Outgoing],
    ) -> BoxFuture<'a, Vec<Result<Position, PublishError>>> {
        let outcomes = batch.iter().map(|one| self.0.publish(one)).collect();
        self.0.arrived.notify_waiters();
        Box::pin(async { outcomes })
    }

    fn subscribe(&self, subscription: Subscription) -> Answer<'_, Box<dyn Subscriber>> {
        self.0.declare(&subscription.streams, &[&subscription.group]);
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let subscriber: Box<dyn Subscriber> =
                Box::new(MemorySubscriber::new(shared, subscription));
            Ok(subscriber)
        })
    }

    fn health(&self) -> BoxFuture<'_, BusHealth> {
        Box::pin(async { BusHealth { status: Status::Up, connected: true, reason: None } })
    }

    fn length<'a>(&'a self, stream: &'a Stream) -> Answer<'a, u64> {
        let length = self.0.logs().get(stream).map_or(0, |log| count(log.messages.len()));
        Box::pin(async move { Ok(length) })
    }

    fn lag<'a>(&'a self, stream: &'a Stream, group: &'a str) -> Answer<'a, Lag> {
        let logs = self.0.logs();
        let now = self.0.clock.now();
        let lag = logs.get(stream).and_then(|log| {
            let group = log.groups.get(group)?;
            let behind = (Bound::Excluded(group.reached), Bound::Unbounded);
            let oldest = log.messages.range(group.unacknowledged()..).next();
            Some(Lag {
                length: count(log.messages.len()),
                pending: count(group.pending.len()),
                lag: count(log.messages.range(behind).count()),
                oldest_age: oldest.map(|(_, one)| now.duration_since(one.at).unsigned_abs()),
                last_position: (log.last > 0).then_some(Position::Sequence(log.last)),
                consumers: count(group.consumers.len()),
            })
        });
        let missing = || BusError::Refused(anyhow!("{stream} has no group {group}"));
        let lag = lag.ok_or_else(missing);
        Box::pin(async { lag })
    }

    fn trim<'a>(
        &'a self,
        stream: &'a Stream,
        keep_since: Timestamp,
        keep_max: u64,
    ) -> Answer<'a, u64> {
        let mut dropped = 0;
        if let Some(log) = self.0.logs().get_mut(stream) {
            let bound = log.groups.values().map(Group::unacknowledged).min().unwrap_or(u64::MAX);
            while let Some((number, oldest)) = log.messages.first_key_value() {
                let goes = oldest.at < keep_since || count(log.messages.len()) > keep_max;
                if *number >= bound || !goes {
                    break;
                }
                log.messages.pop_first();
                dropped += 1;
            }
        }
        Box::pin(async move { Ok(dropped) })
    }

    fn replay<'a>(
        &'a self,
        stream: &'a Stream,
        from: From,
        max: usize,
    ) -> Answer<'a, Vec<Delivery>> {
        let logs = self.0.logs();
        let Some(log) = logs.get(stream) else { return Box::pin(async { Ok(Vec::new()) }) };
        let shown = |(number, one): &(&u64, &Stored)| match from {
            From::Start => true,
            From::At(position) => Position::Sequence(**number) >= position,
            From::After(position) => Position::Sequence(**number) > position,
            From::Time(time) => one.at >= time,
        };
        let found: Vec<Delivery> = log
            .messages
            .iter()
            .filter(shown)
            .take(max)
            .filter_map(|(number, _)| log.delivery(stream, *number, 0))
            .collect();
        Box::pin(async { Ok(found) })
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
