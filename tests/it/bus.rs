//! What the bus brings is dealt with once each, in order of its key, whatever fails, comes twice or
//! is nonsense. Real Redis Streams; the steps are taken by hand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use happening::actors::bus_consumer::BusConsumer;
use happening::actors::{Actor as _, Next};
use happening::app::App;
use happening::app::messages::handle::{Handled, Handler, Message, Trouble};
use happening::app::messages::parcels::Parcels;
use happening::app::messages::registry::{Registry, Upcast};
use happening::app::messages::seal::Keyring;
use happening::app::messages::shares::Shares;
use happening::app::messages::take::Taker;
use happening::bus::envelope::{Envelope, SOURCE};
use happening::bus::{Outgoing, Stream};
use happening::clock::Ids;
use happening::domain::ids::MessageId;
use happening::domain::message::Defect;
use happening::domain::processing::ServiceContext;
use happening::domain::stream_type::{self, DATA_MAX, Schema, StreamType};
use happening::postgres::{Conn, Db};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestServer, Wishes};
use crate::support::eventually;

const KIND: &str = "interest.changed";
const KEY: &str = "newEveInters";
const SOON: Duration = Duration::from_secs(20);

/// What happens when the handler meets a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Fails,
    Poison,
    Panics,
    Outage,
    Skips,
}

/// Writes down what it is given.
#[derive(Default)]
struct Scribe(Mutex<HashMap<i64, Mood>>);

