//! A test's own queues on the shared RabbitMQ, as a foreign client sees them.

use std::time::Duration;

use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::OnceCell;

use crate::support::{environment, eventually};

/// How long a message may take through the broker.
const ARRIVED: Duration = Duration::from_secs(10);

/// The notifications queue of a test.
pub struct Queue {
    name: String,
    connection: OnceCell<Connection>,
}

impl Queue {
    /// Nothing is declared yet.
    pub fn new(name: String) -> Self {
        Self { name, connection: OnceCell::new() }
    }

    /// What `NOTIFICATIONS_QUEUE` says.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A channel of the test's own, with confirms.
    pub async fn channel(&self) -> Channel {
        let connection = self
            .connection
            .get_or_init(|| async {
                let url = environment("RABBITMQ_URL");
                let options = ConnectionProperties::default();
                Connection::connect(&url, options).await.expect("RabbitMQ answers")
            })
            .await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        channel
    }

    /// Sends a message as a foreign client would; returns when the broker has it.
    pub async fn publish(&self, body: &str, properties: BasicProperties) {
        let channel = self.channel().await;
        self.publish_on(&channel, body, properties).await;
    }

    /// The same on a channel that is there.
    pub async fn publish_on(&self, channel: &Channel, body: &str, properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let name = self.name.as_str().into();
        let sent = channel.basic_publish("".into(), name, options, body.as_bytes(), properties);
        let confirmed = sent.await.expect("it is sent").await.expect("it is confirmed");
        assert!(confirmed.is_ack(), "{confirmed:?}");
    }

    /// Takes the next message out of a queue, waiting for it.
    pub async fn take(&self, name: &str) -> BasicGetMessage {
        let channel = self.channel().await;
        eventually(ARRIVED, || async {
            let options = BasicGetOptions { no_ack: true };
            let got = channel.basic_get(name.into(), options).await;
            got.map_err(|error| error.to_string())?.ok_or_else(|| format!("{name} is empty"))
        })
        .await
    }

    /// Messages that are ready in a queue; `None` when it does not exist.
    pub async fn depth(&self, name: &str) -> Option<u32> {
        let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let channel = self.channel().await;
        let seen = channel.queue_declare(name.into(), look, FieldTable::default()).await;
        seen.ok().map(|seen| seen.message_count())
    }

    /// Deletes a queue with what is in it.
    pub async fn remove(&self, name: &str) {
        let channel = self.channel().await;
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.ok();
    }

    /// Deletes all of them.
    pub async fn delete(&self, delays_ms: &[u64]) {
        self.remove(&self.name).await;
        self.remove(&format!("{}.dead", self.name)).await;
        for delay in delays_ms {
            self.remove(&format!("{}.retry.{delay}", self.name)).await;
        }
    }
}
