//! Many hold, renew, let go, wait too long, book and cancel through two processes, many watch, and
//! one thing after the other breaks. Nobody may have been told that a seat is theirs while it was
//! another's; and soon after each fault everybody sees what PostgreSQL and Redis say.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::holders::{History, Holder, Mood, TTL, ask};
use crate::process::until;
use crate::server::Server;
use crate::support::eventually;
use crate::support::seat_map::Map;
use crate::watchers::{Doors, Watcher};
use crate::world::{Person, World};

const SEATS: u32 = 14;
const HOLDERS: usize = 12;
const WATCHERS: usize = 16;
/// How soon after a fault everybody sees the truth: five seconds are promised, to a machine that
/// is not busy with something else.
const AGREED: Duration = Duration::from_mins(1);
/// How long holders may need to finish what they have begun.
const FINISHED: Duration = Duration::from_secs(40);
/// After Redis is back a process may still go on without it for this long, and not know holds.
const BACK: Duration = Duration::from_millis(2500);
const TAKEN: &str = "SELECT array_agg(seat_number ORDER BY seat_number) FROM booking_seats
    WHERE event_id = $1";
const FREE: &str = "SELECT available_slots FROM events WHERE id = $1";

struct Scene {
    world: World,
    servers: Vec<Server>,
    doors: Doors,
    event: Uuid,
    history: History,
    mood: watch::Sender<Mood>,
    cut: watch::Sender<u32>,
    busy: Arc<()>,
    holders: Vec<JoinHandle<()>>,
    watchers: Vec<Watcher>,
    keepers: Vec<Person>,
}

impl Scene {
    async fn new(more: &[(&str, &str)]) -> Self {
        let mut world = World::new().await;
        for (name, value) in more {
            world.set(name, value);
        }
        world.set("HAPPENING__HOLDS__TTL_MS", &TTL.as_millis().to_string());
        world.set("HAPPENING__HOLDS__GRACE_MS", "1000");
        world.set("HAPPENING__HOLDS__PER_EVENT_PERCENT", "100");
        world.set("HAPPENING__SOCKETS__EXEMPT_LOOPBACK", "true");
        world.set("HAPPENING__LIMITS__ACCOUNT_PER_SECOND", "100000");
        world.set("HAPPENING__LIMITS__ACCOUNT_BURST", "100000");
        let (event, _) = world.numbered_event(i32::try_from(SEATS).unwrap()).await;
        let servers = vec![world.serve().await, world.serve().await];
        let doors = Doors::new(&[servers[0].address, servers[1].address]);
        let (mood, moods) = watch::channel(Mood::Busy);
        let (cut, cuts) = watch::channel(0);
        let (history, busy) = (History::default(), Arc::new(()));
        let watchers = (0..WATCHERS)
            .map(|number| Watcher::start(&doors, number, event, cuts.clone()))
            .collect();
        let mut people = world.people(HOLDERS + 3).await;
        let keepers = people.split_off(HOLDERS);
        let holder = |(who, person)| {
            let (doors, history) = (doors.clone(), history.clone());
            let (mood, busy) = (moods.clone(), Arc::clone(&busy));
            Holder { who, person, event, seats: SEATS, doors, history, mood, busy }.start()
        };
        let holders = people.into_iter().enumerate().map(holder).collect();
        Self { world, servers, doors, event, history, mood, cut, busy, holders, watchers, keepers }
    }

    /// Everybody is at it for a while.
    async fn traffic(&self, for_ms: u64) {
        sleep(Duration::from_millis(for_ms)).await;
    }

    /// Nobody wants anything any more; soon the seats can be held and booked, and everybody sees
    /// it.
    async fn peace(&mut self, after: &str) {
        self.mood.send_replace(Mood::Quiet);
        let idle = async || (Arc::strong_count(&self.busy) == self.holders_at_rest()).then_some(());
        until("the holders finish", FINISHED, idle).await;
        for server in &mut self.servers {
            server.must_live();
        }
        println!("peace after {after}: {:?}", self.history.check());
        // The holds of those who were not answered run out.
        sleep(TTL).await;
        let held = self.keep(0, "/events/{}/holds", json!({"seat_numbers": [1, 3]})).await;
        let body = json!({"event_id": self.event, "seat_numbers": [5, 6]});
        let booked = self.keep(1, "/bookings", body).await;
        self.all_see_the_truth(after).await;
        let token = held["hold_token"].as_str().expect("a token");
        let path = format!("/events/{}/holds/{token}", self.event);
        let door = self.doors.pick(0);
        ask(door, &self.keepers[0], None, ("DELETE", &path), &Value::Null)
            .await
            .expect("an answer");
        let path = format!("/bookings/{}/cancel", booked["id"].as_str().expect("an id"));
        let reply = ask(door, &self.keepers[1], None, ("POST", &path), &json!({})).await;
        assert_eq!(reply.expect("an answer").status, 200);
        self.all_see_the_truth(after).await;
        self.mood.send_replace(Mood::Busy);
    }

    /// Our own count, and one in each holder.
    fn holders_at_rest(&self) -> usize {
        1 + self.holders.len()
    }

    /// Somebody gets seats, soon.
    async fn keep(&self, who: usize, path: &str, body: Value) -> Value {
        let path = path.replace("{}", &self.event.to_string());
        eventually(AGREED, || async {
            let request = ("POST", path.as_str());
            let reply = ask(self.doors.pick(who), &self.keepers[who], None, request, &body).await?;
            if reply.status == 201 { Ok(reply.json()) } else { Err(reply.body) }
        })
        .await
    }

