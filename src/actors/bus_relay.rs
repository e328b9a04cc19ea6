//! Carries messages from the outbox to the bus: claim, publish, mark. While installations move
//! from one broker to another it publishes to both, and a message is sent when both have it.

use std::sync::Arc;

use anyhow::anyhow;

use super::pace::Pace;
use super::{Actor, Next};
use crate::app::messages::parcels::Parcels;
use crate::app::messages::relay::{Claimed, Outbox, Published, Settled};
use crate::bus::{EventBus, Outgoing, Position, PublishError, Status};
use crate::fault::crash_point;

/// The relay of the bus. Any number of them, in any number of processes, share the work.
pub struct BusRelay {
    outbox: Outbox,
    parcels: Parcels,
    bus: Arc<dyn EventBus>,
    also: Option<Arc<dyn EventBus>>,
    pace: Pace,
    batch_max: usize,
}

impl BusRelay {
    /// Makes sure that streams and groups exist, groups before the first message.
    ///
    /// # Errors
    /// When a broker is away.
    pub async fn new(
        outbox: Outbox,
        parcels: Parcels,
        buses: (Arc<dyn EventBus>, Option<Arc<dyn EventBus>>),
        pace: Pace,
        batch_max: usize,
    ) -> anyhow::Result<Self> {
        let (bus, also) = buses;
        for bus in [Some(&bus), also.as_ref()].into_iter().flatten() {
            parcels.declare(bus.as_ref()).await?;
        }
        Ok(Self { outbox, parcels, bus, also, pace, batch_max })
    }

    async fn publish(&self, outgoing: &[Outgoing]) -> Vec<Result<Position, PublishError>> {
        let Some(also) = &self.also else { return self.bus.publish(outgoing).await };
        let (ours, theirs) = tokio::join!(self.bus.publish(outgoing), also.publish(outgoing));
        ours.into_iter()
            .zip(theirs)
            .map(|(ours, theirs)| ours.and_then(|at| theirs.map(|_| at)))
            .collect()
    }

    /// Whether a refusal is the message's fault: a broker that takes nothing at all refuses too.
    async fn takes_messages(&self) -> bool {
        for bus in [Some(&self.bus), self.also.as_ref()].into_iter().flatten() {
            if bus.health().await.status != Status::Up {
                return false;
            }
        }
        true
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
        let outcomes = self.publish(&outgoing).await;
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
