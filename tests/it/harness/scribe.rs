//! A handler for tests of the bus: it writes down what it is given, or does what it must not. And
//! the words in which they are written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use happening::actors::bus_consumer::BusConsumer;
use happening::actors::{Actor as _, Next};
use happening::app::App;
use happening::app::messages::handle::{Handled, Handler, Message, Trouble};
use happening::app::messages::parcels::Parcels;
use happening::app::messages::shares::Shares;
use happening::app::messages::take::Taker;
use happening::bus::envelope::{Envelope, SOURCE};
use happening::bus::{Outgoing, Stream};
use happening::clock::Ids;
use happening::domain::ids::MessageId;
use happening::domain::message::Defect;
use happening::domain::processing::ServiceContext;
use happening::postgres::{Conn, Db};
use happening::telemetry::spans::Spans;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{TestServer, Wishes};

pub const KIND: &str = "interest.changed";
pub const KEY: &str = "newEveInters";
pub const SOON: Duration = Duration::from_secs(20);

/// What happens when the handler meets a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Fails,
    Poison,
    Panics,
    Outage,
    Skips,
    /// It is for somebody else.
    Elsewhere,
}

/// Writes down what it is given.
#[derive(Default)]
pub struct Scribe(Mutex<HashMap<i64, Mood>>);

impl Scribe {
    pub fn mood(&self, number: i64, mood: Option<Mood>) {
        let mut moods = self.0.lock().unwrap();
        match mood {
            Some(mood) => moods.insert(number, mood),
            None => moods.remove(&number),
        };
    }

    async fn write(&self, tx: &Conn, batch: &[Message]) -> Result<Handled, Trouble> {
        let mut handled = Handled::default();
        for message in batch {
            let number = message.data["version"].as_i64().unwrap();
            let key = message.data["eventId"].as_str().unwrap_or_default().to_owned();
            let mood = self.0.lock().unwrap().get(&number).copied();
            match mood {
                Some(Mood::Poison) => {
                    return Err(Trouble::Poison(message.id, Defect::new("tastes bad")));
                }
                Some(Mood::Panics) => panic!("a mistake in a handler"),
                Some(Mood::Outage) => {
                    return Err(Trouble::Outage { dependency: "oracle", reason: "silent".into() });
                }
                Some(Mood::Elsewhere) => panic!("nobody asked for it"),
                Some(Mood::Skips) => handled.skipped.push((message.id, "nothing to do")),
                Some(Mood::Fails) => {
                    tx.execute("SELECT 1 / 0", &[]).await.map_err(|e| Trouble::Db(e.into()))?;
                }
                None => {
                    let insert = "INSERT INTO effects (id, kind, key, number) VALUES ($1,$2,$3,$4)";
                    tx.execute(insert, &[&message.id.0, &message.kind, &key, &number])
                        .await
                        .map_err(|error| Trouble::Db(error.into()))?;
                }
            }
        }
        Ok(handled)
    }
}

impl Handler for Scribe {
    fn service(&self) -> ServiceContext {
        ServiceContext::UserInteractions
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[KIND, "*.rated"]
    }

    fn wants(&self, message: &Message) -> bool {
        let number = message.data["version"].as_i64().unwrap();
        self.0.lock().unwrap().get(&number) != Some(&Mood::Elsewhere)
    }

    fn handle<'a>(
        &'a self,
        tx: &'a Conn,
        batch: &'a [Message],
        _now: Timestamp,
    ) -> BoxFuture<'a, Result<Handled, Trouble>> {
        Box::pin(self.write(tx, batch))
    }
}

