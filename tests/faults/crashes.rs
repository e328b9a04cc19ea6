//! The server dies as by `kill -9` at the places where it hurts most, and is started again.

use std::time::Duration;

use uuid::Uuid;

use crate::sale::{Order, Sale};
use crate::server::Server;
use crate::world::World;

/// How long a server may live after it was sent to its crash point.
const DEATH: Duration = Duration::from_secs(20);
const BOOKINGS: &str = "SELECT count(*) FROM bookings";
const LEASED: &str =
    "SELECT count(*) FROM outbox WHERE lease_until IS NOT NULL AND sent_at IS NULL";
const TOLD: &str = "SELECT count(*) FROM notifications";

/// A sale that was hit by a crash, and what is left of it.
struct Wreck {
    world: World,
    sale: Sale,
    events: [Uuid; 2],
    people: Vec<crate::world::Person>,
    /// Bookings when the server with the crash point started.
    before: i64,
}

/// Sells some seats, then dies at the crash point in a burst.
async fn wreck(crash_point: &str) -> Wreck {
    let world = World::new().await;
    let (general, _) = world.event(60).await;
    let (numbered, _) = world.numbered_event(20).await;
    let people = world.people(120).await;
    let mut wreck =
        Wreck { world, sale: Sale::new(), events: [general, numbered], people, before: 0 };

    let mut first = wreck.world.serve().await;
    wreck.sale.send_to(&[first.address]);
    wreck.burst(30).await;
    wreck.sale.settled_without_help();
    // Nothing is left over that would bring the next one to its crash point before the burst.
    wreck.world.must_hold(&wreck.sale, &mut [&mut first]).await;
    first.signal("TERM");
    first.wait(DEATH).await;
    wreck.before = wreck.world.count(BOOKINGS).await;

    let mut second = wreck.world.serve_until(crash_point).await;
    wreck.sale.send_to(&[second.address]);
    wreck.burst(60).await;
    second.wait(DEATH).await;
    wreck
}

impl Wreck {
    /// So many people book at the same time: one seat or two, some of whom would not wait.
    async fn burst(&mut self, count: usize) {
        let orders = self.people.drain(..count).enumerate().map(|(index, person)| {
            let event = self.events[usize::from(index % 3 == 0)];
            Order::book(person, event, if index % 2 == 0 { 1 } else { 2 }, index % 5 != 0)
        });
        let orders = orders.collect();
        self.sale.burst(orders).await;
    }

    /// Starts a server without a crash point, sells on, and checks everything.
    async fn recovers(&mut self) -> Server {
        let mut server = self.world.serve().await;
        self.sale.send_to(&[server.address]);
        self.burst(30).await;
        self.world.must_hold(&self.sale, &mut [&mut server]).await;
        server
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_commit() {
    let mut wreck = wreck("desk_before_commit").await;
    assert_eq!(wreck.world.count(BOOKINGS).await, wreck.before, "nothing may be there");
    wreck.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_commit_before_the_reply() {
    let mut wreck = wreck("desk_after_commit").await;
    assert!(wreck.world.count(BOOKINGS).await > wreck.before, "the commit must have happened");
    wreck.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_relay_published_before_its_mark() {
    let mut wreck = wreck("relay_published").await;
    assert!(wreck.world.count(LEASED).await > 0, "published and not marked");
    let server = wreck.recovers().await;
    let twice = server.counter("consumer_messages_total", "outcome=\"duplicate\"").await;
    assert!(twice > 0.0, "what was published twice must have come twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_consumers_effect_before_its_ack() {
    let mut wreck = wreck("consumer_committed").await;
    assert!(wreck.world.count(TOLD).await > 0, "the effect must be there");
    let server = wreck.recovers().await;
    let twice = server.counter("consumer_messages_total", "outcome=\"duplicate\"").await;
    assert!(twice > 0.0, "what was not acknowledged must have come again");
}
