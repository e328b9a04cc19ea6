//! RabbitMQ, which carries what follows from a booking.

use std::str::FromStr as _;
use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Report, Status};
use crate::config::Config;

/// Oldest version with all that the queues use.
const VERSION_MIN: (u32, u32) = (3, 8);
/// How long the server may take to greet, and as much of it as is read.
const GREETING: Duration = Duration::from_secs(2);
const GREETING_MAX: u32 = 16_384;

pub async fn examine(report: &mut Report, config: &Config) {
    let url = config.rabbitmq.url.expose_secret();
    let connection = match Connection::connect(url, ConnectionProperties::default()).await {
        Ok(connection) => connection,
        Err(error) => {
            let mend = "start RabbitMQ, or set RABBITMQ_URL (user, password and vhost included); \
                        until then messages wait in the outbox";
            return report.fail("rabbitmq.connect", error.to_string(), mend);
        }
    };
    report.ok("rabbitmq.connect", "answers");
    version(report, url).await;
    if let Err(error) = may_declare(&connection).await {
        let mend = "rabbitmqctl set_permissions -p <vhost> <user> '.*' '.*' '.*'";
        report.fail("rabbitmq.permission", error.to_string(), mend);
    } else {
        report.ok("rabbitmq.permission", "may declare queues");
    }
    queue(report, &connection, &config.rabbitmq.notifications_queue).await;
    connection.close(200, "examined".into()).await.ok();
}

async fn version(report: &mut Report, url: &str) {
    // The client library keeps the server's properties to itself, so they are read from the
    // greeting; over TLS they stay unknown.
    let greeted = timeout(GREETING, greeting(url)).await.ok().flatten();
    let Some(version) = greeted.as_deref().and_then(named_version) else {
        return report.ok("rabbitmq.version", "not told");
    };
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let mend = "upgrade RabbitMQ to 3.8 or later";
    report.expect("rabbitmq.version", number >= VERSION_MIN, version, Status::Warn, mend);
}

/// What the server says first (AMQP 0-9-1, `connection.start`).
async fn greeting(url: &str) -> Option<Vec<u8>> {
    let uri = AMQPUri::from_str(url).ok()?;
    if uri.scheme != AMQPScheme::AMQP {
        return None;
    }
    let address = (uri.authority.host.as_str(), uri.authority.port);
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await.ok()?;
    let mut head = [0_u8; 7];
    stream.read_exact(&mut head).await.ok()?;
    let size = u32::from_be_bytes(head.get(3..7)?.try_into().ok()?);
    let mut frame = Vec::new();
    stream.take(u64::from(size.min(GREETING_MAX))).read_to_end(&mut frame).await.ok()?;
    Some(frame)
}

/// The long string under the key `version` in the table of properties.
fn named_version(greeting: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\x07versionS";
    let at = greeting.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let (size, text) = greeting.get(at..)?.split_at_checked(4)?;
    let size = usize::try_from(u32::from_be_bytes(size.try_into().ok()?)).ok()?;
    std::str::from_utf8(text.get(..size)?).ok()
}

/// A queue of our own that the broker removes with the connection.
async fn may_declare(connection: &Connection) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
    let name: ShortString = queue.name().clone();
    channel.queue_delete(name, QueueDeleteOptions::default()).await?;
    Ok(())
}

async fn queue(report: &mut Report, connection: &Connection, name: &str) {
    let looked = async {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.into(), options, FieldTable::default()).await
    };
    match looked.await {
        Ok(queue) => {
            let (messages, consumers) = (queue.message_count(), queue.consumer_count());
            let found = format!("{name}: {messages} messages, {consumers} consumers");
            let mend = "messages wait and nobody reads them: serve with the role `workers`";
            let read = messages == 0 || consumers > 0;
            report.expect("rabbitmq.queue", read, found, Status::Warn, mend);
        }
        Err(error) => {
            let mend = "nothing to do if this is new: the server declares it when it starts";
            report.warn("rabbitmq.queue", format!("{name}: {error}"), mend);
        }
    }
}
