//! Connections: named, with a heartbeat, without any recovery of their own.

use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use secrecy::{ExposeSecret as _, SecretString};

use super::RabbitError;

/// How long connecting, or opening a channel, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A peer that is silent for twice this many seconds is gone.
const HEARTBEAT_S: u16 = 10;

/// A connection. Dropped, it is closed, and what was received over it is delivered to others.
pub struct Link {
    connection: Connection,
}

impl Link {
    /// Connects. `name` shows in RabbitMQ's list of connections.
    ///
    /// # Errors
    /// When the URL cannot be understood, or RabbitMQ is away or does not let us in.
    pub async fn open(url: &SecretString, name: &str) -> Result<Self, RabbitError> {
        let uri = parse(url.expose_secret())?;
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("happening {name}").into());
        let connection = in_time(Connection::connect_uri(uri, properties)).await?;
        Ok(Self { connection })
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn channel(&self) -> Result<Channel, RabbitError> {
        in_time(self.connection.create_channel()).await
    }

    /// Closes it in an orderly way.
    ///
    /// # Errors
    /// When it is closed already.
    pub async fn close(&self) -> Result<(), RabbitError> {
        in_time(self.connection.close(200, "bye".into())).await
    }
}

/// Bounds what RabbitMQ may take to answer.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, RabbitError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(RabbitError::Silent(PATIENCE)),
    }
}

/// Other clients take a lone slash at the end for the virtual host `/`; lapin takes it, to the
/// letter, for the one without a name, which is never meant.
fn parse(url: &str) -> Result<AMQPUri, RabbitError> {
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    let lone_slash = after_scheme.find('/') == Some(after_scheme.len().saturating_sub(1));
    let url = if lone_slash { url.trim_end_matches('/') } else { url };
    let mut uri: AMQPUri = url.parse().map_err(|_| {
        let problem = "rabbitmq.url (RABBITMQ_URL) is not an AMQP URL";
        RabbitError::Unusable(problem.to_owned())
    })?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_slash_is_the_default_host() {
        let host = |url| parse(url).unwrap().vhost;
        assert_eq!(host("amqp://u:p@localhost:5672"), "/");
        assert_eq!(host("amqp://u:p@localhost:5672/"), "/");
        assert_eq!(host("amqp://u:p@localhost:5672/%2f"), "/");
        assert_eq!(host("amqp://u:p@localhost:5672/test"), "test");
        assert!(parse("localhost").is_err());
    }
}
