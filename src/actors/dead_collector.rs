//! Brings what died inside the broker (by a policy of the operator's, or a foreign consumer's
//! reject) into the table of dead letters, where it is seen, counted and sent again like the rest.

use std::sync::Arc;

use lapin::Channel;
use lapin::message::Delivery;

use super::{Actor, Next};
use crate::app::messages::consume::Inbox;
use crate::config::Config;
use crate::domain::dead_letter::BROKER;
use crate::domain::message::Received;
use crate::rabbit::connection::Link;
use crate::rabbit::topology::Topology;
use crate::rabbit::{consumer, envelope};

/// Messages fetched in one step.
const BATCH: usize = 50;

/// Drains the dead-letter queue.
pub struct DeadCollector {
    inbox: Inbox,
    topology: Topology,
    channel: Channel,
    _link: Link,
}

impl DeadCollector {
    /// Connects, and makes sure that the queues exist.
    ///
    /// # Errors
    /// When RabbitMQ is away or the queues cannot be declared.
    pub async fn new(config: &Arc<Config>, inbox: Inbox) -> anyhow::Result<Self> {
        let rabbit = &config.rabbitmq;
        let link = Link::open(&rabbit.url, "dead collector").await?;
        let topology = Topology::new(&rabbit.notifications_queue, &config.inbox.retry_delays_ms);
        let channel = link.channel().await?;
        topology.declare(&channel).await?;
        Ok(Self { inbox, topology, channel, _link: link })
    }
}

impl Actor for DeadCollector {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let fetched = consumer::fetch(&self.channel, &self.topology.dead_queue(), BATCH).await?;
        let Some(last) = fetched.last() else { return Ok(Next::Rest) };
        let dead: Vec<(Received, String)> = fetched.iter().map(read).collect();
        self.inbox.bury(BROKER, &dead).await?;
        tracing::warn!(letters = dead.len(), "messages died in the broker");
        consumer::ack_fetched(&self.channel, last).await?;
        Ok(if fetched.len() < BATCH { Next::Rest } else { Next::Again })
    }
}

fn read(delivery: &Delivery) -> (Received, String) {
    let received = envelope::read(delivery);
    let reason = match &received.content {
        Ok(_) => envelope::death(delivery).unwrap_or_else(|| "died in the broker".to_owned()),
        Err(defect) => defect.reason().to_owned(),
    };
    (received, reason)
}
