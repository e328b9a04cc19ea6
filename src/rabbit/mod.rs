//! MAIL ROOM. RabbitMQ: which queues there are, how a message looks, how one is sent so that its
//! arrival is known, and how many are received at once.
//!
//! Nothing here recovers a connection: it is an actor's lifetime, and its loss is an error that
//! makes the supervisor start a new actor. Who deals with messages decides; here they travel.

pub mod connection;
pub mod consumer;
pub mod envelope;
pub mod publisher;
pub mod topology;

/// Why RabbitMQ did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum RabbitError {
    /// The URL or a name cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// It is away, or closed the connection or the channel.
    #[error("RabbitMQ is unavailable")]
    Unavailable(#[from] lapin::Error),
    /// It did not answer in time.
    #[error("RabbitMQ did not answer within {0:?}")]
    Silent(std::time::Duration),
    /// It cancelled the consumer: somebody deleted the queue.
    #[error("the queue {0} is gone")]
    QueueGone(String),
}
