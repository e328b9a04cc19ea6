//! What the bus brings is dealt with once each, in order of its key, whatever fails, comes twice or
//! is nonsense. Real Redis Streams; the steps are taken by hand.

use std::time::{Duration, Instant};

use happening::actors::Actor as _;
use happening::bus::Stream;
use happening::bus::envelope::Envelope;
use happening::clock::Ids;
use serde_json::json;
use uuid::Uuid;

use crate::harness::Wishes;
use crate::harness::scribe::{KIND, Mood, SOON, World, all, drain, envelope, relay, said};

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
    let paused = || world.app.signals.paused(world.app.clock.now());
    let waits = paused().pop().expect("the watchman is told of it");
    assert_eq!(waits.who, "user_interactions");
    assert!(waits.why.contains(" is away: "), "{}", waits.why);
    world.scribe.mood(12, None);
    let until = Instant::now() + SOON;
    while world.effects(key).await.len() < 300 {
        assert!(Instant::now() < until, "it does not close again");
        consumer.step().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.effects(key).await, (1..=300).collect::<Vec<_>>(), "and in order");
    assert!(paused().is_empty(), "and of its end");
    world.server.forgive("something is away");
    world.server.finish().await;
}

/// A statement that PostgreSQL cancels each time looks like an outage, and is the message's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_looks_like_an_outage_for_ever_is_poison() {
    let world = World::new().await;
    let key = Ids.uuid();
    // The same with a row that another one never lets go: a bound on waiting is hit.
    world.tell(&all(key, 1..=40)).await;
    let trap = "CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.number = 25 THEN RAISE EXCEPTION 'no' USING ERRCODE = '57014'; END IF;
            RETURN NEW; END $$;
        CREATE TRIGGER trap BEFORE INSERT ON effects FOR EACH ROW EXECUTE FUNCTION trap()";
    world.server.pg().batch_execute(trap).await.unwrap();
    let mut consumer = world.consumer();
    let until = Instant::now() + Duration::from_secs(40);
    while world.effects(key).await.len() < 39 {
        assert!(Instant::now() < until, "one message stops everything");
        consumer.step().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let others: Vec<i64> = (1..=40).filter(|number| *number != 25).collect();
    assert_eq!(world.effects(key).await, others);
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
    let row = world.server.sql("SELECT id FROM bus_outbox").await;
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
    while world.effects(keys[0]).await.len() < 22 {
        assert!(Instant::now() < until, "nobody takes over after a crash");
        three.step().await.unwrap();
    }
    world.server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_skipped_is_noted_and_logged_as_that() {
    let world = World::new().await;
    let key = Ids.uuid();
    world.scribe.mood(2, Some(Mood::Skips));
    world.scribe.mood(3, Some(Mood::Elsewhere));
    let messages = all(key, 1..=3);
    world.tell(&messages).await;
    let mut consumer = world.consumer();
    drain(&mut consumer).await;
    let (status, _, why) = world.entry(messages[1].id).await;
    assert_eq!((status.as_str(), why.as_deref()), ("skipped", Some("nothing to do")));
    let (status, _, why) = world.entry(messages[2].id).await;
    let elsewhere = Some("not for this service, by what it says");
    assert_eq!((status.as_str(), why.as_deref()), ("skipped", elsewhere));
    assert_eq!(world.effects(key).await, [1]);
    let rows = "SELECT message_id, action, type, service FROM message_log ORDER BY message_id";
    let rows = world.server.sql(rows).await;
    let rows: Vec<[String; 4]> =
        rows.iter().map(|row| [row.get(0), row.get(1), row.get(2), row.get(3)]).collect();
    let line = |at: usize, action: &str| {
        [messages[at].id.to_string(), action.into(), KIND.into(), "user_interactions".into()]
    };
    assert_eq!(rows, [line(0, "processed"), line(1, "skipped"), line(2, "skipped")]);
    world.server.finish().await;
}
