//! People who hold, renew, let go, wait too long, book and cancel, and write down what they were
//! told; and what such a history must not show, whatever broke meanwhile.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::http::{self, Reply};
use crate::watchers::Doors;
use crate::world::Person;

/// How long seats are held here.
pub const TTL: Duration = Duration::from_secs(2);
/// How long whoever got no definite answer asks again.
const SETTLE: Duration = Duration::from_secs(30);

/// How a seat came to be somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was held: an outage of Redis ends that.
    Held,
    /// It was booked.
    Booked,
}

/// A seat became somebody's between `asked` and `told`, and was surely theirs from then to `until`.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    who: usize,
    seat: u32,
    how: How,
    asked: Instant,
    told: Instant,
    until: Instant,
}

/// What everybody was told, and when Redis was not to be had. Cheap to clone.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    claims: Vec<Claim>,
    outages: Vec<(Instant, Option<Instant>)>,
    broken: Vec<String>,
}

impl History {
    /// From now on holds may be void.
    pub fn outage(&self) {
        self.0.lock().unwrap().outages.push((Instant::now(), None));
    }

    /// They are good again.
    pub fn healed(&self) {
        let mut told = self.0.lock().unwrap();
        told.outages.last_mut().expect("an outage").1 = Some(Instant::now());
    }

    /// Whether nothing broke from then to then.
    fn quiet(&self, from: Instant, to: Instant) -> bool {
        let told = self.0.lock().unwrap();
        !told.outages.iter().any(|(begun, over)| *begun <= to && over.is_none_or(|at| at >= from))
    }

    fn note(&self, who: usize, seats: &[u32], how: How, times: (Instant, Instant, Instant)) {
        let (asked, told, until) = times;
        let claims = seats.iter().map(|&seat| Claim { who, seat, how, asked, told, until });
        self.0.lock().unwrap().claims.extend(claims);
    }

    fn complain(&self, of: String) {
        self.0.lock().unwrap().broken.push(of);
    }

    /// Fails if anybody was told what cannot be; how many claims there are.
    pub fn check(&self) -> (usize, usize) {
        let told = self.0.lock().unwrap();
        assert!(told.broken.is_empty(), "{:#?}", told.broken);
        let claims: Vec<Claim> =
            told.claims.iter().filter_map(|claim| certain(claim, &told.outages)).collect();
        for one in &claims {
            let others = claims.iter().filter(|other| other.seat == one.seat);
            for other in others.filter(|other| other.who != one.who) {
                // It became theirs while it surely was another's, or it surely was both's at once.
                let within = other.told <= one.asked && one.told < other.until;
                let both = one.told < other.until && other.told < one.until;
                assert!(!within && !both, "seat {}: {one:#?} while {other:#?}", one.seat);
            }
        }
        let booked = claims.iter().filter(|claim| claim.how == How::Booked).count();
        (claims.len(), booked)
    }
}

/// What is certain of a claim: a hold that was granted during an outage is not, and one that was
/// granted before is void from then on.
fn certain(claim: &Claim, outages: &[(Instant, Option<Instant>)]) -> Option<Claim> {
    let mut claim = *claim;
    if claim.how == How::Held {
        for (begun, over) in outages {
            if *begun <= claim.told && over.is_none_or(|over| over >= claim.asked) {
                return None;
            }
            if *begun > claim.told {
                claim.until = claim.until.min(*begun);
            }
        }
    }
    Some(claim)
}

/// What holders do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// They come and go.
    Busy,
    /// They finish what they have begun.
    Quiet,
    /// They go home.
    Over,
}

/// Somebody who does one thing after the other.
pub struct Holder {
    pub who: usize,
    pub person: Person,
    pub event: Uuid,
    pub seats: u32,
    pub doors: Doors,
    pub history: History,
    pub mood: watch::Receiver<Mood>,
    /// Counts those who are at it.
    pub busy: Arc<()>,
}

/// One request, at one of the doors.
pub async fn ask(
    at: SocketAddr,
    by: &Person,
    key: Option<&str>,
    request: (&str, &str),
    body: &Value,
) -> http::Result {
    let bearer = format!("Bearer {}", by.token);
    let mut headers =
        vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let path = format!("/api/v1{}", request.1);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::send(at, request.0, &path, &headers, &body).await
}

impl Holder {
    pub fn start(self) -> JoinHandle<()> {
        tokio::spawn(self.act())
    }

