//! Carries messages from the outbox to the bus: claim, publish, mark. While installations move
//! from one broker to another it publishes to both. A message is sent when the bus has it: the
//! other broker holds nobody up, and what it missed is sent again when it has become the bus.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, timeout};

use super::pace::Pace;
use super::{Actor, Next};
use crate::app::messages::parcels::Parcels;
use crate::app::messages::relay::{Claimed, Outbox, Published, Settled};
use crate::bus::{EventBus, Outgoing, Position, PublishError, Status};
use crate::domain::breaker::{Breaker, Gate};
use crate::fault::crash_point;
use crate::telemetry::messages::{self, Passage, Passenger};
use crate::telemetry::spans::Spans;

/// How long the other broker may take, while the bus waits for it.
const ALSO_PATIENCE: Duration = Duration::from_millis(500);

/// The relay of the bus. Any number of them, in any number of processes, share the work.
pub struct BusRelay {
    outbox: Outbox,
    parcels: Parcels,
    bus: Arc<dyn EventBus>,
    also: Option<Also>,
    pace: Pace,
    batch_max: usize,
    spans: Spans,
}

/// The other broker, while installations move from one to the other.
struct Also {
    bus: Arc<dyn EventBus>,
    declared: bool,
    breaker: Breaker,
    born: Instant,
}

impl Also {
    fn new(bus: Arc<dyn EventBus>) -> Self {
        Self { bus, declared: false, breaker: Breaker::default(), born: Instant::now() }
    }

    /// Publishes there, too, unless that failed a moment ago.
    async fn publish(&mut self, parcels: &Parcels, outgoing: &[Outgoing]) {
        if matches!(self.breaker.gate(self.born.elapsed()), Gate::Open(_)) {
            metrics::counter!("bus_also_missed_total").increment(count(outgoing.len()));
            return;
        }
        let missed = match timeout(ALSO_PATIENCE, self.try_publish(parcels, outgoing)).await {
            Ok(Ok(missed)) => missed,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the other broker is away");
                outgoing.len()
            }
            Err(_) => {
                tracing::warn!("the other broker does not answer");
                outgoing.len()
            }
        };
        if missed > 0 {
            self.breaker.fail(self.born.elapsed());
            metrics::counter!("bus_also_missed_total").increment(count(missed));
        } else {
            self.breaker.succeed();
        }
    }

    async fn try_publish(
        &mut self,
        parcels: &Parcels,
        outgoing: &[Outgoing],
    ) -> anyhow::Result<usize> {
        if !self.declared {
            parcels.declare(self.bus.as_ref()).await?;
            self.declared = true;
        }
        let outcomes = self.bus.publish(outgoing).await;
        let missed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        let missed: Vec<&PublishError> = missed.collect();
        if let Some(error) = missed.first() {
            tracing::warn!(missed = missed.len(), %error, "the other broker did not take all");
        }
        Ok(missed.len())
    }
}

fn count(messages: usize) -> u64 {
    u64::try_from(messages).unwrap_or(u64::MAX)
}

impl BusRelay {
    /// Makes sure that streams and groups exist, groups before the first message.
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn new(
        outbox: Outbox,
        parcels: Parcels,
        buses: (Arc<dyn EventBus>, Option<Arc<dyn EventBus>>),
        pace: Pace,
        batch_max: usize,
        spans: Spans,
    ) -> anyhow::Result<Self> {
        let (bus, also) = buses;
        parcels.declare(bus.as_ref()).await?;
        outbox.hurry().await;
        Ok(Self { outbox, parcels, bus, also: also.map(Also::new), pace, batch_max, spans })
    }

    async fn publish(&mut self, outgoing: &[Outgoing]) -> Vec<Result<Position, PublishError>> {
        let ours = self.bus.publish(outgoing);
        match &mut self.also {
            Some(also) => tokio::join!(ours, also.publish(&self.parcels, outgoing)).0,
            None => ours.await,
        }
    }