    async fn all_see_the_truth(&self, after: &str) {
        eventually(AGREED, || async {
            let truth = self.truth().await?;
            for (number, watcher) in self.watchers.iter().enumerate() {
                let mut map = watcher.map();
                map.version = 0;
                if map != truth {
                    let seen = watcher.map();
                    return Err(format!("after {after} {number} sees {seen:?}, not {truth:?}"));
                }
            }
            for door in self.doors.all() {
                let path = format!("/events/{}/seats", self.event);
                let person = &self.keepers[2];
                let said = ask(door, person, None, ("GET", &path), &Value::Null).await?.json();
                let mut map = Map::default();
                let mut frame = said.clone();
                frame["type"] = json!("snapshot");
                map.follow(&frame);
                map.version = 0;
                if map != truth {
                    return Err(format!("after {after} {door} says {said}, not {truth:?}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// What PostgreSQL and Redis say, by the documented keys.
    async fn truth(&self) -> Result<Map, String> {
        let sold = self.world.rows(TAKEN, &[&self.event]).await;
        let sold: Vec<i32> = sold[0].get::<_, Option<Vec<i32>>>(0).unwrap_or_default();
        let free: i32 = self.world.rows(FREE, &[&self.event]).await[0].get(0);
        let mut redis = self.world.redis.client().await;
        let mut held = Vec::new();
        for seat in 1..=u64::from(SEATS) {
            let key = format!("event:{{{}}}:hold:{seat}", self.event);
            let owner: Option<String> = redis::cmd("GET")
                .arg(key)
                .query_async(&mut redis)
                .await
                .map_err(|error| error.to_string())?;
            held.extend(owner.map(|_| seat));
        }
        let available = u64::try_from(free).unwrap() - u64::try_from(held.len()).unwrap();
        let taken = sold.into_iter().map(|seat| u64::try_from(seat).unwrap()).collect();
        Ok(Map { version: 0, available, taken, held: held.into_iter().collect() })
    }

    /// Redis is back; some may not have noticed yet.
    async fn redis_is_back(&self) {
        sleep(BACK).await;
        self.history.healed();
    }

    async fn end(mut self) {
        self.mood.send_replace(Mood::Over);
        for holder in self.holders.drain(..) {
            holder.await.expect("a holder");
        }
        let (claims, booked) = self.history.check();
        println!("{claims} certain claims, {booked} of them bookings");
        assert!(claims > 200 && booked > 50, "too few to tell: {claims}, {booked}");
        self.world.redis_is_equal().await;
        self.world.invariants_hold().await;
        for server in &mut self.servers {
            server.must_live();
            let words = server.last_words();
            assert!(!words.contains("panicked"), "{words}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_history_has_two_owners_of_a_seat_when_redis_breaks() {
    let mut scene = Scene::new(&[]).await;
    scene.traffic(1500).await;
    scene.peace("nothing").await;

    scene.traffic(1000).await;
    scene.history.outage();
    scene.world.redis.kill();
    scene.traffic(700).await;
    scene.world.redis.start_again().await;
    scene.redis_is_back().await;
    scene.traffic(1500).await;
    scene.peace("a kill").await;

    scene.traffic(1000).await;
    scene.history.outage();
    for _ in 0..3 {
        let mut redis = scene.world.redis.client().await;
        redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();
        scene.traffic(400).await;
    }
    scene.redis_is_back().await;
    scene.traffic(1500).await;
    scene.peace("flushes").await;

    scene.traffic(1000).await;
    scene.history.outage();
    scene.world.redis.signal("STOP");
    scene.traffic(3000).await;
    scene.world.redis.signal("CONT");
    scene.redis_is_back().await;
    scene.traffic(1500).await;
    scene.peace("a pause").await;

    // What is told is lost, and the connections that it is told by are cut.
    for _ in 0..12 {
        scene.traffic(200).await;
        let mut redis = scene.world.redis.client().await;
        let kill = ["KILL", "TYPE", "pubsub"];
        redis::cmd("CLIENT").arg(&kill).exec_async(&mut redis).await.unwrap();
    }
    scene.peace("lost messages").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_history_has_two_owners_of_a_seat_when_processes_and_sockets_die() {
    // A busy machine alone shall not make it seem away.
    let mut scene = Scene::new(&[("HAPPENING__REDIS__RESPONSE_TIMEOUT_MS", "10000")]).await;
    for victim in [0, 1, 0] {
        scene.traffic(1500).await;
        scene.servers[victim].kill();
        scene.doors.set(&[scene.servers[1 - victim].address]);
        scene.traffic(1000).await;
        scene.servers[victim] = scene.world.serve().await;
        scene.doors.set(&[scene.servers[0].address, scene.servers[1].address]);
        scene.traffic(1000).await;
        scene.peace("a killed process").await;
    }
    for number in 0..1000 {
        let watcher = Watcher::start(&scene.doors, number, scene.event, scene.cut.subscribe());
        scene.watchers.push(watcher);
    }
    scene.peace("a thousand came").await;
    for _ in 0..3 {
        scene.traffic(1000).await;
        scene.cut.send_modify(|cuts| *cuts += 1);
    }
    scene.peace("a thousand sockets were cut").await;
    scene.end().await;
}
