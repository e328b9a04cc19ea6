//! The bare broker: what the same RabbitMQ confirms and delivers when nobody does anything else
//! with it, as the measure of how fast the outbox may drain.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, PublisherConfirm};
use tokio::task::JoinSet;

use super::result::float;
use crate::clock::Ids;
use crate::config;
use crate::rabbit::connection::Link;

/// Publications that wait for their confirmation.
const OUTSTANDING: usize = 256;
/// Bytes of a message, about those of a notification.
const MESSAGE: [u8; 300] = [b'x'; 300];
/// A message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Publishes and consumes for that long; messages a second that were both confirmed and
/// delivered. Consumers and prefetch are those of the server.
///
/// # Errors
/// When RabbitMQ is away.
pub async fn raw(config: &config::Rabbit, time: Duration) -> anyhow::Result<f64> {
    let link = Link::open(&config.url, "bench").await.context("RABBITMQ_URL")?;
    let queue = format!("bench.raw.{:08x}", Ids.jitter(1 << 32));
    let channel = link.channel().await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
    let measured = both_ways(&link, config, &queue, time).await;
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.ok();
    link.close().await.ok();
    measured
}

async fn both_ways(
    link: &Link,
    config: &config::Rabbit,
    queue: &str,
    time: Duration,
) -> anyhow::Result<f64> {
    let delivered = Arc::new(AtomicU64::new(0));
    let receiving = Link::open(&config.url, "bench").await?;
    let mut consumers = JoinSet::new();
    for _ in 0..config.consumers {
        let channel = receiving.channel().await?;
        channel.basic_qos(config.prefetch, BasicQosOptions::default()).await?;
        consumers.spawn(consume(channel, queue.to_owned(), Arc::clone(&delivered)));
    }
    let started = Instant::now();
    let channel = link.channel().await?;
    let confirmed = publish(&channel, queue, time).await?;
    let seconds = started.elapsed().as_secs_f64();
    let delivered = delivered.load(Ordering::Relaxed);
    consumers.shutdown().await;
    receiving.close().await.ok();
    Ok(float(confirmed.min(delivered)) / seconds)
}

async fn publish(channel: &Channel, queue: &str, time: Duration) -> anyhow::Result<u64> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let started = Instant::now();
    let mut outstanding: VecDeque<PublisherConfirm> = VecDeque::with_capacity(OUTSTANDING);
    let mut confirmed = 0;
    while started.elapsed() < time {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let published =
            channel.basic_publish("".into(), queue.into(), options, &MESSAGE, properties).await?;
        outstanding.push_back(published);
        if outstanding.len() >= OUTSTANDING
            && let Some(oldest) = outstanding.pop_front()
        {
            oldest.await?;
            confirmed += 1;
        }
    }
    Ok(confirmed)
}

async fn consume(channel: Channel, queue: String, delivered: Arc<AtomicU64>) -> lapin::Result<()> {
    let options = BasicConsumeOptions::default();
    let mut deliveries =
        channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    while let Some(delivery) = deliveries.next().await {
        delivery?.ack(BasicAckOptions::default()).await?;
        delivered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
