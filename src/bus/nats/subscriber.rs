//! One consumer on NATS: it has asked each of its streams for messages ahead of time, so that what
//! comes while a batch is dealt with is there for the next one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, AckKind};
use async_nats::{Client, Message, StatusCode as Said, Subject};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::time::timeout;

use super::super::{Answer, BusError, Delivery, Receipt, Stream, Subscriber, Subscription};
use super::link::{Live, away};
use super::{Shared, delivery};

/// A stream is asked to wait for messages so long at a time. When it was deleted, or forgot us, we
/// find out at the end of that.
const ASKED: Duration = Duration::from_secs(1);
/// NATS tells the end of that; if it does not, we ask again so much later.
const GRACE: Duration = Duration::from_millis(500);

/// Longer than any retry waits, and not too long for NATS.
const LATE_MAX: Duration = Duration::from_hours(24 * 365);

/// One stream of a subscriber.
struct Reading {
    stream: Stream,
    name: String,
    /// So many messages it may still send.
    asked: usize,
    asked_until: Instant,
}

/// A connection, and where messages arrive.
struct Inbox {
    live: Live,
    connects: u64,
    subject: String,
    messages: async_nats::Subscriber,
}

/// The consumer.
pub struct NatsSubscriber {
    shared: Arc<Shared>,
    group: String,
    readings: Vec<Reading>,
    inbox: Option<Inbox>,
    /// What arrived and was not handed out yet, with the subject by which it is acknowledged.
    arrived: VecDeque<(Delivery, Subject)>,
    /// By which what was handed out is acknowledged.
    in_hand: HashMap<Receipt, Subject>,
    /// Streams that were not there.
    missing: Vec<Stream>,
}

impl NatsSubscriber {
    pub(super) fn new(shared: Arc<Shared>, subscription: Subscription) -> Self {
        let reading = |stream: Stream| Reading {
            name: shared.name(&stream),
            stream,
            asked: 0,
            asked_until: Instant::now(),
        };
        Self {
            readings: subscription.streams.into_iter().map(reading).collect(),
            shared,
            group: subscription.group,
            inbox: None,
            arrived: VecDeque::new(),
            in_hand: HashMap::new(),
            missing: Vec::new(),
        }
    }

    async fn read(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let until = Instant::now() + wait;
        loop {
            self.open().await?;
            self.ask(max).await?;
            if !self.missing.is_empty() {
                self.mend().await?;
                self.ask(max).await?;
            }
            self.gather(max, until).await?;
            if !self.arrived.is_empty() || Instant::now() >= until {
                return Ok(self.hand_out(max));
            }
        }
    }

    /// Makes sure that there is somewhere to arrive.
    async fn open(&mut self) -> Result<(), BusError> {
        let live = self.shared.link.live().await?;
        if let Some(inbox) = self.inbox.as_mut()
            && inbox.live.is_same(&live)
        {
            let connects = live.connects();
            if inbox.connects != connects {
                // The server that was asked is gone.
                inbox.connects = connects;
                for reading in &mut self.readings {
                    reading.asked = 0;
                }
            }
            return Ok(());
        }
        let subject = live.client.new_inbox();
        let subscribe = live.client.subscribe(format!("{subject}.*"));
        let messages = self.shared.in_time(subscribe).await?;
        for reading in &mut self.readings {
            reading.asked = 0;
        }
        self.inbox = Some(Inbox { connects: live.connects(), live, subject, messages });
        Ok(())
    }

    /// Makes the streams and groups again that were not there.
    async fn mend(&mut self) -> Result<(), BusError> {
        tracing::debug!(streams = ?self.missing, group = self.group, "declared anew");
        self.shared.restore_lost(&self.missing).await?;
        for stream in self.missing.drain(..) {
            if let Some(reading) = self.readings.iter_mut().find(|one| one.stream == stream) {
                reading.asked = 0;
            }
        }
        Ok(())
    }

    /// Asks those streams for messages that have sent what they were asked for.
    async fn ask(&mut self, max: usize) -> Result<(), BusError> {
        let Some(inbox) = self.inbox.as_ref() else { return Ok(()) };
        let batch = (max / self.readings.len().max(1)).max(1);
        let now = Instant::now();
        for (index, reading) in self.readings.iter_mut().enumerate() {
            if reading.asked > 0 {
                if now < reading.asked_until {
                    continue;
                }
                // Not even that there is nothing: nobody has heard us.
                self.missing.push(reading.stream.clone());
            }
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", reading.name, self.group);
            let request = json!({"batch": batch, "expires": ASKED.as_nanos()});
            let reply = format!("{}.{index}", inbox.subject);
            let body = Bytes::from(request.to_string());
            let sent = inbox.live.client.publish_with_reply(subject, reply, body);
            self.shared.in_time(sent).await?;
            (reading.asked, reading.asked_until) = (batch, now + ASKED + GRACE);
        }
        Ok(())
    }

