//! Receiving: whatever is there, up to the prefetch, without waiting for more; acknowledged all
//! at once when all are dealt with.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::FieldTable;

use super::RabbitError;
use super::connection::{Link, in_time};
use super::topology::short;

/// A subscription to a queue.
pub struct Consumer {
    channel: Channel,
    deliveries: lapin::Consumer,
    queue: String,
    prefetch: usize,
}

impl Consumer {
    /// Subscribes with a bound on what is delivered and not acknowledged (S4.37).
    ///
    /// # Errors
    /// When the connection is lost or there is no such queue.
    pub async fn open(link: &Link, queue: &str, prefetch: u16) -> Result<Self, RabbitError> {
        let channel = link.channel().await?;
        in_time(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let subscribe = channel.basic_consume(
            short(queue)?,
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let deliveries = in_time(subscribe).await?;
        Ok(Self { channel, deliveries, queue: queue.to_owned(), prefetch: usize::from(prefetch) })
    }

    /// What has been delivered, at most the prefetch; waits for the first one up to `patience`.
    ///
    /// # Errors
    /// When the connection is lost or the queue deleted. What was delivered comes again.
    pub async fn batch(&mut self, patience: Duration) -> Result<Vec<Delivery>, RabbitError> {
        let mut batch = Vec::new();
        let Ok(first) = tokio::time::timeout(patience, self.deliveries.next()).await else {
            return Ok(batch);
        };
        batch.push(self.delivered(first)?);
        while batch.len() < self.prefetch {
            let Some(next) = self.deliveries.next().now_or_never() else { break };
            batch.push(self.delivered(next)?);
        }
        Ok(batch)
    }

    /// Acknowledges everything delivered up to and including this one.
    ///
    /// # Errors
    /// When the connection is lost. All of it comes again.
    pub async fn ack_up_to(&self, last: &Delivery) -> Result<(), RabbitError> {
        let all = BasicAckOptions { multiple: true };
        Ok(self.channel.basic_ack(last.delivery_tag, all).await?)
    }

    fn delivered(&self, next: Option<lapin::Result<Delivery>>) -> Result<Delivery, RabbitError> {
        match next {
            Some(delivery) => Ok(delivery?),
            None => Err(RabbitError::QueueGone(self.queue.clone())),
        }
    }
}

/// Fetches up to `max` messages of a queue without subscribing to it.
///
/// # Errors
/// When the connection is lost or there is no such queue.
pub async fn fetch(
    channel: &Channel,
    queue: &str,
    max: usize,
) -> Result<Vec<Delivery>, RabbitError> {
    let mut fetched = Vec::new();
    while fetched.len() < max {
        let next = channel.basic_get(short(queue)?, BasicGetOptions::default());
        let Some(message) = in_time(next).await? else { break };
        fetched.push(message.delivery);
    }
    Ok(fetched)
}

/// Acknowledges everything fetched up to and including this one.
///
/// # Errors
/// When the connection is lost. All of it comes again.
pub async fn ack_fetched(channel: &Channel, last: &Delivery) -> Result<(), RabbitError> {
    Ok(channel.basic_ack(last.delivery_tag, BasicAckOptions { multiple: true }).await?)
}

/// Gives everything fetched up to and including this one back to its queue.
///
/// # Errors
/// When the connection is lost; it is given back by that.
pub async fn give_back(channel: &Channel, last: &Delivery) -> Result<(), RabbitError> {
    let all = BasicNackOptions { multiple: true, requeue: true };
    Ok(channel.basic_nack(last.delivery_tag, all).await?)
}
