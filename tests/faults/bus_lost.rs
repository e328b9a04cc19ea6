//! The bus under thousands of messages while every few seconds something breaks: the broker is
//! killed, paused, flushed, loses a stream; the server is killed; PostgreSQL restarts. Then the
//! counters are the sums of what was accepted, to the one. And: installations move from one broker
//! to the other under load.
//!
//! `BUS_LOST_MESSAGES` says how many messages (default 6000).

use std::time::{Duration, Instant};

use tokio::time::sleep;
use uuid::Uuid;

use crate::nats::Nats;
use crate::process::{Dir, until};
use crate::server::Server;
use crate::world::{Person, World};

/// What lets the bus heal within the time of a test.
const QUICK: &[(&str, &str)] = &[
    ("HAPPENING__RELAY__LOST_AFTER_MS", "2000"),
    ("HAPPENING__RELAY__LEASE_MS", "2000"),
    ("HAPPENING__BUS__STREAM_LEASE_MS", "1000"),
    ("HAPPENING__BUS__CLAIM_IDLE_MS", "3000"),
    ("HAPPENING__BUS__ANSWER_TIMEOUT_MS", "2000"),
];
/// How long everything may take to be counted once all is well, for each thousand of messages.
const HEALED: Duration = Duration::from_mins(3);
/// Rows of one statement.
const CHUNK: usize = 500;

/// What is not as it must be, by rows: counters that are not the sums of what was said last.
const WRONG: &str = "SELECT count(*) FROM events e LEFT JOIN event_stats s ON s.event_id = e.id
    WHERE (coalesce(s.sure, 0), coalesce(s.maybe, 0), coalesce(s.interested, 0))
        <> (SELECT count(*) FILTER (WHERE l.state = 'sure'),
            count(*) FILTER (WHERE l.state = 'maybe'),
            count(*) FILTER (WHERE l.state = 'interested')
        FROM (SELECT DISTINCT ON (payload->>'userId') payload->>'state' AS state
              FROM bus_outbox WHERE payload->>'eventId' = e.id::text
              ORDER BY payload->>'userId', (payload->>'version')::bigint DESC) l)";
const UNDONE: &str = "SELECT count(*) FROM bus_outbox o WHERE NOT EXISTS (
    SELECT 1 FROM processed_events p WHERE p.revision = o.id::text
      AND p.serviceContext = 'user_interactions'
      AND p.processingStatus IN ('processed', 'skipped'))";

fn wanted() -> usize {
    std::env::var("BUS_LOST_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(6000)
}

/// Which broker carries the bus.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broker {
    Redis,
    Nats,
}

struct House {
    world: World,
    nats: Nats,
    _home: Dir,
    events: Vec<Uuid>,
    people: Vec<Person>,
    accepted: usize,
}

impl House {
    async fn new(provider: &str) -> Self {
        let home = Dir::new();
        let nats = Nats::start(&home).await;
        let mut world = World::new().await;
        for (name, value) in QUICK {
            world.set(name, value);
        }
        world.set("HAPPENING__BUS__PROVIDER", provider);
        world.set("NATS_URL", &nats.url());
        let mut events = Vec::new();
        for _ in 0..10 {
            events.push(world.event(100).await.0);
        }
        let people = world.people(200).await;
        Self { world, nats, _home: home, events, people, accepted: 0 }
    }

    /// Writes the next messages of the bus as the verbs do: one commit for each chunk.
    async fn say(&mut self, count: usize) {
        let states = ["'sure'", "'maybe'", "'interested'"];
        for _ in 0..count.div_ceil(CHUNK) {
            let mut values = Vec::new();
            for _ in 0..CHUNK.min(count) {
                let number = self.accepted;
                let event = self.events[number % self.events.len()];
                let person = self.people[(number / self.events.len()) % self.people.len()].id;
                let version = number / (self.events.len() * self.people.len()) + 1;
                let state = states[(number / 7) % states.len()].trim_matches('\'');
                let id = Uuid::now_v7();
                let data = serde_json::json!({"eventId": event, "userId": person, "state": state,
                    "previous": null, "privacy": "private", "version": version});
                values.push(format!(
                    "('{id}', '{event}', 'interest.changed', '{data}', '{id}', now())"
                ));
                self.accepted += 1;
            }
            let insert = format!(
                "INSERT INTO bus_outbox
                 (id, aggregate_id, type, payload, correlation_id, created_at) VALUES {}",
                values.join(",")
            );
            let sql = self.world.sql().await;
            sql.batch_execute(&insert).await.expect("it is accepted");
        }
    }

    async fn undone(&self) -> i64 {
        self.world.count(UNDONE).await
    }

    /// Everything that was accepted is counted, once.
    async fn must_hold(&self, server: &mut Server) {
        let begun = Instant::now();
        let patience =
            HEALED.max(Duration::from_millis(20) * u32::try_from(self.accepted).unwrap());
        until("all is dealt with", patience, async || {
            server.must_live();
            (self.undone().await == 0).then_some(())
        })
        .await;
        let letters = self.world.count("SELECT count(*) FROM dead_letters").await;
        let wrong = self.world.count(WRONG).await;
        let sums = "SELECT coalesce(sum(sure + maybe + interested), 0)::bigint FROM event_stats";
        let (sum, pairs) = (
            self.world.count(sums).await,
            self.world
                .count(
                    "SELECT count(DISTINCT (payload->>'eventId', payload->>'userId'))
                    FROM bus_outbox",
                )
                .await,
        );
        println!(
            "{} accepted, {sum} of {pairs} counted, {letters} letters, {wrong} wrong; \
             healed in {:?}",
            self.accepted,
            begun.elapsed()
        );
        assert_eq!((wrong, letters), (0, 0));
        assert_eq!(sum, pairs);
    }

