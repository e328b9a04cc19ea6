//! A large event is cancelled, and the server dies in the middle of telling everybody.

use std::time::Duration;

use serde_json::json;

use crate::process::until;
use crate::proxy::Catch;
use crate::sale::{Order, Sale};
use crate::world::World;

/// 2,900 seats are sold, a hundred people wait.
const PEOPLE: usize = 3000;
const CAPACITY: i32 = 2900;
const PATIENCE: Duration = Duration::from_mins(1);
const CANCELLED: &str = "SELECT count(*) FROM bookings WHERE status = 'cancelled'";
const DONE: &str = "SELECT count(*) FROM events WHERE cascade_done_at IS NOT NULL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_while_a_large_event_is_cancelled() {
    let world = World::new().await;
    let (event, organizer) = world.event(CAPACITY).await;
    let mut first = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[first.address]);
    let people = world.people(PEOPLE).await;
    sale.burst(people.into_iter().map(|one| Order::book(one, event, 1, true)).collect()).await;
    sale.settled_without_help();
    assert_eq!(sale.acknowledged(), PEOPLE);

    // The first commit closes the sale, the following ones cancel bookings: die in the third.
    world.postgres.proxy.trap(b"C\0\0\0\x0bCOMMIT\0", 2, Catch::Hang);
    let cancel = Sale::new();
    cancel.send_to(&[first.address]);
    let path = format!("/api/v1/events/{event}/cancel");
    let body = json!({"reason": "rain"}).to_string();
    let order = Order { person: organizer, path, body };
    let reply = cancel.expect(order, 200).await;
    assert_eq!(reply.json()["status"], "cancelled");
    world.postgres.proxy.caught(PATIENCE).await;
    first.kill();
    let done = world.count(CANCELLED).await;
    assert!(0 < done && done < 3000, "the server died after {done} of them");

    let mut second = world.serve().await;
    sale.send_to(&[second.address]);
    cancel.send_to(&[second.address]);
    let all = async || (world.count(DONE).await == 1).then_some(());
    until("all bookings are cancelled", PATIENCE, all).await;
    assert_eq!(world.count(CANCELLED).await, 3000);
    cancel.replay().await;
    world.must_hold(&sale, &mut [&mut second]).await;
}
