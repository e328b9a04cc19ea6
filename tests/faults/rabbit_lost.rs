//! The broker dies, or somebody deletes the queue. Bookings do not notice, and nobody is told
//! twice or never.

use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use uuid::Uuid;

use crate::process::until;
use crate::sale::{Order, Sale};
use crate::services::broker;
use crate::world::{Person, World};

const OWED: &str = "SELECT count(*) FROM outbox WHERE sent_at IS NULL";
const TOLD: &str = "SELECT count(*) FROM notifications";
const PATIENCE: Duration = Duration::from_secs(30);

/// Books two seats, and of every fourth person's turn gives a booking back.
fn mixed(people: Vec<Person>, event: Uuid) -> impl FnMut(&Sale) -> Option<Order> + Send + 'static {
    let mut people = people.into_iter();
    let mut turn = 0_u32;
    move |sale: &Sale| {
        turn += 1;
        if turn.is_multiple_of(4)
            && let Some(order) = sale.one_to_cancel(turn)
        {
            return Some(order);
        }
        Some(Order::book(people.next()?, event, 2, true))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_killed_in_mid_sale_and_started_again() {
    let mut world = World::with_rabbit().await;
    let (event, _) = world.event(120).await;
    let mut server = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    let load = sale.load(40, mixed(world.people(2000).await, event));
    let told = async || (world.count(TOLD).await > 40).then_some(());
    until("people are told", PATIENCE, told).await;

    world.rabbit.as_mut().unwrap().kill();
    let begun = sale.len();
    let owed = async || (world.count(OWED).await > 120).then_some(());
    until("the outbox grows", PATIENCE, owed).await;
    load.stop().await;
    for index in begun..sale.len() {
        let attempt = sale.attempt(index);
        let reply = attempt.answers[0].as_ref().expect("bookings do not need the broker");
        assert!(reply.status < 300, "{}", reply.body);
        assert!(reply.took < Duration::from_secs(2), "a booking took {:?}", reply.took);
    }

    world.rabbit.as_mut().unwrap().start_again().await;
    world.must_hold(&sale, &mut [&mut server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_deleted_in_mid_sale() {
    let mut world = World::new().await;
    world.in_order = false;
    let (event, _) = world.event(120).await;
    let mut server = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    let load = sale.load(40, mixed(world.people(2000).await, event));
    let connection = broker(&world.amqp).await.expect("the broker");
    for round in 1..=3 {
        let told = async || (world.count(TOLD).await > round * 40).then_some(());
        until("people are told", PATIENCE, told).await;
        let channel = connection.create_channel().await.unwrap();
        let queue = world.queue.as_str().into();
        channel.queue_delete(queue, QueueDeleteOptions::default()).await.unwrap();
    }
    let before = world.count(TOLD).await;
    let told = async || (world.count(TOLD).await > before + 40).then_some(());
    until("people are told again", PATIENCE, told).await;
    load.stop().await;
    world.must_hold(&sale, &mut [&mut server]).await;
}

/// What the broker has confirmed, and nobody has consumed yet, goes with the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_deleted_with_messages_in_it() {
    let mut world = World::new().await;
    world.in_order = false;
    let (event, _) = world.event(60).await;
    // Few consumers, so that not everything is with them.
    let mut server = world.serve_with(&[("HAPPENING__RABBITMQ__CONSUMERS", "2")]).await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    let connection = broker(&world.amqp).await.expect("the broker");
    let channel = connection.create_channel().await.unwrap();

    // Nobody gets into an inbox for now: the consumers have to wait.
    let sql = world.sql().await;
    sql.batch_execute("BEGIN; LOCK TABLE notifications IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let people = world.people(100).await;
    sale.burst(people.into_iter().map(|one| Order::book(one, event, 1, true)).collect()).await;
    let sent = async || (world.count(OWED).await == 0).then_some(());
    until("all is with the broker", PATIENCE, sent).await;
    let queue = world.queue.as_str().into();
    let left = channel.queue_delete(queue, QueueDeleteOptions::default()).await.unwrap();
    assert!(left > 0, "nothing was in the queue");
    sql.batch_execute("ROLLBACK").await.unwrap();
    world.must_hold(&sale, &mut [&mut server]).await;
}
