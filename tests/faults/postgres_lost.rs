//! PostgreSQL dies, loses a reply, or keeps somebody waiting: 503 within a bound, nothing that was
//! acknowledged is lost, and what is unclear is told by the same key.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use crate::process::until;
use crate::proxy::Catch;
use crate::sale::{Order, Sale};
use crate::world::World;

/// How long anybody may wait for an answer while PostgreSQL is away: the bounds on waiting for a
/// connection, twice, and what a busy machine adds.
const BOUND: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(30);

/// The answers that say "later": bounded, and they say when.
fn refused_in_time(sale: &Sale) -> usize {
    let attempts = sale.attempts();
    let answers = attempts.iter().flat_map(|attempt| &attempt.answers);
    let mut refused = 0;
    for answer in answers {
        let reply = answer.as_ref().expect("the server answers whatever happens to PostgreSQL");
        assert!(reply.took < BOUND, "{} took {:?}", reply.status, reply.took);
        if reply.status == 503 {
            refused += 1;
            assert!(reply.retry_after.is_some(), "503 without Retry-After: {}", reply.body);
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_killed_in_mid_sale_and_started_again() {
    let mut world = World::new().await;
    let (event, _) = world.event(80).await;
    let mut server = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    let mut people = world.people(2000).await.into_iter();
    let load = sale.load(40, move |_| Some(Order::book(people.next()?, event, 1, true)));
    let sold = async |enough| (sale.acknowledged() > enough).then_some(());
    until("seats are sold", PATIENCE, async || sold(40).await).await;

    world.postgres.kill();
    let unready = async || (!server.ready().await).then_some(());
    until("the server says that it is not ready", PATIENCE, unready).await;
    let begun = sale.len();
    let refused = async || {
        let attempts = sale.attempts();
        let later =
            |one: &&crate::sale::Attempt| one.answers.iter().flatten().any(|r| r.status == 503);
        (attempts[begun..].iter().filter(later).count() > 20).then_some(())
    };
    until("people are told to come later", PATIENCE, refused).await;
    world.postgres.start_again().await;
    let known = sale.acknowledged();
    until("seats are sold again", Duration::from_secs(10), async || sold(known + 20).await).await;
    load.stop().await;
    assert!(refused_in_time(&sale) > 20);
    until("the server is ready", PATIENCE, async || server.ready().await.then_some(())).await;
    world.must_hold(&sale, &mut [&mut server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reply_to_a_commit_is_lost() {
    let world = World::new().await;
    let (event, _) = world.event(20).await;
    let mut server = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    let mut people = world.people(60).await;
    sale.burst(people.drain(..10).map(|one| Order::book(one, event, 1, true)).collect()).await;
    sale.settle().await;

    for round in 0..3 {
        let before = world.count("SELECT count(*) FROM bookings").await;
        // CommandComplete: type, length, tag.
        world.postgres.proxy.trap(b"C\0\0\0\x0bCOMMIT\0", 0, Catch::Cut);
        let index = sale.submit(Order::book(people.remove(0), event, 1, true)).await;
        world.postgres.proxy.caught(PATIENCE).await;
        let attempt = sale.attempt(index);
        let reply = attempt.answers[0].as_ref().expect("an answer");
        assert_eq!(reply.status, 503, "nobody knows what became of it: {}", reply.body);
        assert!(reply.retry_after.is_some());
        let after = world.count("SELECT count(*) FROM bookings").await;
        assert_eq!(after, before + 1, "it was committed all the same");

        sale.try_once(index).await;
        let attempt = sale.attempt(index);
        let told = attempt.definite().expect("the same key tells");
        assert_eq!(told.status, 201, "round {round}: {}", told.body);
        assert!(told.replayed, "it was done again");
        sale.burst(people.drain(..5).map(|one| Order::book(one, event, 1, true)).collect()).await;
    }
    world.must_hold(&sale, &mut [&mut server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_holds_the_events_row() {
    let mut world = World::new().await;
    world.set("HAPPENING__POSTGRES__LOCK_TIMEOUT_MS", "1000");
    let (event, _) = world.event(20).await;
    // In the other of the two lanes.
    let other = Uuid::from_u128(event.as_u128() ^ 1);
    world.event_of("general", 20, other).await;
    let mut server = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    let mut people = world.people(40).await;
    let [locked, waiting] = [people.remove(0), people.remove(0)];

    let sql = world.sql().await;
    sql.batch_execute("BEGIN").await.unwrap();
    sql.query("SELECT FROM events WHERE id = $1 FOR UPDATE", &[&event]).await.unwrap();
    let beside = async {
        // When the first lane surely waits for the lock.
        sleep(Duration::from_millis(500)).await;
        sale.expect(Order::book(people.remove(0), other, 1, false), 201).await
    };
    let (first, second, free) = tokio::join!(
        sale.submit(Order::book(locked, event, 1, false)),
        sale.submit(Order::book(waiting, event, 1, false)),
        beside,
    );
    assert!(free.took < Duration::from_millis(900), "the other lane waited {:?}", free.took);
    for index in [first, second] {
        let attempt = sale.attempt(index);
        let reply = attempt.answers[0].as_ref().expect("an answer");
        assert_eq!(reply.status, 503, "{}", reply.body);
    }
    assert_eq!(refused_in_time(&sale), 2);
    sql.batch_execute("ROLLBACK").await.unwrap();
    sale.try_once(first).await;
    assert_eq!(sale.attempt(first).definite().map(|reply| reply.status), Some(201));
    world.must_hold(&sale, &mut [&mut server]).await;
}
