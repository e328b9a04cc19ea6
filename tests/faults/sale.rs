//! The driver: people who book and cancel with idempotency keys, all that they were answered, and
//! what they do about it: whoever got no definite answer asks again with the same key.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::http::{self, Reply};
use crate::world::Person;

/// How long everybody who asks again may need after the fault is over.
const SETTLE: Duration = Duration::from_secs(45);
/// How many ask at the same time.
const AT_ONCE: usize = 32;
/// How many come at the same moment: evenly spaced, they would never be in each other's way.
const CLUMP: u32 = 4;

/// What somebody wants.
#[derive(Clone)]
pub struct Order {
    pub person: Person,
    pub path: String,
    pub body: String,
}

impl Order {
    /// Seats, or a place in the queue if `waitlist`.
    pub fn book(person: Person, event: Uuid, seats: u32, waitlist: bool) -> Self {
        let body = json!({"event_id": event, "seats": seats, "waitlist": waitlist}).to_string();
        Self { person, path: "/api/v1/bookings".to_owned(), body }
    }

    /// To give a booking back.
    pub fn cancel(person: Person, booking: Uuid) -> Self {
        Self { person, path: format!("/api/v1/bookings/{booking}/cancel"), body: "{}".to_owned() }
    }

    pub fn is_booking(&self) -> bool {
        self.path == "/api/v1/bookings"
    }
}

/// An order under its key, and everything that was answered to it.
#[derive(Clone)]
pub struct Attempt {
    pub order: Order,
    pub key: String,
    pub answers: Vec<http::Result>,
    /// When it was first sent.
    pub at: Instant,
}

impl Attempt {
    /// The answer that tells what became of it: any but "later", "in flight" and none.
    pub fn definite(&self) -> Option<&Reply> {
        self.answers.iter().flatten().find(|reply| definite(reply))
    }

    /// The booking that was answered.
    pub fn booking(&self) -> Option<Value> {
        self.definite().filter(|reply| reply.status < 300).map(Reply::json)
    }
}

fn definite(reply: &Reply) -> bool {
    match reply.status {
        503 => false,
        409 => reply.json()["code"] != "request_in_flight",
        _ => true,
    }
}

/// The id in an answer.
pub fn id_of(booking: &Value) -> Uuid {
    booking["id"].as_str().and_then(|id| id.parse().ok()).expect("a booking has an id")
}

/// A sale over any number of servers. Cheap to clone.
#[derive(Clone)]
pub struct Sale {
    servers: Arc<Mutex<Vec<SocketAddr>>>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    turn: Arc<AtomicUsize>,
}

impl Sale {
    pub fn new() -> Self {
        Self { servers: Arc::default(), attempts: Arc::default(), turn: Arc::default() }
    }

    /// Where requests go from now on, in turns.
    pub fn send_to(&self, servers: &[SocketAddr]) {
        *self.servers.lock().unwrap() = servers.to_vec();
    }

    /// Sends an order under a new key, and answers which it was.
    pub async fn submit(&self, order: Order) -> usize {
        let index = self.note(order);
        self.try_once(index).await;
        index
    }

    fn note(&self, order: Order) -> usize {
        let key = Uuid::now_v7().to_string();
        let attempt = Attempt { order, key, answers: Vec::new(), at: Instant::now() };
        let mut attempts = self.attempts.lock().unwrap();
        attempts.push(attempt);
        attempts.len() - 1
    }

    /// Sends an order under one key to all servers, so many times at once.
    pub async fn insist(&self, order: Order, times: usize) -> usize {
        let index = self.note(order);
        stream::iter(0..times)
            .for_each_concurrent(None, async |_| self.try_once(index).await)
            .await;
        index
    }

    /// Sends an order and answers what was answered, which has to be definite.
    pub async fn expect(&self, order: Order, status: u16) -> Reply {
        let index = self.submit(order).await;
        let attempt = self.attempt(index);
        match attempt.answers.last() {
            Some(Ok(reply)) if reply.status == status => reply.clone(),
            other => panic!("{} {}: {other:?}", attempt.order.path, attempt.order.body),
        }
    }

    /// Sends many at the same time and waits for what comes.
    pub async fn burst(&self, orders: Vec<Order>) {
        stream::iter(orders)
            .for_each_concurrent(AT_ONCE, async |order| {
                self.submit(order).await;
            })
            .await;
    }

