//! Redis goes away, hangs, or comes back with old memories. Bookings go on: PostgreSQL decides.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::holders::ask;
use crate::process::until;
use crate::sale::{Order, Sale};
use crate::server::Server;
use crate::watchers::{Doors, Watcher};
use crate::world::{Person, World};

/// How long a booking may take while Redis does not answer.
const BOUND: Duration = Duration::from_secs(3);
const EPOCH: &str = "SELECT epoch FROM redis_epoch";

/// One seat for each of them, in turn.
fn in_turn(
    people: Vec<Person>,
    event: uuid::Uuid,
) -> impl FnMut(&Sale) -> Option<Order> + Send + 'static {
    let mut people = people.into_iter();
    move |_| Some(Order::book(people.next()?, event, 1, true))
}

/// Waits until so many more orders were acknowledged.
async fn sold(sale: &Sale, more: usize) {
    let enough = sale.acknowledged() + more;
    let sold = async || (sale.acknowledged() >= enough).then_some(());
    until("seats are sold", Duration::from_secs(30), sold).await;
}

/// All orders since `begun` were acknowledged within the bound.
fn bounded(sale: &Sale, begun: Instant) {
    for attempt in sale.attempts().iter().filter(|attempt| attempt.at >= begun) {
        let first = attempt.answers.first().expect("an answer");
        let reply = first.as_ref().expect("bookings go on without Redis");
        assert_eq!(reply.status, 201, "{}", reply.body);
        assert!(reply.took < BOUND, "a booking took {:?}", reply.took);
    }
}

async fn epoch_has_risen(world: &World, from: i64) {
    let risen = async || (world.count(EPOCH).await > from).then_some(());
    until("a new epoch", Duration::from_secs(10), risen).await;
}

struct Scene {
    world: World,
    server: Server,
    sale: Sale,
    event: uuid::Uuid,
}

