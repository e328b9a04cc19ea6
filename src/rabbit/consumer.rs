//! Receiving: whatever is there, up to the prefetch of each subscription, without waiting for
//! more; acknowledged all at once when all are dealt with.

use std::collections::HashMap;
use std::future::ready;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, SelectAll};
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

/// What one subscription delivers, with its place among them; `None` when it has ended.
type Deliveries = BoxStream<'static, (usize, Option<lapin::Result<Delivery>>)>;

/// Subscriptions to a queue that are read together: each is bounded by its prefetch, but a
/// transaction may have what several of them delivered.
pub struct Consumer {
    channels: Vec<Channel>,
    deliveries: SelectAll<Deliveries>,
    queue: String,
    most: usize,
}

/// What was delivered.
#[derive(Default)]
pub struct Batch {
    /// The messages.
    pub deliveries: Vec<Delivery>,
    /// The last tag of each subscription that has some among them.
    last: HashMap<usize, u64>,
}

impl Consumer {
    /// Subscribes `subscriptions` times, each with a bound on what is delivered and not
    /// acknowledged (S4.37).
    ///
    /// # Errors
    /// When the connection is lost or there is no such queue.
    pub async fn open(
        link: &Link,
        queue: &str,
        prefetch: u16,
        subscriptions: u16,
    ) -> Result<Self, RabbitError> {
        let (mut channels, mut deliveries) = (Vec::new(), SelectAll::new());
        for index in 0..usize::from(subscriptions) {
            let channel = link.channel().await?;
            in_time(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
            let subscribe = channel.basic_consume(
                short(queue)?,
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            let consumer = in_time(subscribe).await?.map(Some);
            let ended = stream::once(ready(None));
            let tagged = consumer.chain(ended).map(move |delivery| (index, delivery));
            deliveries.push(tagged.boxed());
            channels.push(channel);
        }
        let most = usize::from(prefetch) * usize::from(subscriptions);
        Ok(Self { channels, deliveries, queue: queue.to_owned(), most })
    }

    /// What has been delivered, at most the prefetch of each; waits for the first one up to
    /// `patience`.
    ///
    /// # Errors
    /// When the connection is lost or the queue deleted. What was delivered comes again.
    pub async fn batch(&mut self, patience: Duration) -> Result<Batch, RabbitError> {
        let mut batch = Batch::default();
        let Ok(first) = tokio::time::timeout(patience, self.deliveries.next()).await else {
            return Ok(batch);
        };
        self.put(first, &mut batch)?;
        while batch.deliveries.len() < self.most {
            let Some(next) = self.deliveries.next().now_or_never() else { break };
            self.put(next, &mut batch)?;
        }
        Ok(batch)
    }

    /// Acknowledges a batch, with one frame a subscription.
    ///
    /// # Errors
    /// When the connection is lost. All of it comes again.
    pub async fn ack(&mut self, batch: &Batch) -> Result<(), RabbitError> {
        for (index, tag) in &batch.last {
            let Some(channel) = self.channels.get(*index) else { continue };
            channel.basic_ack(*tag, BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    }

    fn put(
        &self,
        next: Option<(usize, Option<lapin::Result<Delivery>>)>,
        batch: &mut Batch,
    ) -> Result<(), RabbitError> {
        let Some((index, Some(delivery))) = next else {
            return Err(RabbitError::QueueGone(self.queue.clone()));
        };
        let delivery = delivery?;
        batch.last.insert(index, delivery.delivery_tag);
        batch.deliveries.push(delivery);
        Ok(())
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