    async fn act(self) {
        let mut mood = self.mood.clone();
        let mut dice = 0x9e37_79b9_7f4a_7c15
            ^ (u64::try_from(self.who).unwrap() + 1).wrapping_mul(0x2545_f491);
        loop {
            let now = *mood.borrow_and_update();
            match now {
                Mood::Over => return,
                Mood::Quiet => {
                    mood.changed().await.ok();
                    continue;
                }
                Mood::Busy => {}
            }
            let at_it = Arc::clone(&self.busy);
            let mut roll = |sides: u64| {
                // xorshift64
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                u32::try_from(dice % sides).unwrap()
            };
            let first = roll(u64::from(self.seats)) + 1;
            let seats: Vec<u32> = (first..=(first + roll(3)).min(self.seats)).collect();
            let plan = [roll(64), roll(3), roll(4), roll(120), roll(2)];
            if plan[0].is_multiple_of(4) {
                self.book(&seats, None, plan).await;
            } else {
                self.hold(&seats, plan).await;
            }
            drop(at_it);
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn once(&self, plan: [u32; 5], request: (&str, &str), body: &Value) -> http::Result {
        let door = self.doors.pick(usize::try_from(plan[4]).unwrap());
        ask(door, &self.person, None, request, body).await
    }

    /// Asks until the answer is definite.
    async fn insist(&self, plan: [u32; 5], path: &str, body: &Value) -> (Instant, Reply, Instant) {
        let (asked, key) = (Instant::now(), Uuid::now_v7().to_string());
        for turn in plan[4].. {
            let door = self.doors.pick(usize::try_from(turn).unwrap());
            let answer = ask(door, &self.person, Some(&key), ("POST", path), body).await;
            if let Ok(reply) = &answer
                && reply.status != 503
                && reply.json()["code"] != "request_in_flight"
            {
                return (asked, reply.clone(), Instant::now());
            }
            assert!(asked.elapsed() < SETTLE, "{path} {body}: {answer:?}");
            sleep(Duration::from_millis(50)).await;
        }
        unreachable!("there is always another turn")
    }

    async fn hold(&self, seats: &[u32], plan: [u32; 5]) {
        let path = format!("/events/{}/holds", self.event);
        let asked = Instant::now();
        let answer = self.once(plan, ("POST", &path), &json!({"seat_numbers": seats})).await;
        let told = Instant::now();
        // Without an answer it may be held, for a while: nobody can say.
        let Ok(reply) = answer else { return };
        if reply.status != 201 {
            let known = ["seats_unavailable", "sold_out", "hold_limit_event", "unavailable"];
            let code = reply.json()["code"].clone();
            if !known.iter().any(|known| code == *known) {
                self.history.complain(format!("a hold was answered with {}", reply.body));
            }
            return;
        }
        let token = reply.json()["hold_token"].as_str().expect("a token").to_owned();
        let path = format!("{path}/{token}");
        // Theirs until then at least, and at most until then.
        let (mut until, mut at_most) = (asked + TTL, told + TTL);
        for _ in 0..plan[1] {
            sleep(TTL / 8).await;
            let renewing = Instant::now();
            let renewed = self.once(plan, ("PUT", &path), &Value::Null).await;
            if renewed.is_ok_and(|reply| reply.status == 200) {
                until = renewing + TTL;
            }
            at_most = Instant::now() + TTL;
        }
        match plan[2] {
            0 => {
                self.history.note(self.who, seats, How::Held, (asked, told, until.min(now())));
                self.once(plan, ("DELETE", &path), &Value::Null).await.ok();
            }
            1 if plan[3].is_multiple_of(4) => {
                self.history.note(self.who, seats, How::Held, (asked, told, until));
                tokio::time::sleep_until((at_most + TTL / 4).into()).await;
                self.come_late(seats, &token, plan).await;
            }
            _ => self.convert(seats, (&token, (asked, told, until)), plan).await,
        }
    }

    /// Too late: whatever was held is not theirs any more.
    async fn come_late(&self, seats: &[u32], token: &str, plan: [u32; 5]) {
        let body = json!({"event_id": self.event, "seat_numbers": seats, "waitlist": false,
                          "hold_token": token});
        let (asked, reply, told) = self.insist(plan, "/bookings", &body).await;
        if reply.status == 201 {
            // While Redis is away nobody can know that it is late.
            if self.history.quiet(asked, told) {
                self.history.complain(format!("booked by a hold that was over: {}", reply.body));
            }
            self.give_back(&reply, plan).await;
        }
    }

    async fn convert(
        &self,
        seats: &[u32],
        (token, held): (&str, (Instant, Instant, Instant)),
        plan: [u32; 5],
    ) {
        let (asked, told, until) = held;
        let booking = Instant::now();
        if let Some(booked) = self.book(seats, Some(token), plan).await {
            // Theirs all the time between, unless the hold became void.
            self.history.note(self.who, seats, How::Held, (asked, told, booked));
            return;
        }
        self.history.note(self.who, seats, How::Held, (asked, told, until.min(booking)));
        let live = now() < until && self.history.quiet(asked, now());
        if live {
            self.history.complain(format!("{} lost {seats:?}, which it held", self.who));
        }
    }

    /// Books, keeps it for a moment, and gives it back; when it was told that they are booked.
    async fn book(&self, seats: &[u32], token: Option<&str>, plan: [u32; 5]) -> Option<Instant> {
        let mut body = json!({"event_id": self.event, "seat_numbers": seats, "waitlist": false});
        if let Some(token) = token {
            body["hold_token"] = json!(token);
        }
        let (asked, reply, told) = self.insist(plan, "/bookings", &body).await;
        if reply.status != 201 {
            let known = ["seats_unavailable", "sold_out", "hold_expired"];
            let code = reply.json()["code"].clone();
            if !known.iter().any(|known| code == *known) {
                self.history.complain(format!("a booking was answered with {}", reply.body));
            }
            return None;
        }
        sleep(Duration::from_millis(plan[3].into())).await;
        self.history.note(self.who, seats, How::Booked, (asked, told, now()));
        self.give_back(&reply, plan).await;
        Some(told)
    }

    async fn give_back(&self, booked: &Reply, plan: [u32; 5]) {
        let path = format!("/bookings/{}/cancel", booked.json()["id"].as_str().expect("an id"));
        let (_, reply, _) = self.insist(plan, &path, &json!({})).await;
        if reply.status != 200 {
            self.history.complain(format!("{path} was answered with {}", reply.body));
        }
    }
}

fn now() -> Instant {
    Instant::now()
}
