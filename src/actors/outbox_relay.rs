//! Carries messages from the outbox to RabbitMQ: claim, publish, mark. The next batch is claimed
//! while the broker confirms the one before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::pace::Pace;
use super::{Actor, Next};
use crate::app::messages::relay::{Claimed, Outbox, Published, Settled};
use crate::config::Config;
use crate::fault::crash_point;
use crate::rabbit::connection::Link;
use crate::rabbit::envelope::Letter;
use crate::rabbit::publisher::{Outcome, Publisher};
use crate::rabbit::topology::Topology;
use crate::telemetry::messages::{Passage, Passenger, RABBITMQ};
use crate::telemetry::spans::Spans;

/// The outbox relay. Any number of them, in any number of processes, share the work.
pub struct OutboxRelay {
    outbox: Outbox,
    topology: Topology,
    publisher: Publisher,
    pace: Pace,
    spans: Spans,
    batch_max: usize,
    /// Claimed while the batch before was being confirmed.
    ahead: Vec<Claimed>,
    /// Its loss ends the publisher.
    _link: Link,
}

impl OutboxRelay {
    /// Connects, and makes sure that the queues exist.
    ///
    /// # Errors
    /// When RabbitMQ is away or the queues cannot be declared.
    pub async fn new(
        config: &Arc<Config>,
        outbox: Outbox,
        pace: Pace,
        spans: Spans,
    ) -> anyhow::Result<Self> {
        let rabbit = &config.rabbitmq;
        let link = Link::open(&rabbit.url, "relay").await?;
        let topology = Topology::new(&rabbit.notifications_queue, &config.inbox.retry_delays_ms);
        topology.declare(&link.channel().await?).await?;
        let patience = Duration::from_millis(rabbit.confirm_timeout_ms);
        let publisher = Publisher::open(&link, patience).await?;
        let batch_max = usize::try_from(config.relay.batch_max).unwrap_or(usize::MAX);
        outbox.hurry().await;
        let ahead = Vec::new();
        Ok(Self { outbox, topology, publisher, pace, spans, batch_max, ahead, _link: link })
    }

    /// Publishes a batch and claims the next one meanwhile.
    async fn publish(&mut self, batch: &[Claimed]) -> anyhow::Result<Vec<Outcome>> {
        let begun = Instant::now();
        let letters: Vec<Letter<'_>> = batch.iter().map(letter).collect();
        let limit = self.pace.portion(self.batch_max);
        let (outcomes, ahead) = tokio::join!(
            self.publisher.publish(self.topology.queue(), &letters),
            self.outbox.claim(limit),
        );
        // What is ahead must be known before an error leaves: it is to be given back.
        let claimed = ahead.map(|ahead| self.ahead = ahead);
        let outcomes = outcomes?;
        self.tell(begun, batch, &outcomes);
        if let Err(error) = claimed {
            tracing::warn!(
                error = format!("{:#}", anyhow!(error)),
                "the next batch is not claimed"
            );
        }
        Ok(outcomes)
    }

    fn tell(&self, begun: Instant, batch: &[Claimed], outcomes: &[Outcome]) {
        let Some(mut sent) = Passage::sent(&self.spans, RABBITMQ, begun, batch.len()) else {
            return;
        };
        for (Claimed { message, .. }, outcome) in batch.iter().zip(outcomes) {
            sent.add(&Passenger {
                destination: self.topology.queue(),
                id: message.id,
                kind: &message.kind,
                request_id: &message.correlation_id,
                traceparent: message.traceparent.as_deref(),
                failure: match outcome {
                    Outcome::Confirmed => None,
                    Outcome::Refused(_) => Some("refused"),
                    Outcome::Unroutable(_) => Some("unroutable"),
                    Outcome::Unknown(_) => Some("unconfirmed"),
                },
            });
        }
    }

    async fn settle(&self, batch: &[Claimed], outcomes: &[Outcome]) -> anyhow::Result<Settled> {
        let published: Vec<Published> = outcomes.iter().map(published).collect();
        let settled = self.outbox.settle(batch, &published).await?;
        metrics::counter!("relay_published_total").increment(settled.sent);
        metrics::counter!("relay_failed_total").increment(settled.failed);
        metrics::counter!("relay_dead_total").increment(settled.dead);
        if settled.failed + settled.dead > 0 {
            let why = outcomes.iter().find_map(|outcome| match outcome {
                Outcome::Refused(why) => Some(why.as_str()),
                _ => None,
            });
            let Settled { failed, dead, .. } = settled;
            tracing::warn!(failed, dead, why, "RabbitMQ refused messages");
        }
        Ok(settled)
    }
}

impl Actor for OutboxRelay {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let mut batch = std::mem::take(&mut self.ahead);
        if batch.is_empty() {
            batch = self.outbox.claim(self.pace.portion(self.batch_max)).await?;
        }
        if batch.is_empty() {
            return Ok(Next::Rest);
        }
        self.pace.keep(batch.len()).await;
        let outcomes = match self.publish(&batch).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.outbox.release(&batch).await?;
                self.outbox.release(&self.ahead).await?;
                return Err(error);
            }
        };
        crash_point("relay_published");
        self.settle(&batch, &outcomes).await?;
        if let Some(lost) = outcomes.iter().find_map(lost) {
            // The broker or the queue is gone. Nothing counts against the messages; a new relay
            // connects, declares the queues and sends them again.
            self.outbox.release(&self.ahead).await?;
            return Err(anyhow!("messages could not be published: {lost}"));
        }
        // Nothing ahead may only mean that the rest had to wait for this batch: look once more.
        Ok(Next::Again)
    }
}

fn letter(claimed: &Claimed) -> Letter<'_> {
    let message = &claimed.message;
    Letter {
        id: message.id,
        kind: &message.kind,
        payload: &message.payload,
        correlation_id: &message.correlation_id,
        traceparent: message.traceparent.as_deref(),
        created_at: message.created_at,
    }
}

fn published(outcome: &Outcome) -> Published {
    match outcome {
        Outcome::Confirmed => Published::Yes(None),
        Outcome::Refused(why) => Published::Refused(why.clone()),
        Outcome::Unroutable(_) | Outcome::Unknown(_) => Published::Unknown,
    }
}

fn lost(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Unroutable(why) | Outcome::Unknown(why) => Some(why),
        Outcome::Confirmed | Outcome::Refused(_) => None,
    }
}