    /// Waits for the first message, and takes what else is there.
    async fn gather(&mut self, max: usize, until: Instant) -> Result<(), BusError> {
        while self.arrived.len() < max {
            let Some(inbox) = self.inbox.as_mut() else { return Ok(()) };
            let next = if self.arrived.is_empty() {
                let asked = self.readings.iter().map(|reading| reading.asked_until).min();
                let until = asked.map_or(until, |asked| asked.min(until));
                let left = until.saturating_duration_since(Instant::now());
                timeout(left, inbox.messages.next()).await.ok()
            } else {
                inbox.messages.next().now_or_never()
            };
            match next {
                Some(Some(message)) => {
                    if !self.put(message) {
                        return Ok(());
                    }
                }
                Some(None) => {
                    self.inbox = None;
                    return Err(away("the connection was closed"));
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes a message in. False when a stream has to be asked again.
    fn put(&mut self, message: Message) -> bool {
        let status = message.status.unwrap_or(Said::OK);
        if status != Said::OK {
            let index = message.subject.rsplit('.').next().and_then(|last| last.parse().ok());
            let reading = index.and_then(|index: usize| self.readings.get_mut(index));
            if let Some(reading) = reading {
                reading.asked = 0;
                // Not there, or deleted while we waited.
                let ended = message.description.unwrap_or_default();
                if status == Said::NO_RESPONDERS || ended.contains("Deleted") {
                    self.missing.push(reading.stream.clone());
                }
            }
            return false;
        }
        let Some(inbox) = self.inbox.as_ref() else { return true };
        let message = jetstream::Message { message, context: inbox.live.jetstream.clone() };
        let Ok(info) = message.info() else { return true };
        let Some(reading) = self.readings.iter_mut().find(|one| one.name == info.stream) else {
            return true;
        };
        reading.asked = reading.asked.saturating_sub(1);
        let taken = delivery(&reading.stream, &message, self.shared.limit);
        let more = reading.asked > 0;
        if let (Some(taken), Some(reply)) = (taken, message.message.reply) {
            self.arrived.push_back((taken, reply));
        }
        more
    }

    fn hand_out(&mut self, max: usize) -> Vec<Delivery> {
        let count = max.min(self.arrived.len());
        let mut found = Vec::with_capacity(count);
        for (delivery, reply) in self.arrived.drain(..count) {
            self.in_hand.insert(delivery.receipt(), reply);
            found.push(delivery);
        }
        found
    }

    /// Tells the server of each of these, and waits until it has heard all.
    async fn tell(&mut self, told: Vec<(Receipt, AckKind)>) -> Result<(), BusError> {
        let live = self.shared.link.live().await?;
        let mut last: HashMap<Stream, (Subject, Bytes)> = HashMap::new();
        for (receipt, kind) in &told {
            let Some(reply) = self.in_hand.get(receipt).cloned() else { continue };
            // The last one of each stream asks for an answer: it comes behind all others.
            let before = last.insert(receipt.stream.clone(), (reply, (*kind).into()));
            if let Some((reply, kind)) = before {
                self.shared.in_time(live.client.publish(reply, kind)).await?;
            }
        }
        for (reply, kind) in last.into_values() {
            self.shared.in_time(request(&live.client, reply, kind)).await?;
        }
        for (receipt, _) in told {
            self.in_hand.remove(&receipt);
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), BusError> {
        if let Some(mut inbox) = self.inbox.take() {
            let ended = inbox.messages.unsubscribe();
            self.shared.in_time(ended).await?;
            while let Some(Some(message)) = inbox.messages.next().now_or_never() {
                let message = jetstream::Message { message, context: inbox.live.jetstream.clone() };
                let name = message.info().ok().map(|info| info.stream.to_owned());
                let reading = self.readings.iter().find(|one| Some(&one.name) == name.as_ref());
                let taken = reading
                    .and_then(|reading| delivery(&reading.stream, &message, self.shared.limit));
                if let (Some(taken), Some(reply)) = (taken, message.message.reply) {
                    self.arrived.push_back((taken, reply));
                }
            }
        }
        self.hand_out(usize::MAX);
        // They come again in the order in which they are given back.
        let mut back: Vec<Receipt> = self.in_hand.keys().cloned().collect();
        back.sort_unstable_by_key(|receipt| receipt.position);
        self.tell(back.into_iter().map(|receipt| (receipt, AckKind::Nak(None))).collect()).await
    }
}

/// Asks and takes any answer for one.
async fn request(client: &Client, subject: Subject, body: Bytes) -> anyhow::Result<()> {
    client.request(subject, body).await?;
    Ok(())
}

impl Subscriber for NatsSubscriber {
    fn read(&mut self, max: usize, wait: Duration) -> Answer<'_, Vec<Delivery>> {
        Box::pin(self.read(max, wait))
    }

    fn ack<'a>(&'a mut self, dealt: &'a [Receipt]) -> Answer<'a, ()> {
        let told = dealt.iter().map(|receipt| (receipt.clone(), AckKind::Ack)).collect();
        Box::pin(self.tell(told))
    }

    fn retry<'a>(&'a mut self, late: &'a [(Receipt, Duration)]) -> Answer<'a, ()> {
        let told = late.iter().map(|(receipt, after)| {
            // NATS takes no delay of zero for one.
            let after = (!after.is_zero()).then_some((*after).min(LATE_MAX));
            (receipt.clone(), AckKind::Nak(after))
        });
        Box::pin(self.tell(told.collect()))
    }

    fn close(&mut self) -> Answer<'_, ()> {
        Box::pin(self.close())
    }
}