pub struct World {
    pub server: TestServer,
    pub app: App,
    pub scribe: Arc<Scribe>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Wishes::default()).await
    }

    pub async fn with(wishes: Wishes) -> Self {
        let wishes = wishes
            .set("HAPPENING__BUS__RETRY_DELAY_MS", "40")
            .set("HAPPENING__BUS__RETRY_DELAY_MAX_MS", "100")
            .set("HAPPENING__BUS__ATTEMPTS_MAX", "3")
            .set("HAPPENING__BUS__STREAM_LEASE_MS", "1000");
        let server = wishes.without_loops().start().await;
        let table = "CREATE TABLE effects
            (seq bigserial, id uuid, kind text, key text, number bigint)";
        server.pg().batch_execute(table).await.unwrap();
        let app = server.app().clone();
        let world = Self { server, app, scribe: Arc::default() };
        let handler: Arc<dyn Handler> = world.scribe.clone();
        let parcels = Parcels::new(world.app.registry.clone(), &[handler]);
        parcels.declare(world.app.bus.as_ref()).await.unwrap();
        world
    }

    pub fn taker(&self) -> Taker {
        let db = Db::by_key(&self.server.config().postgres, 3).unwrap();
        Taker::new(&self.app, db, self.scribe.clone())
    }

    pub fn consumer(&self) -> BusConsumer {
        let db = Db::by_key(&self.server.config().postgres, 3).unwrap();
        let taker = self.taker();
        let streams = taker.streams().iter().map(ToString::to_string).collect();
        let service = ServiceContext::UserInteractions;
        let shares =
            Shares::new(db, self.app.clock.clone(), self.app.ids.uuid(), service, streams, 1000);
        BusConsumer::new(Arc::clone(&self.app.bus), taker, shares, 500)
    }

    pub async fn tell(&self, messages: &[Envelope]) {
        let outgoing = |one: &Envelope| {
            let kind = self.app.registry.find(&one.kind).unwrap();
            let shard = kind.shard_of(one.partition_key.as_deref().unwrap_or_default());
            Outgoing { stream: Stream::shard(&one.kind, shard), id: one.id, body: one.to_bytes() }
        };
        let batch: Vec<Outgoing> = messages.iter().map(outgoing).collect();
        for outcome in self.app.bus.publish(&batch).await {
            outcome.unwrap();
        }
    }

    /// As somebody else would.
    pub async fn put(&self, fields: &[(&str, &[u8])]) {
        let mut command = redis::cmd("XADD");
        command.arg(KEY).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(*value);
        }
        command.exec_async(&mut self.server.redis()).await.unwrap();
    }

    /// What was written of a key, in its order.
    pub async fn effects(&self, key: Uuid) -> Vec<i64> {
        let rows = format!("SELECT number FROM effects WHERE key = '{key}' ORDER BY seq");
        self.server.sql(&rows).await.iter().map(|row| row.get(0)).collect()
    }

    pub async fn letters(&self) -> Vec<(String, String)> {
        let rows = "SELECT type, reason FROM dead_letters WHERE resolved_at IS NULL ORDER BY id";
        let rows = self.server.sql(rows).await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    pub async fn entry(&self, id: MessageId) -> (String, i32, Option<String>) {
        let rows = format!(
            "SELECT processingStatus, attempts, last_error FROM processed_events
             WHERE revision = '{id}'"
        );
        let rows = self.server.sql(&rows).await;
        (rows[0].get(0), rows[0].get(1), rows[0].get(2))
    }
}

/// Steps until nothing has come for a while.
pub async fn drain(consumer: &mut BusConsumer) {
    let until = Instant::now() + SOON;
    let mut rests = 0;
    while rests < 2 {
        assert!(Instant::now() < until, "it does not come to rest");
        rests = if consumer.step().await.unwrap() == Next::Rest { rests + 1 } else { 0 };
    }
}

pub fn envelope(kind: &str, key: Uuid, data: Value) -> Envelope {
    Envelope {
        id: MessageId(Ids.uuid()),
        source: SOURCE.to_owned(),
        kind: kind.to_owned(),
        subject: None,
        time: happening::clock::Clock::default().now(),
        version: 1,
        correlation_id: Some("req-7".to_owned()),
        traceparent: None,
        partition_key: Some(key.to_string()),
        data,
    }
}

pub fn said(key: Uuid, number: i64) -> Envelope {
    let data = json!({"eventId": key, "userId": Ids.uuid(), "state": "sure", "previous": null,
        "privacy": "public", "version": number});
    envelope(KIND, key, data)
}

pub fn all(key: Uuid, numbers: std::ops::RangeInclusive<i64>) -> Vec<Envelope> {
    numbers.map(|number| said(key, number)).collect()
}

/// Takes the relay's steps until nothing is left to send.
pub async fn relay(world: &World) {
    use happening::actors::bus_relay::BusRelay;
    use happening::actors::pace::Pace;
    use happening::app::messages::bus_line::BusLine;
    use happening::app::messages::relay::Outbox;
    let app = &world.app;
    let (clock, config) = (app.clock.clone(), Arc::clone(&app.config));
    let outbox = Outbox::new(app.db.clone(), clock, app.ids, config);
    let line = BusLine::new(outbox, app.ids.uuid());
    let handler: Arc<dyn Handler> = world.scribe.clone();
    let parcels = Parcels::new(app.registry.clone(), &[handler]);
    let pace = Pace::new(app.wakes.busy.clone(), app.clock.clone(), 0);
    let buses = (Arc::clone(&app.bus), None);
    let relay = BusRelay::new(line, parcels, buses, (pace, 500), Spans::default());
    let mut relay = relay.await.unwrap();
    while relay.step().await.unwrap() == Next::Again {}
}
