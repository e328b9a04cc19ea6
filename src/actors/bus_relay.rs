//! Carries messages from the outbox to the bus: look, publish, settle. While installations move
//! from one broker to another it publishes to both. A message is sent when the bus has it: the
//! other broker holds nobody up, and what it missed is sent again when it has become the bus.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, timeout};

use super::pace::Pace;
use super::{Actor, Next};
use crate::app::messages::bus_line::{Batch, BusLine, Look};
use crate::app::messages::parcels::Parcels;
use crate::app::messages::relay::{Published, Settled, Stored};
use crate::bus::{EventBus, Outgoing, Position, PublishError, Status};
use crate::domain::breaker::{Breaker, Gate};
use crate::fault::crash_point;
use crate::telemetry::messages::{self, Passage, Passenger};
use crate::telemetry::spans::Spans;

/// How long the other broker may take, while the bus waits for it.
const ALSO_PATIENCE: Duration = Duration::from_millis(500);

/// How soon to look again when another relay has the log while something waits.
const BUSY: Duration = Duration::from_millis(20);

/// The relay of the bus. In any number of processes there is one at a time; the others stand by.
pub struct BusRelay {
    line: BusLine,
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
        line: BusLine,
        parcels: Parcels,
        (bus, also): (Arc<dyn EventBus>, Option<Arc<dyn EventBus>>),
        (pace, batch_max): (Pace, usize),
        spans: Spans,
    ) -> anyhow::Result<Self> {
        parcels.declare(bus.as_ref()).await?;
        line.hurry().await;
        Ok(Self { line, parcels, bus, also: also.map(Also::new), pace, batch_max, spans })
    }

    /// Publishes a batch, and reads the next one meanwhile.
    async fn publish(
        &mut self,
        batch: &Batch,
        outgoing: &[Outgoing],
        limit: usize,
    ) -> (Vec<Result<Position, PublishError>>, Option<Batch>) {
        let ours = self.bus.publish(outgoing);
        let theirs = async {
            if let Some(also) = &mut self.also {
                also.publish(&self.parcels, outgoing).await;
            }
        };
        let published = async { tokio::join!(ours, theirs, self.line.look_ahead(batch, limit)) };
        let (outcomes, (), ahead) = tokio::select! {
            done = published => done,
            never = self.line.keep(batch) => match never {},
        };
        let ahead = ahead.unwrap_or_else(|error| {
            let error = format!("{:#}", anyhow!(error));
            tracing::warn!(error, "the next batch is not read");
            None
        });
        (outcomes, ahead)
    }

    fn tell(
        &self,
        begun: std::time::Instant,
        batch: &[Stored],
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

    /// Tells of each message that the broker will not have. What it did not take is no fault of the
    /// messages, and told once for all of them.
    fn note(
        &self,
        batch: &[Stored],
        outcomes: &[Result<Position, PublishError>],
        published: &[Published],
    ) {
        for ((message, outcome), published) in batch.iter().zip(outcomes).zip(published) {
            match outcome {
                Ok(at) => tracing::debug!(
                    r#type = message.kind, id = %message.id, position = %at, "published"
                ),
                Err(error) if matches!(published, Published::Refused(_)) => tracing::error!(
                    r#type = message.kind, id = %message.id, %error,
                    critical = self.parcels.is_critical(&message.kind), "not published"
                ),
                Err(error) => tracing::debug!(
                    r#type = message.kind, id = %message.id, %error, "not taken"
                ),
            }
        }
    }

    async fn settle(
        &mut self,
        batch: Batch,
        outcomes: &[Result<Position, PublishError>],
        ahead: Option<Batch>,
    ) -> anyhow::Result<()> {
        let refused = |outcome: &Result<_, _>| matches!(outcome, Err(PublishError::Refused(_)));
        let trusted = !outcomes.iter().any(refused) || self.takes_messages().await;
        let published: Vec<Published> =
            outcomes.iter().map(|outcome| published(outcome, trusted)).collect();
        self.note(&batch.messages, outcomes, &published);
        let Settled { sent, failed, dead } = self.line.settle(batch, &published, ahead).await?;
        metrics::counter!("bus_published_total").increment(sent);
        metrics::counter!("bus_publish_failed_total").increment(failed);
        metrics::counter!("bus_publish_dead_total").increment(dead);
        let away = outcomes.iter().zip(&published).find_map(|(outcome, published)| {
            outcome.as_ref().err().filter(|_| *published == Published::Unknown)
        });
        match away {
            // One stream of it is in trouble: the others go on.
            Some(error) if sent > 0 => {
                let unknown = published.iter().filter(|one| **one == Published::Unknown);
                let messages = unknown.count();
                tracing::warn!(messages, %error, "the bus did not take some: they are sent again");
                Ok(())
            }
            // Nothing counts against the messages; a new relay looks whether the bus is back.
            Some(error) => Err(anyhow!("messages could not be published: {error}")),
            None => Ok(()),
        }
    }
}

impl Actor for BusRelay {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let batch = match self.line.look(self.pace.portion(self.batch_max)).await? {
            Look::Batch(batch) => batch,
            Look::Idle => return Ok(Next::Rest),
            Look::Busy => return Ok(Next::Pause(BUSY)),
        };
        self.pace.keep(batch.messages.len()).await;
        let outgoing: Vec<Outgoing> =
            batch.messages.iter().map(|message| self.parcels.pack(message)).collect();
        let begun = Instant::now();
        let limit = self.pace.portion(self.batch_max);
        let (outcomes, ahead) = self.publish(&batch, &outgoing, limit).await;
        self.tell(begun.into_std(), &batch.messages, &outgoing, &outcomes);
        crash_point("bus_published");
        self.settle(batch, &outcomes, ahead).await?;
        Ok(Next::Again)
    }

    async fn close(&mut self) {
        self.line.let_go().await;
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