impl Scribe {
    fn mood(&self, number: i64, mood: Option<Mood>) {
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
        &[KIND, "event.rated"]
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

struct World {
    server: TestServer,
    app: App,
    scribe: Arc<Scribe>,
}

impl World {
    async fn new() -> Self {
        Self::with(Wishes::default()).await
    }

    async fn with(wishes: Wishes) -> Self {
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

    fn taker(&self) -> Taker {
        let db = Db::by_key(&self.server.config().postgres, 3).unwrap();
        Taker::new(&self.app, db, self.scribe.clone())
    }

    fn consumer(&self) -> BusConsumer {
        let db = Db::by_key(&self.server.config().postgres, 3).unwrap();
        let taker = self.taker();
        let streams = taker.streams().iter().map(ToString::to_string).collect();
        let service = ServiceContext::UserInteractions;
        let shares =
            Shares::new(db, self.app.clock.clone(), self.app.ids.uuid(), service, streams, 1000);
        BusConsumer::new(Arc::clone(&self.app.bus), taker, shares, 500)
    }

    async fn tell(&self, messages: &[Envelope]) {
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
    async fn put(&self, fields: &[(&str, &[u8])]) {
        let mut command = redis::cmd("XADD");
        command.arg(KEY).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(*value);
        }
        command.exec_async(&mut self.server.redis()).await.unwrap();
    }

    /// What was written of a key, in its order.
    async fn effects(&self, key: Uuid) -> Vec<i64> {
        let rows = format!("SELECT number FROM effects WHERE key = '{key}' ORDER BY seq");
        self.server.sql(&rows).await.iter().map(|row| row.get(0)).collect()
    }

    async fn letters(&self) -> Vec<(String, String)> {
        let rows = "SELECT type, reason FROM dead_letters WHERE resolved_at IS NULL ORDER BY id";
        let rows = self.server.sql(rows).await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn entry(&self, id: MessageId) -> (String, i32, Option<String>) {
        let rows = format!(
            "SELECT processingStatus, attempts, last_error FROM processed_events
             WHERE revision = '{id}'"
        );
        let rows = self.server.sql(&rows).await;
        (rows[0].get(0), rows[0].get(1), rows[0].get(2))
    }
}

/// Steps until nothing has come for a while.
async fn drain(consumer: &mut BusConsumer) {
    let until = Instant::now() + SOON;
    let mut rests = 0;
    while rests < 2 {
        assert!(Instant::now() < until, "it does not come to rest");
        rests = if consumer.step().await.unwrap() == Next::Rest { rests + 1 } else { 0 };
    }
}

fn envelope(kind: &str, key: Uuid, data: Value) -> Envelope {
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

fn said(key: Uuid, number: i64) -> Envelope {
    let data = json!({"eventId": key, "userId": Ids.uuid(), "state": "sure", "previous": null,
        "privacy": "public", "version": number});
    envelope(KIND, key, data)
}

fn all(key: Uuid, numbers: std::ops::RangeInclusive<i64>) -> Vec<Envelope> {
    numbers.map(|number| said(key, number)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_twice_is_done_once() {
    let world = World::new().await;
    let key = Ids.uuid();
    let messages = all(key, 1..=20);
    let mut consumer = world.consumer();
    world.tell(&messages).await;
    world.tell(&messages[..5]).await;
    drain(&mut consumer).await;
    world.tell(&messages).await;
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, (1..=20).collect::<Vec<_>>());
    let stream = Stream::of(KIND);
    let lag = world.app.bus.lag(&stream, "user_interactions").await.unwrap();
    assert_eq!((lag.pending, lag.lag), (0, 0));
    // Each is told in the log once.
    let logged = world.server.count("SELECT count(*) FROM message_log WHERE action='processed'");
    assert_eq!(logged.await, 20);
    world.server.finish().await;
}

/// A batch is committed, and its reader dies before it acknowledges: at once, and in its order,
/// it comes to the next one, before what is newer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_commit_and_acknowledgement_changes_nothing() {
    let world = World::new().await;
    let key = Ids.uuid();
    let messages = all(key, 1..=30);
    world.tell(&messages[..20]).await;
    // The first ten are committed, the next ten only read.
    let subscription = happening::bus::Subscription {
        streams: world.taker().streams(),
        group: "user_interactions".to_owned(),
        consumer: "user_interactions".to_owned(),
    };
    let mut dead = world.app.bus.subscribe(subscription).await.unwrap();
    let mut read = Vec::new();
    while read.len() < 20 {
        read.extend(dead.read(20, Duration::from_secs(1)).await.unwrap());
    }
    world.taker().take(&read[..10]).await.unwrap();
    drop(dead);
    world.tell(&messages[20..]).await;
    let mut consumer = world.consumer();
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, (1..=30).collect::<Vec<_>>());
    world.server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_message_holds_up_its_key_alone_and_in_order() {
    let world = World::new().await;
    let (key, other) = (Ids.uuid(), Ids.uuid());
    world.scribe.mood(3, Some(Mood::Fails));
    let mut consumer = world.consumer();
    let mine = all(key, 1..=3);
    world.tell(&mine).await;
    world.tell(&all(other, 101..=110)).await;
    while world.effects(other).await.len() < 10 {
        consumer.step().await.unwrap();
    }
    assert_eq!(world.effects(key).await, [1, 2], "and nobody else was held up");
    // More of the key come while it waits, one by one, so that each waits by its own clock.
    for number in 4..=30 {
        world.tell(&[said(key, number)]).await;
        consumer.step().await.unwrap();
        if number == 10 {
            world.scribe.mood(3, None);
        }
    }
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, (1..=30).collect::<Vec<_>>());
    assert_eq!(world.letters().await, []);
    world.server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spent_attempts_end_in_a_letter_and_the_key_goes_on() {
    let world = World::new().await;
    let key = Ids.uuid();
    world.scribe.mood(2, Some(Mood::Fails));
    world.scribe.mood(4, Some(Mood::Panics));
    let messages = all(key, 1..=6);
    world.tell(&messages).await;
    let mut consumer = world.consumer();
    let until = Instant::now() + SOON;
    while world.effects(key).await.len() < 4 {
        assert!(Instant::now() < until, "{:?}", world.effects(key).await);
        consumer.step().await.unwrap();
    }
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, [1, 3, 5, 6]);
    let letters = world.letters().await;
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert!(letters[0].1.contains("division by zero"), "{letters:?}");
    assert!(letters[1].1.contains("panicked: a mistake in a handler"), "{letters:?}");
    let (status, attempts, _) = world.entry(messages[1].id).await;
    assert_eq!((status.as_str(), attempts), ("failed", 3));
    world.server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_parked_at_once_and_neighbours_flow() {
    let world = World::new().await;
    let (key, failing) = (Ids.uuid(), Ids.uuid());
    world.scribe.mood(2, Some(Mood::Poison));
    // A neighbour that fails makes the batch be taken apart: poison is poison there too.
    world.scribe.mood(50, Some(Mood::Fails));
    let messages = all(key, 1..=3);
    world.tell(&[said(failing, 50)]).await;
    world.tell(&messages).await;
    let mut consumer = world.consumer();
    while world.effects(key).await.len() < 2 {
        consumer.step().await.unwrap();
    }
    assert_eq!(world.effects(key).await, [1, 3]);
    let (status, attempts, _) = world.entry(messages[1].id).await;
    assert_eq!((status.as_str(), attempts), ("failed", 1), "within one attempt");
    assert_eq!(world.letters().await, [(KIND.to_owned(), "tastes bad".to_owned())]);
    world.server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_counts_against_nobody_and_pauses() {
    let world = World::new().await;
    let key = Ids.uuid();
    world.scribe.mood(12, Some(Mood::Outage));
    // Published in one go: many entries of one millisecond.
    let messages = all(key, 1..=300);
    world.tell(&messages).await;
    let mut consumer = world.consumer();
    for _ in 0..400 {
        consumer.step().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.letters().await, []);
    let failed = "SELECT count(*) FROM processed_events WHERE processingStatus <> 'processed'";
    assert_eq!(world.server.count(failed).await, 0, "nothing counts");
    world.scribe.mood(12, None);
    let until = Instant::now() + SOON;
    while world.effects(key).await.len() < 300 {
        assert!(Instant::now() < until, "it does not close again");
        consumer.step().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.effects(key).await, (1..=300).collect::<Vec<_>>(), "and in order");
    world.server.forgive("something is away");
    world.server.finish().await;
}

/// A statement that PostgreSQL cancels each time looks like an outage, and is the message's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_looks_like_an_outage_for_ever_is_poison() {
    let world = World::new().await;
    let key = Ids.uuid();
    // The same with a row that another one never lets go: a bound on waiting is hit.
    world.tell(&all(key, 1..=3)).await;
    let trap = "CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.number = 2 THEN RAISE EXCEPTION 'no' USING ERRCODE = '57014'; END IF;
            RETURN NEW; END $$;
        CREATE TRIGGER trap BEFORE INSERT ON effects FOR EACH ROW EXECUTE FUNCTION trap()";
    world.server.pg().batch_execute(trap).await.unwrap();
    let mut consumer = world.consumer();
    let until = Instant::now() + Duration::from_secs(40);
    while world.effects(key).await.len() < 2 {
        assert!(Instant::now() < until, "one message stops everything");
        consumer.step().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.effects(key).await, [1, 3]);
    assert_eq!(world.letters().await.len(), 1);
    world.server.forgive("something is away");
    world.server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_is_parked_with_a_reason_and_neighbours_flow() {
    let world = World::new().await;
    let key = Ids.uuid();
    let good = all(key, 1..=4);
    let text = |envelope: &Envelope| envelope.to_bytes().to_vec();
    let mut wrong_schema = said(key, 9);
    wrong_schema.data["state"] = json!("perhaps");
    let rated = json!({"eventId": key, "userId": Ids.uuid(), "rating": 3, "version": 1});
    let elsewhere = envelope("event.rated", key, rated);
    let unknown = envelope("no.such", key, json!({}));
    let mut future = said(key, 9);
    future.version = 9;
    let huge = vec![b'x'; 10 << 20];
    world.tell(&good[..1]).await;
    world.put(&[("data", b"{\"specversion\":")]).await;
    world.put(&[("data", &text(&wrong_schema))]).await;
    world.put(&[("data", &text(&unknown))]).await;
    world.tell(&good[1..2]).await;
    world.put(&[("data", &text(&elsewhere))]).await;
    world.put(&[("data", &text(&future))]).await;
    world.put(&[("data", &huge)]).await;
    world.put(&[("data", b"\xff\xfe{}")]).await;
    world.put(&[("other", b"field")]).await;
    world.tell(&good[2..]).await;
    let mut consumer = world.consumer();
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, [1, 2, 3, 4]);
    let reasons: Vec<String> = world.letters().await.into_iter().map(|(_, why)| why).collect();
    for wanted in [
        "no envelope",
        "does not fit /schemas/interest.changed/1: /state",
        "is of a type that is not handled here",
        "is on the stream of interest.changed",
        "has no version 9",
        "10485760 bytes",
        "not UTF-8",
        "data",
    ] {
        let one = reasons.iter().any(|reason| reason.contains(wanted));
        assert!(one, "{wanted}: {reasons:#?}");
    }
    assert_eq!(reasons.len(), 8, "{reasons:#?}");
    let lag = world.app.bus.lag(&Stream::of(KIND), "user_interactions").await.unwrap();
    assert_eq!((lag.pending, lag.lag), (0, 0), "within one attempt");
    // The copy on the wrong stream does not stand in the way of the message itself.
    world.tell(std::slice::from_ref(&elsewhere)).await;
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, [1, 2, 3, 4, 1]);
    world.server.finish().await;
}

/// Places on a stream begin anew when it was deleted; what is parked is parked by what it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_at_the_same_place_of_another_stream_is_parked_too() {
    let world = World::with(Wishes::default().set("HAPPENING__BUS__PROVIDER", "memory")).await;
    let taker = world.taker();
    let delivery = |body: &'static str| happening::bus::Delivery {
        stream: Stream::of(KIND),
        position: happening::bus::Position::Sequence(1),
        attempt: 1,
        body: body.into(),
        defect: None,
        stored_at: None,
    };
    for body in ["junk", "junk", "other junk"] {
        taker.take(&[delivery(body)]).await.unwrap();
    }
    assert_eq!(world.letters().await.len(), 2);
    world.server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_waits_and_is_gone_does_not_block_its_key_for_ever() {
    let world = World::with(Wishes::default().set("HAPPENING__RELAY__LOST_AFTER_MS", "500")).await;
    let key = Ids.uuid();
    world.scribe.mood(1, Some(Mood::Fails));
    // Somebody else's message: the outbox does not know it, nobody sends it again.
    world.tell(&all(key, 1..=1)).await;
    let mut consumer = world.consumer();
    while world.server.count("SELECT count(*) FROM processed_events").await == 0 {
        consumer.step().await.unwrap();
    }
    redis::cmd("FLUSHALL").exec_async(&mut world.server.redis()).await.unwrap();
    world.tell(&all(key, 2..=4)).await;
    let until = Instant::now() + SOON;
    while world.effects(key).await.len() < 3 {
        assert!(Instant::now() < until, "it waits for what never comes");
        consumer.step().await.ok();
    }
    assert_eq!(world.effects(key).await, [2, 3, 4]);
    world.server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_sent_again_through_the_bus_and_done_once() {
    let world = World::new().await;
    let admin = world.server.admin().await;
    let key = Ids.uuid();
    world.scribe.mood(1, Some(Mood::Poison));
    let message = said(key, 1);
    world.tell(std::slice::from_ref(&message)).await;
    let mut consumer = world.consumer();
    drain(&mut consumer).await;
    world.scribe.mood(1, None);
    let letter: Uuid = world.server.sql("SELECT id FROM dead_letters").await[0].get(0);
    let path = format!("/admin/dead-letters/{letter}/redrive");
    let asked = world.server.call("POST", &path).bearer(&admin.token).json(json!({}));
    let status = asked.send().await.status;
    assert!((200..300).contains(&status), "{status}");
    let row = world.server.sql("SELECT id, lane FROM outbox WHERE lane = 'bus'").await;
    assert_eq!((row.len(), row[0].get::<_, Uuid>(0)), (1, message.id.0));
    relay(&world).await;
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, [1]);
    // The first copy comes once more.
    world.tell(std::slice::from_ref(&message)).await;
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, [1]);
    assert_eq!(world.letters().await, []);
    world.server.finish().await;
}

/// Takes the relay's steps until nothing is left to send.
async fn relay(world: &World) {
    use happening::actors::bus_relay::BusRelay;
    use happening::actors::pace::Pace;
    use happening::app::messages::relay::Outbox;
    use happening::domain::message::Lane;
    let app = &world.app;
    let (clock, config) = (app.clock.clone(), Arc::clone(&app.config));
    let outbox = Outbox::new(Lane::Bus, app.db.clone(), clock, app.ids, config);
    let handler: Arc<dyn Handler> = world.scribe.clone();
    let parcels = Parcels::new(app.registry.clone(), &[handler]);
    let pace = Pace::new(app.wakes.busy.clone(), app.clock.clone(), 0);
    let buses = (Arc::clone(&app.bus), None);
    let mut relay = BusRelay::new(outbox, parcels, buses, pace, 500).await.unwrap();
    while relay.step().await.unwrap() == Next::Again {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_readers_share_the_streams_and_take_over() {
    let world = World::new().await;
    let (mut one, mut two) = (world.consumer(), world.consumer());
    let keys: Vec<Uuid> = (0..10).map(|_| Ids.uuid()).collect();
    let holders = "SELECT count(DISTINCT holder) FROM stream_leases
        WHERE stream NOT LIKE '@%' AND lease_until > now()";
    let until = Instant::now() + SOON;
    while world.server.count(holders).await < 2 {
        assert!(Instant::now() < until, "they do not share");
        one.step().await.unwrap();
        two.step().await.unwrap();
    }
    let mut rated = 0;
    for (number, key) in (1..=10).zip(&keys) {
        world.tell(&[said(*key, number)]).await;
        let data = json!({"eventId": key, "userId": Ids.uuid(), "rating": 3, "version": number});
        world.tell(&[envelope("event.rated", *key, data)]).await;
        rated += 1;
    }
    let done = "SELECT count(*) FROM effects";
    while world.server.count(done).await < 2 * rated {
        assert!(Instant::now() < until, "not all is done");
        one.step().await.unwrap();
        two.step().await.unwrap();
    }
    // An orderly end gives everything back at once; a crash after the lease.
    one.close().await;
    world.tell(&all(keys[0], 11..=20)).await;
    while world.effects(keys[0]).await.len() < 12 {
        assert!(Instant::now() < until, "nobody takes over");
        two.step().await.unwrap();
    }
    let mut three = world.consumer();
    drop(two);
    world.tell(&all(keys[0], 21..=30)).await;
    eventually(SOON, || Box::pin(async { Ok::<(), String>(()) })).await;
    while world.effects(keys[0]).await.len() < 22 {
        assert!(Instant::now() < until, "nobody takes over after a crash");
        three.step().await.unwrap();
    }
    world.server.finish().await;
}

/// A type over four streams, of which an older version still comes.
fn types() -> Vec<StreamType> {
    const OLD: Schema = Schema {
        version: 1,
        text: r#"{"type":"object","required":["eventId"],"properties":{"n":{"type":"integer"}}}"#,
    };
    const NEW: Schema =
        Schema { version: 2, text: r#"{"type":"object","required":["eventId","version"]}"# };
    let interest = *stream_type::find(KIND).unwrap();
    let rated = *stream_type::find("event.rated").unwrap();
    vec![StreamType { shards: 4, schema: NEW, older: &[OLD], ..interest }, rated]
}

fn lift(mut data: Value) -> Value {
    data["version"] = data["n"].take();
    data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_keep_the_order_of_keys_and_old_versions_are_lifted() {
    const UPCASTS: &[Upcast] = &[Upcast { kind: KIND, from: 1, lift }];
    let mut world = World::new().await;
    let config = world.server.config();
    let keys = Keyring::new(&config.seal, &config.auth, Ids).unwrap();
    world.app.registry = Registry::of(&types(), UPCASTS, keys, DATA_MAX).unwrap();
    let handler: Arc<dyn Handler> = world.scribe.clone();
    Parcels::new(world.app.registry.clone(), &[handler])
        .declare(world.app.bus.as_ref())
        .await
        .unwrap();
    assert_eq!(world.taker().streams().len(), 5);
    let keys: Vec<Uuid> = (0..20).map(|_| Ids.uuid()).collect();
    let (mut one, mut two) = (world.consumer(), world.consumer());
    for number in 1..=10 {
        for key in &keys {
            let old = json!({"eventId": key, "n": number});
            let new = json!({"eventId": key, "version": number});
            let data = if number % 2 == 0 { old } else { new };
            let version = if number % 2 == 0 { 1 } else { 2 };
            world.tell(&[Envelope { version, ..envelope(KIND, *key, data) }]).await;
        }
        one.step().await.unwrap();
        two.step().await.unwrap();
    }
    let until = Instant::now() + SOON;
    while world.server.count("SELECT count(*) FROM effects").await < 200 {
        assert!(Instant::now() < until, "not all is done");
        one.step().await.unwrap();
        two.step().await.unwrap();
    }
    for key in keys {
        assert_eq!(world.effects(key).await, (1..=10).collect::<Vec<_>>());
    }
    assert_eq!(world.letters().await, []);
    world.server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_skipped_is_noted_and_logged_as_that() {
    let world = World::new().await;
    let key = Ids.uuid();
    world.scribe.mood(2, Some(Mood::Skips));
    let messages = all(key, 1..=2);
    world.tell(&messages).await;
    let mut consumer = world.consumer();
    drain(&mut consumer).await;
    let (status, _, why) = world.entry(messages[1].id).await;
    assert_eq!((status.as_str(), why.as_deref()), ("skipped", Some("nothing to do")));
    let rows = "SELECT message_id, action, type, service FROM message_log ORDER BY message_id";
    let rows = world.server.sql(rows).await;
    let rows: Vec<[String; 4]> =
        rows.iter().map(|row| [row.get(0), row.get(1), row.get(2), row.get(3)]).collect();
    let line = |at: usize, action: &str| {
        [messages[at].id.to_string(), action.into(), KIND.into(), "user_interactions".into()]
    };
    assert_eq!(rows, [line(0, "processed"), line(1, "skipped")]);
    world.server.finish().await;
}
