//! RabbitMQ, which carries what follows from a booking.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties};
use secrecy::ExposeSecret as _;

use super::{Report, Status};
use crate::config::Config;

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
    version(report, &connection);
    if let Err(error) = may_declare(&connection).await {
        let mend = "rabbitmqctl set_permissions -p <vhost> <user> '.*' '.*' '.*'";
        report.fail("rabbitmq.permission", error.to_string(), mend);
    } else {
        report.ok("rabbitmq.permission", "may declare queues");
    }
    queue(report, &connection, &config.rabbitmq.notifications_queue).await;
    connection.close(200, "examined".into()).await.ok();
}

fn version(report: &mut Report, connection: &Connection) {
    let properties = connection.status().server_properties().unwrap_or_default();
    let version = match properties.inner().get("version") {
        Some(AMQPValue::LongString(version)) => version.to_string(),
        _ => "unknown".to_owned(),
    };
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let mend = "upgrade RabbitMQ to 3.8 or later";
    report.expect("rabbitmq.version", number >= (3, 8), version, Status::Warn, mend);
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