    async fn break_broker(&mut self, broker: Broker, how: usize) {
        let pause = Duration::from_millis(1500);
        match (broker, how % 4) {
            (Broker::Redis, 0) => {
                self.world.redis.kill();
                sleep(pause / 2).await;
                self.world.redis.start_again().await;
            }
            (Broker::Redis, 1) => {
                self.world.redis.signal("STOP");
                sleep(pause * 2).await;
                self.world.redis.signal("CONT");
            }
            (Broker::Redis, 2) => {
                let mut redis = self.world.redis.client().await;
                redis::cmd("FLUSHALL").exec_async(&mut redis).await.expect("flushed");
            }
            (Broker::Redis, _) => {
                let mut redis = self.world.redis.client().await;
                redis::cmd("DEL").arg("newEveInters").exec_async(&mut redis).await.expect("gone");
            }
            (Broker::Nats, 0) => {
                self.nats.kill();
                sleep(pause / 2).await;
                self.nats.start_again().await;
            }
            (Broker::Nats, 1) => {
                self.nats.signal("STOP");
                sleep(pause * 2).await;
                self.nats.signal("CONT");
            }
            (Broker::Nats, 2) => self.nats.delete(None).await,
            (Broker::Nats, _) => self.nats.delete(Some("events_interest_changed")).await,
        }
    }
}

/// Everything breaks in turn while messages are written.
async fn storm(provider: &str, broker: Broker) {
    let mut house = House::new(provider).await;
    let mut server = house.world.serve().await;
    let total = wanted();
    let rounds = (total / 1000).clamp(6, 20);
    let share = total.div_ceil(rounds);
    for round in 0..rounds {
        house.say(share).await;
        // Some of it is on its way when it breaks.
        sleep(Duration::from_millis(400)).await;
        let begun = house.undone().await;
        match round % 6 {
            4 => {
                server.kill();
                server = house.world.serve().await;
            }
            5 => {
                house.world.postgres.kill();
                house.world.postgres.start_again().await;
            }
            how => house.break_broker(broker, how).await,
        }
        println!("round {round}: {begun} of {} under way when it broke", house.accepted);
        sleep(Duration::from_millis(1500)).await;
    }
    house.must_hold(&mut server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_are_exact_whatever_breaks_on_redis() {
    storm("redis", Broker::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_are_exact_whatever_breaks_on_nats() {
    storm("nats", Broker::Nats).await;
}

/// As "Moving to another broker" in ARCHITECTURE.md says it, with messages coming all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn installations_move_to_another_broker_under_load() {
    let mut house = House::new("redis").await;
    let mut server = house.world.serve().await;
    house.say(1000).await;
    // Both get everything from here on.
    let stopped = |server: &Server| server.signal("TERM");
    stopped(&server);
    house.say(500).await;
    server.wait(Duration::from_mins(1)).await;
    house.world.set("HAPPENING__BUS__ALSO_PUBLISH_TO", "nats");
    server = house.world.serve().await;
    house.say(1000).await;
    sleep(Duration::from_millis(300)).await;
    // The new broker is away for a moment: that holds nobody up.
    house.nats.kill();
    house.say(1000).await;
    until("the old one goes on alone", Duration::from_mins(1), async || {
        (house.undone().await == 0).then_some(())
    })
    .await;
    house.nats.start_again().await;
    house.say(1000).await;
    // The cut: what is under way on the old one is left there.
    server.kill();
    house.say(500).await;
    house.world.set("HAPPENING__BUS__PROVIDER", "nats");
    house.world.set("HAPPENING__BUS__ALSO_PUBLISH_TO", "redis");
    server = house.world.serve().await;
    house.say(1000).await;
    house.must_hold(&mut server).await;
    let again = "SELECT count(*) FROM (SELECT message_id FROM message_log
        WHERE action IN ('processed', 'skipped') GROUP BY message_id HAVING count(*) > 1) twice";
    assert_eq!(house.world.count(again).await, 0, "something was dealt with twice");
    // What operators look at before they give the old broker up.
    let table = house.world.command(&["streams", "parity"]).await;
    let line = table.lines().find(|line| line.starts_with("interest.changed")).expect(&table);
    let columns: Vec<&str> = line.split_whitespace().collect();
    let accepted = house.accepted.to_string();
    assert_eq!(columns[1..6], [&accepted, &accepted, "0", "user_interactions", "0"], "{table}");
    let lags = columns[6..].iter().map(|live| live.split_once('/').expect(&table));
    let lengths: Vec<usize> = lags.map(|(length, _)| length.parse().unwrap()).collect();
    assert!(lengths.len() == 2 && lengths.iter().all(|length| *length > 1000), "{table}");
}