    /// Sends an order again under its key.
    pub async fn try_once(&self, index: usize) {
        let attempt = self.attempt(index);
        let answer = self.send(&attempt).await;
        self.attempts.lock().unwrap()[index].answers.push(answer);
    }

    async fn send(&self, attempt: &Attempt) -> http::Result {
        let server = {
            let servers = self.servers.lock().unwrap();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            servers[turn % servers.len()]
        };
        let bearer = format!("Bearer {}", attempt.order.person.token);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", attempt.key.as_str()),
        ];
        http::send(server, "POST", &attempt.order.path, &headers, &attempt.order.body).await
    }

    /// Starts people who order at this rate, some at the same moment, whatever happens to those
    /// before them.
    pub fn load(
        &self,
        per_second: u32,
        mut next: impl FnMut(&Sale) -> Option<Order> + Send + 'static,
    ) -> Load {
        let (stop, mut stopped) = watch::channel(false);
        let sale = self.clone();
        let task = tokio::spawn(async move {
            let mut tick = interval(Duration::from_secs(1) * CLUMP / per_second);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut orders = JoinSet::new();
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                    _ = tick.tick() => {}
                }
                for _ in 0..CLUMP {
                    let Some(order) = next(&sale) else { break };
                    let (sale, index) = (sale.clone(), sale.note(order));
                    orders.spawn(async move { sale.try_once(index).await });
                }
            }
            orders.join_all().await;
        });
        Load { stop, task }
    }

    /// Everybody without a definite answer asks again until there is one.
    pub async fn settle(&self) {
        let begun = Instant::now();
        loop {
            let open: Vec<usize> =
                (0..self.len()).filter(|index| self.attempt(*index).definite().is_none()).collect();
            if open.is_empty() {
                return;
            }
            let last = self.attempt(open[0]).answers.last().cloned();
            assert!(begun.elapsed() < SETTLE, "{} orders without an answer: {last:?}", open.len());
            stream::iter(open)
                .for_each_concurrent(AT_ONCE, async |index| {
                    self.try_once(index).await;
                })
                .await;
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Everybody has a definite answer, because nothing was broken.
    pub fn settled_without_help(&self) {
        for attempt in self.attempts() {
            assert!(attempt.definite().is_some(), "{:?}", attempt.answers);
        }
    }

    /// Asks everybody's question again: the answers have to be those that were given.
    pub async fn replay(&self) {
        stream::iter(0..self.len())
            .for_each_concurrent(AT_ONCE, async |index| {
                let attempt = self.attempt(index);
                let first = attempt.definite().expect("the sale is settled");
                let again = self.send(&attempt).await.expect("an answer to a replay");
                assert_eq!(again.status, first.status, "{}", again.body);
                if first.status < 300 {
                    assert!(again.replayed, "done twice: {}", again.body);
                    assert_eq!(again.body, first.body);
                }
            })
            .await;
    }

    pub fn len(&self) -> usize {
        self.attempts.lock().unwrap().len()
    }

    pub fn attempt(&self, index: usize) -> Attempt {
        self.attempts.lock().unwrap()[index].clone()
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().unwrap().clone()
    }

    /// How many orders were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.attempts().iter().filter(|attempt| attempt.booking().is_some()).count()
    }

    /// To give back one of those, whichever the dice say.
    pub fn one_to_cancel(&self, dice: u32) -> Option<Order> {
        let mut open = self.to_cancel();
        let index = usize::try_from(dice).unwrap().wrapping_mul(7919) % open.len().max(1);
        (!open.is_empty()).then(|| {
            let (person, booking) = open.swap_remove(index);
            Order::cancel(person, booking)
        })
    }

    /// Bookings that were acknowledged as confirmed and that nobody tried to cancel.
    pub fn to_cancel(&self) -> Vec<(Person, Uuid)> {
        let attempts = self.attempts.lock().unwrap();
        let cancelled: Vec<&str> =
            attempts.iter().filter_map(|one| one.order.path.split('/').nth(4)).collect();
        attempts
            .iter()
            .filter(|one| one.order.is_booking())
            .filter_map(|one| Some((one.order.person.clone(), one.booking()?)))
            .filter(|(_, booking)| booking["status"] == "confirmed")
            .map(|(person, booking)| (person, id_of(&booking)))
            .filter(|(_, id)| !cancelled.contains(&id.to_string().as_str()))
            .collect()
    }
}

/// People who order until they are stopped.
pub struct Load {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Load {
    /// Nobody orders any more; waits for those who have.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("the load");
    }
}
