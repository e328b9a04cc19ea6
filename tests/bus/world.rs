//! A broker, a bus on it, and the words in which the cases are written.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use happening::bus::envelope::{Envelope, SOURCE};
use happening::bus::{
    self, Delivery, EventBus, Outgoing, Position, Receipt, Stream, Subscriber, Subscription,
};
use happening::clock::{Clock, Ids};
use happening::config::{Config, Provider};
use happening::domain::ids::MessageId;
use serde_json::json;

use crate::servers::{DEADLINE, Kind, Server};

/// The longest message in these tests.
pub const LIMIT: usize = 1 << 20;
/// How long a reader waits that expects something.
const SOON: Duration = Duration::from_millis(500);

/// Where a case happens.
pub struct World {
    pub bus: Arc<dyn EventBus>,
    pub stream: Stream,
    server: Option<Server>,
    provider: Provider,
}

impl World {
    /// With a bus that gives nothing to anybody else within the time of a test.
    pub async fn new(provider: Provider) -> Self {
        let server = match provider {
            Provider::Redis => Some(Server::start(Kind::Redis).await),
            Provider::Nats => Some(Server::start(Kind::Nats).await),
            Provider::Memory => None,
        };
        let mut world = Self {
            bus: open(provider, "", Duration::from_mins(10)),
            stream: Stream::of("post.created"),
            server,
            provider,
        };
        world.claim_idle(Duration::from_mins(10)).await;
        world
    }

    /// Begins again with a bus that lets messages lie for so long only.
    pub async fn claim_idle(&mut self, idle: Duration) {
        let url = self.server.as_ref().map(Server::url).unwrap_or_default();
        self.bus = open(self.provider, &url, idle);
        let until = Instant::now() + DEADLINE;
        while let Err(error) = self.bus.declare(std::slice::from_ref(&self.stream), &[]).await {
            assert!(Instant::now() < until, "{error:?}");
        }
    }

    /// Makes sure that there are these groups.
    pub async fn declare(&self, groups: &[&str]) {
        self.bus.declare(std::slice::from_ref(&self.stream), groups).await.expect("declared");
    }

    pub fn provider(&self) -> Provider {
        self.provider
    }

    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("a broker of its own")
    }

    /// Which server it is.
    pub async fn version(&mut self) -> String {
        match self.provider {
            Provider::Redis => {
                let mut redis = self.redis().await;
                let info: String =
                    redis::cmd("INFO").arg("server").query_async(&mut redis).await.unwrap();
                let line = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
                line.unwrap().trim().to_owned()
            }
            Provider::Nats => self.nats().await.server_info().version,
            Provider::Memory => String::new(),
        }
    }

    /// A client that is not ours.
    pub async fn redis(&mut self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.server().url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// A client that is not ours.
    pub async fn nats(&mut self) -> async_nats::Client {
        async_nats::connect(self.server().url()).await.unwrap()
    }

    /// Publishes messages with these numbers and wants all of them stored.
    pub async fn publish(&self, numbers: RangeInclusive<u64>) {
        let batch: Vec<Outgoing> = numbers.map(|number| outgoing(&self.stream, number)).collect();
        self.publish_batch(&batch).await;
    }

    pub async fn publish_batch(&self, batch: &[Outgoing]) {
        for outcome in self.bus.publish(batch).await {
            outcome.expect("it is stored");
        }
    }

    pub async fn subscribe(&self, group: &str, consumer: &str) -> Reader {
        self.subscribe_to(vec![self.stream.clone()], group, consumer).await
    }

    pub async fn subscribe_to(&self, streams: Vec<Stream>, group: &str, consumer: &str) -> Reader {
        let (group, consumer) = (group.to_owned(), consumer.to_owned());
        let subscription = Subscription { streams, group, consumer };
        Reader(self.bus.subscribe(subscription).await.expect("it can be subscribed to"))
    }

    /// Somebody else removes the stream.
    pub async fn delete_stream(&mut self) {
        let stream = self.stream.clone();
        match self.provider {
            Provider::Redis => {
                let mut redis = self.redis().await;
                let key = stream.redis_key("");
                redis::cmd("DEL").arg(key).exec_async(&mut redis).await.unwrap();
            }
            Provider::Nats => {
                let jetstream = async_nats::jetstream::new(self.nats().await);
                jetstream.delete_stream(stream.nats_name("")).await.unwrap();
            }
            Provider::Memory => panic!("nobody else can"),
        }
    }

    /// Somebody else deletes single messages.
    pub async fn delete_entries(&mut self, positions: &[Position]) {
        let stream = self.stream.clone();
        match self.provider {
            Provider::Redis => {
                let mut redis = self.redis().await;
                let mut delete = redis::cmd("XDEL");
                delete.arg(stream.redis_key(""));
                for position in positions {
                    delete.arg(position.to_string());
                }
                delete.exec_async(&mut redis).await.unwrap();
            }
            Provider::Nats => {
                let jetstream = async_nats::jetstream::new(self.nats().await);
                let log = jetstream.get_stream(stream.nats_name("")).await.unwrap();
                for position in positions {
                    log.delete_message(position.to_string().parse().unwrap()).await.unwrap();
                }
            }
            Provider::Memory => panic!("nobody else can"),
        }
    }

    /// Somebody else removes a group.
    pub async fn delete_group(&mut self, group: &str) {
        let stream = self.stream.clone();
        match self.provider {
            Provider::Redis => {
                let mut redis = self.redis().await;
                let key = stream.redis_key("");
                let mut destroy = redis::cmd("XGROUP");
                destroy.arg("DESTROY").arg(key).arg(group).exec_async(&mut redis).await.unwrap();
            }
            Provider::Nats => {
                let jetstream = async_nats::jetstream::new(self.nats().await);
                let log = jetstream.get_stream(stream.nats_name("")).await.unwrap();
                log.delete_consumer(group).await.unwrap();
            }
            Provider::Memory => panic!("nobody else can"),
        }
    }

    /// Somebody else puts something there.
    pub async fn put_foreign(&mut self, body: &[u8]) {
        let stream = self.stream.clone();
        match self.provider {
            Provider::Redis => {
                let mut redis = self.redis().await;
                let mut add = redis::cmd("XADD");
                add.arg(stream.redis_key("")).arg("*").arg("data").arg(body);
                add.exec_async(&mut redis).await.unwrap();
            }
            Provider::Nats => {
                let jetstream = async_nats::jetstream::new(self.nats().await);
                let body = Bytes::copy_from_slice(body);
                let sent = jetstream.publish(stream.nats_subject(""), body).await.unwrap();
                sent.await.unwrap();
            }
            Provider::Memory => panic!("nobody else can"),
        }
    }
}

