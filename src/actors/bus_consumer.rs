//! Carries messages from the bus to a handler: read a batch, have it dealt with in one
//! transaction, acknowledge. Outages open a breaker: then a probe goes now and then, and nothing
//! counts against the messages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Actor, Next};
use crate::app::messages::shares::Shares;
use crate::app::messages::take::{Outage, Taker};
use crate::bus::{Delivery, EventBus, Receipt, Stream, Subscriber, Subscription};
use crate::domain::breaker::{Breaker, Gate};
use crate::domain::message::Verdict;
use crate::fault::crash_point;

/// How long a step waits for the first message. A message ends the wait at once; a stop, or
/// another reader, is noticed at its end.
const PATIENCE: Duration = Duration::from_millis(200);

/// A consumer of the bus.
pub struct BusConsumer {
    bus: Arc<dyn EventBus>,
    taker: Taker,
    shares: Shares,
    streams: Vec<Stream>,
    read_max: usize,
    subscriber: Option<(BTreeSet<String>, Box<dyn Subscriber>)>,
    breaker: Breaker,
    born: Instant,
}

impl BusConsumer {
    /// A consumer in the handler's group.
    pub fn new(bus: Arc<dyn EventBus>, taker: Taker, shares: Shares, read_max: usize) -> Self {
        let streams = taker.streams();
        let (breaker, born) = (Breaker::default(), Instant::now());
        Self { bus, taker, shares, streams, read_max, subscriber: None, breaker, born }
    }

    fn group(&self) -> &'static str {
        self.taker.handler().service().name()
    }

    /// Reads the streams that are this reader's now, and no others.
    async fn subscriber(&mut self) -> anyhow::Result<Option<&mut Box<dyn Subscriber>>> {
        let held = self.shares.held().await?.clone();
        let stale = self.subscriber.as_ref().is_some_and(|(streams, _)| *streams != held);
        if stale && let Some((_, mut subscriber)) = self.subscriber.take() {
            subscriber.close().await?;
        }
        if held.is_empty() {
            return Ok(None);
        }
        if self.subscriber.is_none() {
            let mine = self.streams.iter().filter(|stream| held.contains(&stream.to_string()));
            let streams: Vec<Stream> = mine.cloned().collect();
            self.bus.declare(&streams, &[self.group()]).await?;
            // All readers of a group go by one name: whoever has a stream now is given first, and
            // in order, what the one before it was given and did not acknowledge.
            let group = self.group().to_owned();
            let subscription = Subscription { streams, consumer: group.clone(), group };
            self.subscriber = Some((held, self.bus.subscribe(subscription).await?));
        }
        Ok(self.subscriber.as_mut().map(|(_, subscriber)| subscriber))
    }

    async fn settle(&mut self, batch: &[Delivery], verdicts: &[Verdict]) -> anyhow::Result<()> {
        let Some((_, subscriber)) = self.subscriber.as_mut() else { return Ok(()) };
        let verdicts = || batch.iter().map(Delivery::receipt).zip(verdicts);
        let done = verdicts().filter(|(_, verdict)| **verdict == Verdict::Ack);
        let done: Vec<Receipt> = done.map(|(receipt, _)| receipt).collect();
        let late: Vec<(Receipt, Duration)> = verdicts()
            .filter_map(|(receipt, verdict)| match verdict {
                Verdict::Ack => None,
                Verdict::Retry(after) => Some((receipt, *after)),
            })
            .collect();
        if !late.is_empty() {
            subscriber.retry(&late).await?;
        }
        if !done.is_empty() {
            subscriber.ack(&done).await?;
        }
        Ok(())
    }

    /// Everything goes back to the broker until what is away is there again.
    async fn open_breaker(&mut self, outage: &Outage) {
        let first = !self.breaker.is_open();
        self.breaker.fail(self.born.elapsed());
        metrics::gauge!("breaker_open", "service" => self.group()).set(1.0);
        let (signals, now) = self.taker.signals();
        signals.failed(self.group(), outage.to_string(), now);
        if first {
            tracing::error!(
                service = self.group(),
                dependency = outage.dependency,
                reason = outage.reason,
                "something is away: consuming is paused"
            );
        }
        self.let_go().await;
    }

    /// What was read and is not acknowledged is for anybody, at once. What cannot be given back
    /// comes again by itself, later.
    async fn let_go(&mut self) {
        if let Some((_, mut subscriber)) = self.subscriber.take()
            && let Err(error) = subscriber.close().await
        {
            tracing::debug!(?error, service = self.group(), "not given back");
        }
    }

    fn close_breaker(&mut self) {
        // Each time: who is made anew after an outage does not know of the breaker before.
        metrics::gauge!("breaker_open", "service" => self.group()).set(0.0);
        self.taker.signals().0.recovered(self.group());
        if self.breaker.succeed() {
            tracing::info!(service = self.group(), "it is back: consuming goes on");
        }
    }
}

impl Actor for BusConsumer {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let stepped = self.round().await;
        if stepped.is_err() {
            let (signals, now) = self.taker.signals();
            signals.still_failing(self.group(), now);
            self.let_go().await;
        }
        stepped
    }

    /// Another reader takes over at once.
    async fn close(&mut self) {
        self.let_go().await;
        if let Err(error) = self.shares.release().await {
            tracing::debug!(?error, service = self.group(), "leases end by themselves");
        }
    }
}

impl BusConsumer {
    async fn round(&mut self) -> anyhow::Result<Next> {
        let max = match self.breaker.gate(self.born.elapsed()) {
            Gate::Closed => self.read_max,
            Gate::Probe => 1,
            Gate::Open(_) => return Ok(Next::Rest),
        };
        let Some(subscriber) = self.subscriber().await? else { return Ok(Next::Rest) };
        let batch = subscriber.read(max, PATIENCE).await?;
        if batch.is_empty() {
            return Ok(Next::Rest);
        }
        match self.taker.take(&batch).await {
            Ok(verdicts) => {
                self.close_breaker();
                crash_point("bus_committed");
                self.settle(&batch, &verdicts).await?;
            }
            Err(outage) => self.open_breaker(&outage).await,
        }
        Ok(Next::Again)
    }
}
