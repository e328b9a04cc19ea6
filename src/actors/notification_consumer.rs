//! Receives notifications and has them dealt with: as many at once as are there, up to the
//! prefetch (S4.36 to S4.38). Acknowledged only after the commit; what failed waits in a retry
//! queue instead of being rejected (S4.39).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::pace::Pace;
use super::{Actor, Next};
use crate::app::messages::consume::Inbox;
use crate::config::Config;
use crate::domain::message::{Received, Verdict};
use crate::fault::crash_point;
use crate::rabbit::connection::Link;
use crate::rabbit::consumer::Consumer;
use crate::rabbit::envelope::{self, Letter};
use crate::rabbit::publisher::{Outcome, Publisher};
use crate::rabbit::topology::Topology;
use crate::telemetry::messages::{Passage, Passenger, RABBITMQ};
use crate::telemetry::spans::Spans;

/// How long a step waits for the first message. A delivery ends the wait at once; a stop is
/// noticed at its end.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long deliveries gather while the desk is busy: two that deal with 80 at most each time keep
/// up with 6,000 a second.
const GATHER: Duration = Duration::from_millis(25);

/// Competing consumers of the notifications queue that share a transaction. A step waits a moment
/// for messages by itself, so its duty needs no tick.
pub struct NotificationConsumer {
    inbox: Inbox,
    topology: Topology,
    consumer: Consumer,
    retries: Publisher,
    pace: Pace,
    spans: Spans,
    /// Its loss makes the broker deliver again what is not acknowledged.
    _link: Link,
}

impl NotificationConsumer {
    /// Connects, makes sure that the queues exist, and subscribes so many times.
    ///
    /// # Errors
    /// When RabbitMQ is away or the queues cannot be declared.
    pub async fn new(
        config: &Arc<Config>,
        inbox: Inbox,
        pace: Pace,
        subscriptions: u16,
        spans: Spans,
    ) -> anyhow::Result<Self> {
        let rabbit = &config.rabbitmq;
        let link = Link::open(&rabbit.url, "notification consumer").await?;
        let topology = Topology::new(&rabbit.notifications_queue, &config.inbox.retry_delays_ms);
        topology.declare(&link.channel().await?).await?;
        let patience = Duration::from_millis(rabbit.confirm_timeout_ms);
        let retries = Publisher::open(&link, patience).await?;
        let consumer =
            Consumer::open(&link, topology.queue(), rabbit.prefetch, subscriptions).await?;
        Ok(Self { inbox, topology, consumer, retries, pace, spans, _link: link })
    }

    fn tell(&self, begun: Instant, batch: &[Received], verdicts: &[Verdict]) {
        let Some(mut done) = Passage::processed(&self.spans, RABBITMQ, begun, batch.len()) else {
            return;
        };
        for (message, verdict) in batch.iter().zip(verdicts) {
            done.add(&Passenger {
                destination: self.topology.queue(),
                id: message.id,
                kind: &message.kind,
                request_id: message.correlation_id.as_deref().unwrap_or_default(),
                traceparent: message.traceparent.as_deref(),
                failure: match verdict {
                    Verdict::Ack => message.content.is_err().then_some("dead_letter"),
                    Verdict::Retry(_) => Some("retry"),
                },
            });
        }
    }

    /// Puts a message into the retry queue whose delay fits. It is acknowledged only after that:
    /// a crash in between makes two of it, never none.
    async fn retry(&mut self, message: &Received, delay: Duration) -> anyhow::Result<()> {
        let wanted_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let queue = self.topology.retry_queue(self.topology.delay_ms(wanted_ms));
        let letter = Letter {
            id: message.id,
            kind: &message.kind,
            payload: &message.payload,
            correlation_id: message.correlation_id.as_deref().unwrap_or_default(),
            traceparent: message.traceparent.as_deref(),
            created_at: message.created_at.unwrap_or_default(),
        };
        let outcomes = self.retries.publish(&queue, &[letter]).await?;
        match outcomes.first() {
            Some(Outcome::Confirmed) => Ok(()),
            other => bail!("a message could not be put into {queue}: {other:?}"),
        }
    }
}

impl Actor for NotificationConsumer {
    async fn step(&mut self) -> anyhow::Result<Next> {
        // While people are booking, few large transactions are better than many small ones.
        self.pace.gather(GATHER).await;
        let delivered = self.consumer.batch(PATIENCE).await?;
        if delivered.deliveries.is_empty() {
            return Ok(Next::Rest);
        }
        let batch: Vec<Received> = delivered.deliveries.iter().map(envelope::read).collect();
        self.pace.keep(batch.len()).await;
        let begun = Instant::now();
        let verdicts = self.inbox.settle(&batch).await?;
        self.tell(begun, &batch, &verdicts);
        crash_point("consumer_committed");
        for (message, verdict) in batch.iter().zip(&verdicts) {
            if let Verdict::Retry(delay) = verdict {
                self.retry(message, *delay).await?;
            }
        }
        self.consumer.ack(&delivered).await?;
        Ok(Next::Again)
    }
}
