//! Many hold, renew, let go, wait too long, book and cancel at once, through two processes. What
//! they were told is written down; afterwards nobody may have been told that a seat is theirs while
//! it was somebody else's, and what was told to those who watch must be the same story.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use happening::app::App;
use happening::app::events::seats;
use happening::domain::ids::EventId;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::people::Person;
use crate::harness::{TestServer, Wishes, spawn};
use crate::support::client::{Client, Reply};
use crate::support::eventually;

const SEATS: u32 = 12;
const ACTORS: usize = 16;
const STEPS: u32 = 40;
const TTL: Duration = Duration::from_millis(250);

/// A seat became somebody's between `asked` and `told`, and was surely theirs from then to `until`.
#[derive(Clone, Copy, Debug)]
struct Claim {
    who: usize,
    seat: u32,
    asked: Instant,
    told: Instant,
    until: Instant,
}

type History = Arc<Mutex<Vec<Claim>>>;

/// Somebody who does one thing after the other.
struct Actor {
    who: usize,
    person: Person,
    event: Uuid,
    doors: [Client; 2],
    dice: u64,
    history: History,
}

impl Actor {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64: the same steps each time, though in another order of arrival.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    async fn ask(&mut self, method: &str, path: &str, body: Value) -> (Instant, Reply, Instant) {
        let door = if self.roll(2) == 0 { &self.doors[0] } else { &self.doors[1] };
        let ask = door.call(method, path).bearer(&self.person.token);
        let ask = if body.is_null() { ask } else { ask.json(body) };
        let asked = Instant::now();
        let reply = ask.send().await;
        (asked, reply, Instant::now())
    }

    fn note(&self, seats: &[u32], asked: Instant, told: Instant, until: Instant) {
        let mut history = self.history.lock().unwrap();
        let who = self.who;
        history.extend(seats.iter().map(|&seat| Claim { who, seat, asked, told, until }));
    }

    async fn act(mut self) {
        for _ in 0..STEPS {
            let first = u32::try_from(self.roll(u64::from(SEATS))).unwrap() + 1;
            let many = u32::try_from(self.roll(3)).unwrap();
            let seats: Vec<u32> = (first..=(first + many).min(SEATS)).collect();
            if self.roll(4) == 0 {
                self.book(&seats, None, Instant::now()).await;
            } else {
                self.hold(&seats).await;
            }
        }
    }

    async fn hold(&mut self, seats: &[u32]) {
        let path = format!("/events/{}/holds", self.event);
        let (asked, reply, told) = self.ask("POST", &path, json!({"seat_numbers": seats})).await;
        if reply.status != 201 {
            let code = reply.body["code"].as_str().unwrap_or_default();
            assert!(
                matches!(code, "seats_unavailable" | "sold_out" | "hold_limit_event"),
                "{}",
                reply.text
            );
            return;
        }
        let token = reply.str("hold_token");
        let path = format!("{path}/{token}");
        let mut until = asked + TTL;
        for _ in 0..self.roll(3) {
            tokio::time::sleep(TTL / 3).await;
            let (renewing, reply, _) = self.ask("PUT", &path, Value::Null).await;
            if reply.status == 200 {
                until = renewing + TTL;
            }
        }
        match self.roll(4) {
            0 => {
                let ending = Instant::now();
                self.note(seats, asked, told, until.min(ending));
                self.ask("DELETE", &path, Value::Null).await.1.expect(204);
            }
            1 => {
                self.note(seats, asked, told, until);
                tokio::time::sleep(TTL * 2).await;
                // Too late: whatever it holds is not ours any more.
                let late = self.book_with(seats, Some(&token)).await.1;
                late.refused(409, "hold_expired");
            }
            _ => {
                let booking = Instant::now();
                if !self.book(seats, Some(&token), told).await {
                    self.note(seats, asked, told, until.min(booking));
                }
            }
        }
    }

    async fn book_with(&mut self, seats: &[u32], token: Option<&str>) -> (Instant, Reply, Instant) {
        let mut body = json!({"event_id": self.event, "seat_numbers": seats, "waitlist": false});
        if let Some(token) = token {
            body["hold_token"] = json!(token);
        }
        self.ask("POST", "/bookings", body).await
    }

