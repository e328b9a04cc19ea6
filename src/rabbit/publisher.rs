//! Sending with confirms: a batch is sent in one go, then the broker's answers are awaited. It
//! confirms unroutable messages too; only the return that comes before tells (`mandatory`).

use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::time::{Instant, timeout_at};

use super::RabbitError;
use super::connection::{Link, in_time};
use super::envelope::Letter;
use super::topology::short;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the queue, on disk.
    Confirmed,
    /// The broker does not want it.
    Refused(String),
    /// There is no such queue.
    Unroutable(String),
    /// No answer: it may be in the queue or not.
    Unknown(String),
}

/// A channel whose messages are confirmed.
pub struct Publisher {
    channel: Channel,
    confirm_timeout: Duration,
}

impl Publisher {
    /// Opens one.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn open(link: &Link, confirm_timeout: Duration) -> Result<Self, RabbitError> {
        let channel = link.channel().await?;
        in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { channel, confirm_timeout })
    }

    /// Sends messages to a queue, in their order, and says what became of each.
    ///
    /// # Errors
    /// When the queue's name or an id cannot be sent; nothing has been sent then.
    pub async fn publish(
        &self,
        queue: &str,
        letters: &[Letter<'_>],
    ) -> Result<Vec<Outcome>, RabbitError> {
        let key = short(queue)?;
        let mut prepared = Vec::with_capacity(letters.len());
        for letter in letters {
            prepared.push((letter.payload, letter.properties()?));
        }
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let deadline = Instant::now() + self.confirm_timeout;
        // Polled in their order, and each hands its frames over with its first poll.
        let sends = prepared.into_iter().map(|(payload, properties)| {
            let body = payload.as_bytes();
            self.channel.basic_publish("".into(), key.clone(), options, body, properties)
        });
        let Ok(sent) = timeout_at(deadline, join_all(sends)).await else {
            return Ok(vec![Outcome::Unknown("not sent in time".to_owned()); letters.len()]);
        };
        let mut outcomes = Vec::with_capacity(letters.len());
        for confirm in sent {
            outcomes.push(match confirm {
                Ok(confirm) => match timeout_at(deadline, confirm).await {
                    Ok(Ok(confirmation)) => outcome(confirmation),
                    Ok(Err(error)) => Outcome::Unknown(error.to_string()),
                    Err(_) => Outcome::Unknown("not confirmed in time".to_owned()),
                },
                Err(error) => Outcome::Unknown(error.to_string()),
            });
        }
        Ok(outcomes)
    }
}

fn outcome(confirmation: Confirmation) -> Outcome {
    match confirmation {
        Confirmation::Ack(None) => Outcome::Confirmed,
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            Outcome::Unroutable(format!("{} {}", returned.reply_code, returned.reply_text))
        }
        Confirmation::Nack(None) => Outcome::Refused("the broker refused it (nack)".to_owned()),
        Confirmation::NotRequested => Outcome::Unknown("confirms are off".to_owned()),
    }
}
