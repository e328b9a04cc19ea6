//! The server dies while a cancellation promotes people who wait: all of it happened or nothing,
//! and the queue is served in its order.

use std::time::Duration;

use uuid::Uuid;

use crate::sale::{Order, Sale, id_of};
use crate::world::World;

const DEATH: Duration = Duration::from_secs(20);
/// The waiting parties in their order, and how they stand.
const STANDING: &str = "SELECT seats, status FROM bookings WHERE event_id = $1
    AND waiting_number IS NOT NULL ORDER BY waiting_number";

async fn standing(world: &World, event: Uuid) -> Vec<(i32, String)> {
    let rows = world.rows(STANDING, &[&event]).await;
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Six seats, sold to two parties; parties of 1, 2, 3, 1 and 1 wait. The first cancellation (three
/// seats) serves two of them, the second one the third.
async fn whole_or_nothing(crash_point: &str, promoted_at_death: usize) {
    let world = World::new().await;
    let events = [world.event(6).await.0, world.numbered_event(6).await.0];
    let sale = Sale::new();
    let mut server = world.serve().await;
    sale.send_to(&[server.address]);
    let mut holders = Vec::new();
    for event in events {
        let mut people = world.people(7).await;
        for seats in [3, 3] {
            let person = people.remove(0);
            let reply = sale.expect(Order::book(person.clone(), event, seats, true), 201).await;
            holders.push((event, Order::cancel(person, id_of(&reply.json()))));
        }
        for seats in [1, 2, 3, 1, 1] {
            let reply = sale.expect(Order::book(people.remove(0), event, seats, true), 201).await;
            assert_eq!(reply.json()["status"], "waitlisted");
        }
    }

    for (round, (event, cancel)) in holders.into_iter().enumerate() {
        server.kill();
        let mut dying = world.serve_until(crash_point).await;
        sale.send_to(&[dying.address]);
        let index = sale.submit(cancel).await;
        dying.wait(DEATH).await;
        assert!(sale.attempt(index).definite().is_none(), "nobody was answered");
        world.invariants_hold().await;
        let (before, during) = [(0, 2), (2, 1)][round % 2];
        let promoted = promoted(&standing(&world, event).await);
        assert_eq!(promoted, before + during * promoted_at_death, "round {round}");

        server = world.serve().await;
        sale.send_to(&[server.address]);
        sale.try_once(index).await;
        assert_eq!(sale.attempt(index).definite().map(|reply| reply.status), Some(200));
        assert_eq!(self::promoted(&standing(&world, event).await), before + during);
    }
    world.must_hold(&sale, &mut [&mut server]).await;
}

/// How many were promoted, who have to be the first of the queue.
fn promoted(standing: &[(i32, String)]) -> usize {
    let is_promoted = |one: &&(i32, String)| one.1 == "confirmed";
    let first = standing.iter().take_while(is_promoted).count();
    let all = standing.iter().filter(is_promoted).count();
    assert_eq!(first, all, "not in the order of the queue: {standing:?}");
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_a_promotion_is_committed() {
    whole_or_nothing("desk_before_commit", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_a_promotion_is_committed() {
    whole_or_nothing("desk_after_commit", 1).await;
}