    /// Books, keeps it for a moment, and gives it back. What was held since `held` was theirs all
    /// the time.
    async fn book(&mut self, seats: &[u32], token: Option<&str>, held: Instant) -> bool {
        let (asked, reply, told) = self.book_with(seats, token).await;
        if reply.status != 201 {
            let code = reply.body["code"].as_str().unwrap_or_default();
            assert!(
                matches!(code, "seats_unavailable" | "sold_out" | "hold_expired"),
                "{}",
                reply.text
            );
            return false;
        }
        let pause = Duration::from_millis(self.roll(60));
        tokio::time::sleep(pause).await;
        let ending = Instant::now();
        if token.is_some() {
            self.note(seats, held, held, ending);
        } else {
            self.note(seats, asked, told, ending);
        }
        let path = format!("/bookings/{}/cancel", reply.str("id"));
        self.ask("POST", &path, Value::Null).await.1.expect(200);
        true
    }
}

/// Nobody was told that a seat is theirs while it surely was another's all the time of asking.
fn check(history: &[Claim]) {
    for one in history {
        for other in history.iter().filter(|other| other.seat == one.seat && other.who != one.who) {
            let within = other.told <= one.asked && one.told < other.until;
            assert!(!within, "seat {}: {one:?} while {other:?}", one.seat);
        }
    }
}

/// What those who watch are told, retold as it comes: each change must be possible after the one
/// before. When they are told to look anew (a publication overtook another), they do.
struct Story {
    app: App,
    event: EventId,
    version: i64,
    held: BTreeSet<u32>,
    taken: BTreeSet<u32>,
    sure: bool,
    checked: u32,
}

impl Story {
    async fn look(&mut self) {
        let now = seats::look(&self.app, self.event).await.unwrap();
        let kept = u32::try_from(now.held.len() + now.taken.len()).unwrap();
        (self.version, self.sure) = (now.version, now.available + kept == SEATS);
        self.held = now.held.into_iter().collect();
        self.taken = now.taken.into_iter().collect();
    }

    async fn hear(&mut self, delta: &Value) {
        let version = delta["v"].as_i64().unwrap();
        if version <= self.version {
            return;
        }
        assert!(version == self.version + 1, "no change is left out: {delta}");
        if delta["full"] == true || !self.sure {
            return self.look().await;
        }
        (self.version, self.checked) = (version, self.checked + 1);
        let seats = |field: &str| -> BTreeSet<u32> {
            let list = delta[field].as_array().into_iter().flatten();
            list.map(|seat| u32::try_from(seat.as_u64().unwrap()).unwrap()).collect()
        };
        let lost = delta["lost"].as_object().into_iter().flat_map(|lost| lost.values());
        let lost: BTreeSet<u64> = lost
            .flat_map(|seats| seats.as_array().unwrap().iter().filter_map(Value::as_u64))
            .collect();
        for seat in seats("released") {
            assert!(self.held.remove(&seat), "{seat} was not held: {delta}");
        }
        for seat in seats("freed") {
            assert!(self.taken.remove(&seat), "{seat} was not taken: {delta}");
        }
        for seat in seats("held") {
            assert!(!self.taken.contains(&seat), "{seat} is taken: {delta}");
            let fresh = self.held.insert(seat) || lost.contains(&seat.into());
            assert!(fresh, "{seat} is held: {delta}");
        }
        for seat in seats("taken") {
            self.held.remove(&seat);
            assert!(self.taken.insert(seat), "{seat} was taken already: {delta}");
        }
        let kept = self.held.len() + self.taken.len();
        let left = u64::from(SEATS) - u64::try_from(kept).unwrap();
        assert_eq!(delta["available"].as_u64().unwrap(), left, "{delta}");
    }
}

