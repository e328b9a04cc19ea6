//! An orderly stop under load: whoever was let in is answered, nothing that was acknowledged is
//! lost, and it ends within its deadline; at once when asked a second time.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::process::until;
use crate::sale::{Order, Sale};
use crate::world::World;

/// `stop.drain_ms` + `stop.workers_ms` + `stop.relay_ms`, and closing the pools.
const DEADLINE: Duration = Duration::from_secs(11);
const PATIENCE: Duration = Duration::from_secs(30);

/// Nobody gets past this while the transaction is open.
async fn lock(world: &World, event: Uuid) -> Client {
    let sql = world.sql().await;
    sql.batch_execute("BEGIN").await.unwrap();
    sql.query("SELECT FROM events WHERE id = $1 FOR UPDATE", &[&event]).await.unwrap();
    sql
}

/// Waits until so many sessions of the server wait for a lock.
async fn somebody_waits(world: &World) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let waits = async || (world.count(waiting).await > 0).then_some(());
    until("the desk waits for the lock", PATIENCE, waits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load() {
    let world = World::new().await;
    let (event, _) = world.event(100).await;
    let mut first = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[first.address]);
    let mut people = world.people(2000).await;
    let waiting = people.split_off(1960);
    let mut buyers = people.into_iter();
    let load = sale.load(60, move |_| Some(Order::book(buyers.next()?, event, 1, true)));
    let sold = async || (sale.acknowledged() > 100).then_some(());
    until("seats are sold", PATIENCE, sold).await;

    // Forty people are in the middle of it when the signal comes.
    let sql = lock(&world, event).await;
    somebody_waits(&world).await;
    let begun = sale.len();
    let inside = tokio::spawn({
        let sale = sale.clone();
        async move {
            sale.burst(waiting.into_iter().map(|one| Order::book(one, event, 1, true)).collect())
                .await;
        }
    });
    sleep(Duration::from_millis(500)).await;
    let signalled = Instant::now();
    first.signal("TERM");
    sleep(Duration::from_secs(1)).await;
    sql.batch_execute("ROLLBACK").await.unwrap();
    let status = first.wait(DEADLINE).await;
    assert!(status.success(), "{status}: {}", first.last_words());
    assert!(signalled.elapsed() < DEADLINE);
    inside.await.unwrap();
    let inside = sale.attempts();
    let inside =
        inside[begun..].iter().filter(|one| one.at + Duration::from_millis(250) < signalled);
    let mut answered = 0;
    for attempt in inside {
        let reply = attempt.answers.first().expect("an answer").as_ref();
        let reply = reply.expect("whoever was let in is answered");
        assert_eq!(reply.status, 201, "{}", reply.body);
        answered += 1;
    }
    assert!(answered >= 30, "only {answered} people were inside");

    let mut second = world.serve().await;
    sale.send_to(&[second.address]);
    load.stop().await;
    world.must_hold(&sale, &mut [&mut second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_it_at_once() {
    let world = World::new().await;
    let (event, _) = world.event(20).await;
    let mut first = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[first.address]);
    let mut people = world.people(30).await;
    sale.burst(people.drain(..10).map(|one| Order::book(one, event, 1, true)).collect()).await;

    let sql = lock(&world, event).await;
    let stuck = tokio::spawn({
        let sale = sale.clone();
        async move {
            sale.burst(people.drain(..10).map(|one| Order::book(one, event, 1, true)).collect())
                .await;
        }
    });
    somebody_waits(&world).await;
    first.signal("TERM");
    sleep(Duration::from_millis(700)).await;
    assert!(first.ended().is_none(), "it did not wait for those inside");
    first.signal("TERM");
    let forced = Instant::now();
    first.wait(DEADLINE).await;
    assert!(forced.elapsed() < Duration::from_secs(3), "it took {:?}", forced.elapsed());
    sql.batch_execute("ROLLBACK").await.unwrap();
    stuck.await.unwrap();

    let mut second = world.serve().await;
    sale.send_to(&[second.address]);
    world.must_hold(&sale, &mut [&mut second]).await;
}
