//! A test's own queues on the shared RabbitMQ, as a foreign client sees them.

use std::process::Stdio;
use std::time::Duration;

use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::support::{environment, eventually};

/// How long the broker's own tool may take, on a busy machine.
const OPERATED: Duration = Duration::from_mins(1);
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
        self.publish_to(channel, &self.name, body, properties).await;
    }

    /// The same to another queue.
    pub async fn publish_to(
        &self,
        channel: &Channel,
        name: &str,
        body: &str,
        properties: BasicProperties,
    ) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let body = body.as_bytes();
        let sent = channel.basic_publish("".into(), name.into(), options, body, properties);
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

    /// Gives the notifications queue a policy, as an operator does, e.g. `{"max-length":0}`.
    pub async fn set_policy(&self, definition: &str) {
        let pattern = format!("^{}$", self.name);
        rabbitmqctl(&["set_policy", "--apply-to", "queues", &self.name, &pattern, definition])
            .await;
    }

    /// Takes the policy away.
    pub async fn clear_policy(&self) {
        rabbitmqctl(&["clear_policy", &self.name]).await;
    }

    /// A message of the notifications queue that a foreign consumer does not want: it goes where
    /// the policy says.
    pub async fn reject(&self) {
        let channel = self.channel().await;
        let got = eventually(ARRIVED, || async {
            let got = channel.basic_get(self.name.as_str().into(), BasicGetOptions::default());
            let got = got.await.map_err(|error| error.to_string())?;
            got.ok_or_else(|| "the queue is empty".to_owned())
        })
        .await;
        got.delivery.reject(BasicRejectOptions { requeue: false }).await.expect("it is rejected");
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

/// The tool of the node that `./dev test` has started.
async fn rabbitmqctl(args: &[&str]) {
    let ended = Command::new("bash")
        .args(["-c", r#". "$RABBITMQ_STACK_ENV" && exec "$RABBITMQCTL" --quiet "$@""#, "ctl"])
        .args(args)
        .env("RABBITMQ_STACK_ENV", environment("RABBITMQ_STACK_ENV"))
        .env("RABBITMQCTL", environment("RABBITMQCTL"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = timeout(OPERATED, ended).await.expect("rabbitmqctl ends").expect("bash");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "rabbitmqctl {args:?}: {said}");
}