async fn numbered(server: &TestServer, capacity: u32) -> Uuid {
    let organizer = server.organizer().await;
    let more = json!({"seating": "numbered", "capacity": capacity});
    let event = server.event(&organizer, more).await;
    // Known to Redis: a seat was held once.
    let somebody = server.person().await;
    let path = format!("/events/{event}/holds");
    let ask = server.call("POST", &path).bearer(&somebody.token);
    let held = ask.json(json!({"seat_numbers": [1]})).send().await.expect(201);
    let path = format!("{path}/{}", held.str("hold_token"));
    server.call("DELETE", &path).bearer(&somebody.token).send().await.expect(204);
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_history_shows_two_owners_of_a_seat() {
    let ttl = TTL.as_millis().to_string();
    let mut server = Wishes::default()
        .set("HAPPENING__HOLDS__TTL_MS", &ttl)
        .set("HAPPENING__HOLDS__PER_EVENT_PERCENT", "100")
        .start()
        .await;
    let (other, _) = server.another().await;
    let event = numbered(&server, SEATS).await;
    let url = server.app().config.redis.url.expose_secret().to_owned();
    let (mut sink, mut heard) =
        redis::Client::open(url).unwrap().get_async_pubsub().await.unwrap().split();
    sink.subscribe(format!("event:{{{event}}}:deltas")).await.unwrap();
    let path = format!("/events/{event}/seats");
    let mut story = Story {
        app: server.app().clone(),
        event: EventId(event),
        version: 0,
        held: BTreeSet::new(),
        taken: BTreeSet::new(),
        sure: false,
        checked: 0,
    };
    story.look().await;
    let (end, mut ended) = tokio::sync::watch::channel(i64::MAX);
    let story = spawn(async move {
        while story.version < *ended.borrow_and_update() {
            let message = tokio::select! {
                message = heard.next() => message.expect("the channel is open"),
                _ = ended.changed() => continue,
            };
            let delta: String = message.get_payload().unwrap();
            story.hear(&serde_json::from_str(&delta).unwrap()).await;
        }
        story
    });

    let history = History::default();
    let people = server.people(ACTORS).await;
    let acts = people.into_iter().enumerate().map(|(who, person)| {
        let doors = [server.client().clone(), other.clone()];
        let dice =
            0x9e37_79b9_7f4a_7c15 ^ (u64::try_from(who).unwrap() + 1).wrapping_mul(0x2545_f491);
        let actor = Actor { who, person, event, doors, dice, history: Arc::clone(&history) };
        spawn(actor.act())
    });
    for act in join_all(acts).await {
        act.expect("nobody was told what cannot be");
    }
    let claims = history.lock().unwrap().clone();
    assert!(claims.len() > 100, "only {} claims: too few to tell", claims.len());
    check(&claims);

    // Peace: everything was given back or runs out, and who watched knows it.
    let last = eventually(Duration::from_secs(10), || async {
        let now = server.call("GET", &path).send().await.expect(200).body;
        let empty = now["held"] == json!([]) && now["taken"] == json!([]);
        if empty { Ok(now) } else { Err(now.to_string()) }
    })
    .await;
    end.send(last["version"].as_i64().unwrap()).unwrap();
    let story = story.await.expect("the story holds together");
    assert!(story.held.is_empty() && story.taken.is_empty());
    assert!(story.checked > 100, "only {} changes were checked", story.checked);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_overlapping_wishes_each_is_granted_whole_or_not_at_all() {
    let mut server =
        Wishes::default().set("HAPPENING__HOLDS__PER_EVENT_PERCENT", "100").start().await;
    let (other, _) = server.another().await;
    let event = numbered(&server, 40).await;
    let people = server.people(120).await;
    let asks = people.iter().enumerate().map(|(n, person)| {
        let client = if n % 2 == 0 { server.client() } else { &other };
        let first = 1 + (n * 7) % 38;
        let seats = [first, first + 1, first + 2];
        let (hold, book) = (format!("/events/{event}/holds"), "/bookings".to_owned());
        let direct = n % 5 == 0;
        let ask = client.call("POST", if direct { &book } else { &hold }).bearer(&person.token);
        let body = if direct {
            json!({"event_id": event, "seat_numbers": seats, "waitlist": false})
        } else {
            json!({"seat_numbers": seats})
        };
        ask.json(body).send()
    });
    let replies = join_all(asks).await;
    let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
    for (n, reply) in replies.iter().enumerate() {
        if reply.status == 201 {
            for seat in reply.body["seat_numbers"].as_array().unwrap() {
                let before = owners.insert(seat.as_u64().unwrap(), n);
                assert_eq!(before, None, "seat {seat} was given twice");
            }
        } else {
            reply.clone().refused(409, "seats_unavailable");
        }
    }
    assert!(owners.len() >= 30, "most seats are somebody's: {owners:?}");
    server.finish().await;
}