    fn tell(
        &self,
        begun: std::time::Instant,
        batch: &[Claimed],
        outgoing: &[Outgoing],
        outcomes: &[Result<Position, PublishError>],
    ) {
        let system = messages::system(self.bus.provider());
        let Some(mut sent) = Passage::sent(&self.spans, system, begun, batch.len()) else { return };
        for ((message, out), outcome) in batch.iter().zip(outgoing).zip(outcomes) {
            sent.add(&Passenger {
                destination: &out.stream.to_string(),
                id: message.id,
                kind: &message.kind,
                request_id: &message.correlation_id,
                traceparent: message.traceparent.as_deref(),
                failure: outcome.as_ref().err().map(|error| match error {
                    PublishError::TooLarge { .. } => "too_large",
                    PublishError::Refused(_) => "refused",
                    PublishError::NotSent(_) => "not_sent",
                    PublishError::Lost(_) => "unconfirmed",
                }),
            });
        }
    }

    /// Whether a refusal is the message's fault: a broker that takes nothing at all refuses too.
    async fn takes_messages(&self) -> bool {
        self.bus.health().await.status == Status::Up
    }

    async fn settle(
        &self,
        batch: &[Claimed],
        outcomes: &[Result<Position, PublishError>],
    ) -> anyhow::Result<()> {
        let refused = |outcome: &Result<_, _>| matches!(outcome, Err(PublishError::Refused(_)));
        let trusted = !outcomes.iter().any(refused) || self.takes_messages().await;
        let published: Vec<Published> =
            outcomes.iter().map(|outcome| published(outcome, trusted)).collect();
        let Settled { sent, failed, dead } = self.outbox.settle(batch, &published).await?;
        metrics::counter!("bus_published_total").increment(sent);
        metrics::counter!("bus_publish_failed_total").increment(failed);
        metrics::counter!("bus_publish_dead_total").increment(dead);
        for (message, outcome) in batch.iter().zip(outcomes) {
            match outcome {
                Ok(at) => tracing::debug!(
                    r#type = message.kind, id = %message.id, position = %at, "published"
                ),
                Err(error) => tracing::error!(
                    r#type = message.kind, id = %message.id, %error,
                    critical = self.parcels.is_critical(&message.kind), "not published"
                ),
            }
        }
        let away = outcomes.iter().zip(&published).find_map(|(outcome, published)| {
            outcome.as_ref().err().filter(|_| *published == Published::Unknown)
        });
        match away {
            // One stream of it is in trouble: the others go on.
            Some(_) if sent > 0 => Ok(()),
            // Nothing counts against the messages; a new relay looks whether the bus is back.
            Some(error) => Err(anyhow!("messages could not be published: {error}")),
            None => Ok(()),
        }
    }
}

impl Actor for BusRelay {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let batch = self.outbox.claim(self.pace.portion(self.batch_max)).await?;
        if batch.is_empty() {
            return Ok(Next::Rest);
        }
        self.pace.keep(batch.len()).await;
        let outgoing: Vec<Outgoing> =
            batch.iter().map(|message| self.parcels.pack(message)).collect();
        let begun = Instant::now();
        let outcomes = self.publish(&outgoing).await;
        self.tell(begun.into_std(), &batch, &outgoing, &outcomes);
        crash_point("bus_published");
        self.settle(&batch, &outcomes).await?;
        Ok(Next::Again)
    }
}

fn published(outcome: &Result<Position, PublishError>, trusted: bool) -> Published {
    match outcome {
        Ok(at) => Published::Yes(Some(at.to_string())),
        Err(error @ PublishError::TooLarge { .. }) => Published::Refused(error.to_string()),
        Err(error @ PublishError::Refused(_)) if trusted => Published::Refused(error.to_string()),
        Err(PublishError::Refused(_) | PublishError::NotSent(_) | PublishError::Lost(_)) => {
            Published::Unknown
        }
    }
}