async fn scene(capacity: i32) -> Scene {
    let world = World::new().await;
    let (event, _) = world.event(capacity).await;
    let server = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    world.redis_is_equal().await;
    Scene { world, server, sale, event }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_in_mid_sale_and_started_again() {
    let Scene { mut world, mut server, sale, event } = scene(150).await;
    let epoch = world.count(EPOCH).await;
    let load = sale.load(40, in_turn(world.people(2000).await, event));
    sold(&sale, 40).await;
    let begun = Instant::now();
    world.redis.kill();
    // Seats are sold and the queue begins while it is away.
    sold(&sale, 150).await;
    world.redis.start_again().await;
    epoch_has_risen(&world, epoch).await;
    sold(&sale, 40).await;
    load.stop().await;
    bounded(&sale, begun);
    world.must_hold(&sale, &mut [&mut server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_paused_for_ten_seconds() {
    let Scene { world, mut server, sale, event } = scene(200).await;
    let load = sale.load(30, in_turn(world.people(2000).await, event));
    sold(&sale, 30).await;
    let begun = Instant::now();
    world.redis.signal("STOP");
    sleep(Duration::from_secs(10)).await;
    let meanwhile = sale.attempts().iter().filter(|one| one.at >= begun).count();
    world.redis.signal("CONT");
    sold(&sale, 30).await;
    load.stop().await;
    assert!(meanwhile >= 200, "only {meanwhile} people came in ten seconds");
    bounded(&sale, begun);
    world.must_hold(&sale, &mut [&mut server]).await;
}

/// Whoever reads the seats for those who watch, and whoever wants to connect to Redis again, must
/// not wait for each other, nor for all who failed before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_those_who_watch_while_redis_hangs() {
    let mut world = World::new().await;
    // Who watches is compared with Redis all the time.
    world.set("HAPPENING__SOCKETS__LOOK_MS", "50");
    let (event, _) = world.numbered_event(60).await;
    let mut server = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    let doors = Doors::new(&[server.address]);
    let (_cut, cuts) = watch::channel(0);
    let mut watchers = vec![Watcher::start(&doors, 0, event, cuts.clone())];
    for _ in 0..10 {
        let (other, _) = world.numbered_event(60).await;
        watchers.push(Watcher::start(&doors, 0, other, cuts.clone()));
    }
    let mut people = world.people(60).await;
    for _ in 0..4 {
        sale.expect(Order::book(people.remove(0), event, 1, false), 201).await;
        let versions = || watchers.iter().map(|watcher| watcher.map().version);
        let watching = async || versions().all(|version| version > 0).then_some(());
        until("they watch", Duration::from_secs(10), watching).await;
        world.redis.signal("STOP");
        let begun = Instant::now();
        let path = format!("/events/{event}/holds");
        let body = json!({"seat_numbers": [50]});
        let holds = people[..30]
            .iter()
            .map(|person| ask(server.address, person, None, ("POST", &path), &body));
        for reply in join_all(holds).await {
            let reply = reply.expect("an answer");
            assert_eq!(reply.status, 503, "{}", reply.body);
            assert!(reply.took < BOUND, "a hold took {:?}", reply.took);
        }
        sleep(Duration::from_secs(3).saturating_sub(begun.elapsed())).await;
        world.redis.signal("CONT");
        for (owner, booking) in sale.to_cancel() {
            let reply = sale.expect(Order::cancel(owner, booking), 200).await;
            assert!(reply.took < BOUND, "a cancellation took {:?}", reply.took);
        }
        let seen = async || {
            let free = |watcher: &Watcher| watcher.map().taken.is_empty();
            (watchers.iter().all(free) && watchers[0].map().available == 60).then_some(())
        };
        until("they see it", Duration::from_secs(5), seen).await;
    }
    world.must_hold(&sale, &mut [&mut server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_back_with_an_old_dump() {
    let Scene { mut world, mut server, sale, event } = scene(40).await;
    // An event that is sold out in the dump, and will not be; the other way round with the first.
    let (scarce, _) = world.event(5).await;
    let mut people = world.people(400).await;
    for person in people.drain(..5) {
        sale.expect(Order::book(person, scarce, 1, false), 201).await;
    }
    sale.burst(people.drain(..10).map(|one| Order::book(one, event, 1, true)).collect()).await;
    world.redis_is_equal().await;
    let epoch = world.count(EPOCH).await;
    let mut redis = world.redis.client().await;
    redis::cmd("SAVE").exec_async(&mut redis).await.unwrap();
    let old = fs::read(world.redis.dump()).unwrap();

    sale.burst(people.drain(..50).map(|one| Order::book(one, event, 1, true)).collect()).await;
    for (person, booking) in sale.to_cancel().into_iter().take(3) {
        sale.expect(Order::cancel(person, booking), 200).await;
    }
    world.redis_is_equal().await;
    world.redis.kill();
    fs::write(world.redis.dump(), old).unwrap();
    world.redis.start_again().await;

    // By the dump nothing is left of the scarce event: nobody may be refused for that.
    for person in people.drain(..3) {
        sale.expect(Order::book(person, scarce, 1, false), 201).await;
    }
    sale.expect(Order::book(people.remove(0), scarce, 1, false), 409).await;
    // By the dump thirty seats of the other one are left, and nobody waits.
    sale.expect(Order::book(people.remove(0), event, 1, false), 409).await;
    epoch_has_risen(&world, epoch).await;
    world.redis_is_equal().await;
    sale.burst(people.drain(..30).map(|one| Order::book(one, event, 1, true)).collect()).await;
    world.must_hold(&sale, &mut [&mut server]).await;
}

/// Nobody looks whether Redis is still the same but those who ask it: the reconciler sleeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_dump_is_not_believed_by_the_first_who_asks() {
    let mut world = World::new().await;
    let (plenty, _) = world.event(50).await;
    let (scarce, _) = world.event(1).await;
    let mut server = world.serve_with(&[("HAPPENING__RECONCILER__TICK_MS", "60000")]).await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    let mut people = world.people(4).await;
    sale.expect(Order::book(people.remove(0), scarce, 1, false), 201).await;
    world.redis_is_equal().await;
    let mut redis = world.redis.client().await;
    redis::cmd("SAVE").exec_async(&mut redis).await.unwrap();
    let old = fs::read(world.redis.dump()).unwrap();
    for (person, booking) in sale.to_cancel() {
        sale.expect(Order::cancel(person, booking), 200).await;
    }
    world.redis_is_equal().await;
    world.redis.kill();
    fs::write(world.redis.dump(), old).unwrap();
    world.redis.start_again().await;
    // This one finds the connection broken; for a moment nobody asks Redis.
    sale.expect(Order::book(people.remove(0), plenty, 1, false), 201).await;
    sleep(Duration::from_millis(600)).await;
    // By the dump the seat is sold.
    sale.expect(Order::book(people.remove(0), scarce, 1, false), 201).await;
    let mut awake = world.serve().await;
    world.must_hold(&sale, &mut [&mut server, &mut awake]).await;
}
