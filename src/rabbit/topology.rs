//! Every queue there is, in one table.
//!
//! | Queue              | Arguments                                             | For                |
//! |--------------------|-------------------------------------------------------|--------------------|
//! | `<q>`              | none, on purpose                                      | notifications      |
//! | `<q>.retry.<ms>`   | TTL; dead-letters to `<q>` by the default exchange    | what waits         |
//! | `<q>.dead`         | none                                                  | what died in there |
//!
//! `<q>` is declared without arguments because the documented clients declare it so (S4.23):
//! RabbitMQ refuses a second declaration that differs. What a policy of the operator's, or a
//! foreign consumer's reject, makes die in the broker belongs into `<q>.dead`, which is drained
//! into the table of dead letters.

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::RabbitError;
use super::connection::in_time;

/// The queues' names, and the delays of the retry queues.
#[derive(Clone, Debug)]
pub struct Topology {
    queue: String,
    delays_ms: Vec<u64>,
}

/// How a queue is doing.
#[derive(Clone, Debug)]
pub struct Depth {
    /// Its name.
    pub queue: String,
    /// Messages that are ready.
    pub messages: u32,
    /// Consumers that listen.
    pub consumers: u32,
}

impl Topology {
    /// Names everything after the notifications queue (`NOTIFICATIONS_QUEUE`).
    pub fn new(queue: &str, delays_ms: &[u64]) -> Self {
        Self { queue: queue.to_owned(), delays_ms: delays_ms.to_vec() }
    }

    /// The notifications queue.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Where messages wait for `delay_ms`.
    pub fn retry_queue(&self, delay_ms: u64) -> String {
        format!("{}.retry.{delay_ms}", self.queue)
    }

    /// Where messages go that die inside the broker.
    pub fn dead_queue(&self) -> String {
        format!("{}.dead", self.queue)
    }

    /// The delay of the retry queues that comes closest to `wanted_ms` from above, or the longest.
    pub fn delay_ms(&self, wanted_ms: u64) -> u64 {
        let fitting = self.delays_ms.iter().filter(|delay| **delay >= wanted_ms).min();
        fitting.or(self.delays_ms.iter().max()).copied().unwrap_or(wanted_ms)
    }

    /// Makes sure that all queues exist. Doing it twice is doing it once.
    ///
    /// # Errors
    /// When RabbitMQ is away, does not allow it, or has a queue of that name with other arguments.
    pub async fn declare(&self, channel: &Channel) -> Result<(), RabbitError> {
        declare(channel, &self.queue, FieldTable::default()).await?;
        declare(channel, &self.dead_queue(), FieldTable::default()).await?;
        for delay_ms in &self.delays_ms {
            let mut arguments = FieldTable::default();
            let ttl = i64::try_from(*delay_ms).unwrap_or(i64::MAX);
            arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
            arguments.insert(
                "x-dead-letter-exchange".into(),
                AMQPValue::LongString(String::new().into()),
            );
            arguments.insert(
                "x-dead-letter-routing-key".into(),
                AMQPValue::LongString(self.queue.clone().into()),
            );
            declare(channel, &self.retry_queue(*delay_ms), arguments).await?;
        }
        Ok(())
    }

    /// How the queues are doing, without making any.
    ///
    /// # Errors
    /// When RabbitMQ is away or a queue is missing; the channel is then closed.
    pub async fn inspect(&self, channel: &Channel) -> Result<Vec<Depth>, RabbitError> {
        let mut names = vec![self.queue.clone(), self.dead_queue()];
        names.extend(self.delays_ms.iter().map(|delay| self.retry_queue(*delay)));
        let mut depths = Vec::with_capacity(names.len());
        for name in names {
            let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let seen = channel.queue_declare(short(&name)?, look, FieldTable::default());
            let seen = in_time(seen).await?;
            depths.push(Depth {
                queue: name,
                messages: seen.message_count(),
                consumers: seen.consumer_count(),
            });
        }
        Ok(depths)
    }
}

async fn declare(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), RabbitError> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    in_time(channel.queue_declare(short(name)?, durable, arguments)).await?;
    Ok(())
}

/// A name for the wire, of at most 255 bytes.
pub(super) fn short(name: &str) -> Result<ShortString, RabbitError> {
    ShortString::try_new(name).map_err(|_| {
        let start: String = name.chars().take(40).collect();
        RabbitError::Unusable(format!("{start}… is longer than 255 bytes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_round_up_to_a_queue_that_exists() {
        let topology = Topology::new("q", &[1000, 10_000]);
        assert_eq!(topology.delay_ms(1), 1000);
        assert_eq!(topology.delay_ms(1001), 10_000);
        assert_eq!(topology.delay_ms(99_000), 10_000);
        assert_eq!(topology.retry_queue(1000), "q.retry.1000");
    }
}
