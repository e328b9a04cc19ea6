//! Looks for messages that the broker lost after it had confirmed them, and has them sent again.
//! It takes no input and keeps no state that matters: a new one looks through the last half day.

use std::sync::Arc;

use jiff::Timestamp;
use lapin::Channel;

use super::pace::Pace;
use super::{Actor, Next};
use crate::app::alarms::signals::Signals;
use crate::app::messages::recover::{Duty, Look, Recovery};
use crate::app::messages::relay::Outbox;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::message::Lane;
use crate::domain::processing::ServiceContext;
use crate::rabbit::connection::Link;
use crate::rabbit::topology::Topology;
use crate::wake::Wake;

/// Messages looked at in one step.
const BATCH: usize = 1000;
/// Who has to have dealt with every message.
const SERVICE: ServiceContext = ServiceContext::InboxService;
const DUTIES: [Duty; 1] = [(SERVICE, None)];

/// Finds lost messages.
pub struct LostMail {
    recovery: Recovery,
    topology: Topology,
    channel: Channel,
    pace: Pace,
    relay: Wake,
    signals: Signals,
    clock: Clock,
    /// When the oldest was sent that this look found missing so far.
    oldest: Option<Timestamp>,
    _link: Link,
}

impl LostMail {
    /// Connects, and makes sure that the queues exist. `relay` is the relay's doorbell.
    ///
    /// # Errors
    /// When RabbitMQ is away or the queues cannot be declared.
    pub async fn new(
        config: &Arc<Config>,
        outbox: Outbox,
        pace: Pace,
        (relay, signals, clock): (Wake, Signals, Clock),
    ) -> anyhow::Result<Self> {
        let rabbit = &config.rabbitmq;
        let link = Link::open(&rabbit.url, "lost mail").await?;
        let topology = Topology::new(&rabbit.notifications_queue, &config.inbox.retry_delays_ms);
        let channel = link.channel().await?;
        topology.declare(&channel).await?;
        Ok(Self {
            recovery: Recovery::new(Lane::Mail, outbox, DUTIES.to_vec()),
            topology,
            channel,
            pace,
            relay,
            signals,
            clock,
            oldest: None,
            _link: link,
        })
    }
}

impl LostMail {
    /// What was sent and nobody has dealt with waits in a queue, or is lost.
    fn measure(&mut self, look: &Look) {
        let oldest = look.missing.iter().map(|one| one.sent_at).chain(self.oldest).min();
        let now = self.clock.now();
        let age = oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs());
        self.signals.waits(SERVICE.name(), u64::try_from(age).unwrap_or(0), now);
        self.oldest = oldest.filter(|_| look.more);
    }
}

impl Actor for LostMail {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let portion = self.pace.portion(BATCH);
        self.pace.keep(portion).await;
        let look = self.recovery.look(portion).await?;
        self.measure(&look);
        if look.missing.is_empty() {
            return Ok(if look.more { Next::Again } else { Next::Rest });
        }
        // While messages wait in a queue, one that is missing is most likely among them. A queue
        // that is gone is an error here: a new actor declares it, and finds it empty.
        let depths = self.topology.inspect(&self.channel).await?;
        if depths.iter().any(|depth| depth.messages > 0) {
            return Ok(Next::Rest);
        }
        let lost = self.recovery.send_again(&look.missing).await?;
        if lost > 0 {
            tracing::warn!(lost, "messages were lost by the broker and are sent again");
            metrics::counter!("messages_lost_total").increment(lost);
            self.relay.ring();
        }
        Ok(if look.more { Next::Again } else { Next::Rest })
    }
}