fn open(provider: Provider, url: &str, idle: Duration) -> Arc<dyn EventBus> {
    let mut environment = HashMap::from([
        (
            "HAPPENING__AUTH__SIGNING_SECRET",
            "an-unguessable-secret-for-tests-0123456789".to_owned(),
        ),
        ("HAPPENING__BUS__MESSAGE_LIMIT_BYTES", LIMIT.to_string()),
        ("HAPPENING__BUS__CLAIM_IDLE_MS", idle.as_millis().to_string()),
        ("HAPPENING__BUS__ANSWER_TIMEOUT_MS", "2000".to_owned()),
        ("HAPPENING__BUS__PROVIDER", format!("{provider:?}").to_lowercase()),
    ]);
    match provider {
        Provider::Redis if !url.is_empty() => environment.insert("REDIS_URL", url.to_owned()),
        Provider::Nats if !url.is_empty() => environment.insert("NATS_URL", url.to_owned()),
        _ => None,
    };
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value));
    let config = Config::from_sources(None, environment.collect()).expect("good settings");
    bus::open(&config, &Clock::default()).expect("a bus")
}

/// A message with a number, to this stream.
pub fn outgoing(stream: &Stream, number: u64) -> Outgoing {
    let id = MessageId(Ids.uuid());
    let envelope = Envelope {
        id,
        source: SOURCE.to_owned(),
        kind: stream.kind().to_owned(),
        subject: None,
        time: Clock::default().now(),
        version: 1,
        correlation_id: None,
        traceparent: None,
        partition_key: Some(format!("key-{}", number % 7)),
        data: json!({ "number": number }),
    };
    Outgoing { stream: stream.clone(), id, body: envelope.to_bytes() }
}

/// The number of a message.
pub fn number(delivery: &Delivery) -> u64 {
    let envelope = delivery.envelope().expect("an envelope");
    envelope.data["number"].as_u64().expect("a number")
}

pub fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(number).collect()
}

pub fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(Delivery::receipt).collect()
}

/// A subscriber, with patience.
pub struct Reader(pub Box<dyn Subscriber>);

impl Reader {
    /// Reads until there are so many; what comes beyond is an error. Acknowledges none.
    pub async fn take(&mut self, count: usize) -> Vec<Delivery> {
        self.take_of(count, 50).await
    }

    /// The same, at most so many at once.
    pub async fn take_of(&mut self, count: usize, max: usize) -> Vec<Delivery> {
        let until = Instant::now() + DEADLINE;
        let mut taken = Vec::new();
        while taken.len() < count {
            assert!(Instant::now() < until, "only these of {count} came: {:?}", numbers(&taken));
            let room = max.min(count - taken.len());
            match self.0.read(room, SOON).await {
                Ok(read) => {
                    assert!(read.len() <= room, "more than was asked for");
                    taken.extend(read);
                }
                Err(error) => panic!("it cannot be read: {error:?}"),
            }
        }
        taken
    }

    /// Reads and acknowledges until it has all of these, whatever goes wrong meanwhile. Says how
    /// often each of them came.
    pub async fn take_all(&mut self, wanted: RangeInclusive<u64>) -> HashMap<u64, usize> {
        let until = Instant::now() + DEADLINE;
        let mut seen: HashMap<u64, usize> = HashMap::new();
        while !wanted.clone().all(|number| seen.contains_key(&number)) {
            let missing = wanted.clone().filter(|number| !seen.contains_key(number)).count();
            assert!(Instant::now() < until, "{missing} of {wanted:?} did not come");
            let Ok(read) = self.0.read(100, SOON).await else { continue };
            for delivery in &read {
                *seen.entry(number(delivery)).or_default() += 1;
            }
            self.0.ack(&receipts(&read)).await.ok();
        }
        seen
    }

    /// Nothing comes, though it is looked for a few times.
    pub async fn takes_nothing(&mut self) {
        for _ in 0..3 {
            let read = self.0.read(10, Duration::from_millis(30)).await.expect("it can be read");
            assert!(read.is_empty(), "{:?}", numbers(&read));
        }
    }

    pub async fn ack(&mut self, deliveries: &[Delivery]) {
        self.0.ack(&receipts(deliveries)).await.expect("it can be acknowledged");
    }

    pub async fn retry(&mut self, delivery: &Delivery, after: Duration) {
        self.0.retry(&[(delivery.receipt(), after)]).await.expect("it can wait");
    }
}
