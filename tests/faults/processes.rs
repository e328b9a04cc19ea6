//! Several server processes on the same services, one of which dies or sleeps.

use std::net::SocketAddr;
use std::time::Duration;

use crate::process::until;
use crate::proxy::{Proxy, Upstream};
use crate::sale::{Order, Sale};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_sell_one_event_and_one_is_killed() {
    let world = World::new().await;
    let (event, _) = world.event(60).await;
    let (numbered, _) = world.numbered_event(40).await;
    let mut first = world.serve().await;
    let mut second = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[first.address, second.address]);
    let mut people = world.people(3000).await;

    // The same order at both doors at once is one booking.
    for person in people.drain(..5) {
        let index = sale.insist(Order::book(person, event, 2, true), 20).await;
        sale.try_once(index).await;
        let attempt = sale.attempt(index);
        let told = attempt.definite().expect("a definite answer");
        for reply in attempt.answers.iter().flatten().filter(|reply| reply.status == 201) {
            assert_eq!(reply.body, told.body);
        }
    }

    let (mut people, mut turn) = (people.into_iter(), 0_u32);
    let load = sale.load(60, move |sale: &Sale| {
        turn += 1;
        if turn % 3 == 0
            && let Some(order) = sale.one_to_cancel(turn)
        {
            return Some(order);
        }
        let event = if turn % 2 == 0 { event } else { numbered };
        Some(Order::book(people.next()?, event, 1 + turn % 4, turn % 7 != 0))
    });
    let sold = async |enough| (sale.acknowledged() > enough).then_some(());
    until("seats are sold", PATIENCE, async || sold(150).await).await;
    first.kill();
    sale.send_to(&[second.address]);
    until("seats are sold", PATIENCE, async || sold(250).await).await;
    let mut third = world.serve().await;
    sale.send_to(&[second.address, third.address]);
    until("seats are sold", PATIENCE, async || sold(350).await).await;
    load.stop().await;
    let promoted = "SELECT count(*) FROM waitlist_ledger WHERE what = 'promoted'";
    let promoted = world.count(promoted).await;
    assert!(promoted > 10, "only {promoted} parties were promoted");
    world.must_hold(&sale, &mut [&mut second, &mut third]).await;
}

const HELD: &str = "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND lease_until IS NOT NULL";
const OVER: &str = "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND lease_until < now()";
const TAKEN: &str = "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND fence = 2
    AND lease_until > now() + interval '20 seconds'";
const SENT: &str = "SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL";

/// The first server publishes, but hears no confirms and falls asleep until its lease is over and
/// the second one has taken its message over. What it then says of it must not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeper_whose_lease_is_over_is_not_listened_to() {
    let world = World::new().await;
    let (event, _) = world.event(50).await;
    let (before_first, before_second) = (broker_proxy(&world).await, broker_proxy(&world).await);
    let patient = ("HAPPENING__RABBITMQ__CONFIRM_TIMEOUT_MS", "60000");
    let mut first = world
        .serve_with(&[
            ("RABBITMQ_URL", &through(&world, &before_first)),
            ("HAPPENING__RELAY__LEASE_MS", "1000"),
            patient,
        ])
        .await;
    let mut second = world
        .serve_with(&[
            ("RABBITMQ_URL", &through(&world, &before_second)),
            ("HAPPENING__RELAY__LEASE_MS", "60000"),
            patient,
        ])
        .await;
    let sale = Sale::new();
    sale.send_to(&[first.address]);
    let mut people = world.people(30).await;
    sale.burst(people.drain(..5).map(|one| Order::book(one, event, 1, true)).collect()).await;
    until("all is sent", PATIENCE, async || (world.count(SENT).await == 5).then_some(())).await;

    second.signal("STOP");
    before_first.mute();
    let heard = before_first.heard();
    sale.expect(Order::book(people.remove(0), event, 1, true), 201).await;
    let held = async || (world.count(HELD).await == 1).then_some(());
    until("the first has claimed it", PATIENCE, held).await;
    // Longer than signs of life: a message.
    let sent = async || (before_first.heard() > heard + 200).then_some(());
    until("the first has sent it", PATIENCE, sent).await;
    first.signal("STOP");
    let over = async || (world.count(OVER).await == 1).then_some(());
    until("its lease is over", PATIENCE, over).await;
    before_second.mute();
    second.signal("CONT");
    let taken = async || (world.count(TAKEN).await == 1).then_some(());
    until("the second has taken it over", PATIENCE, taken).await;

    before_first.pass();
    first.signal("CONT");
    // Its relay is through with the old message when it has sent a new one.
    sale.expect(Order::book(people.remove(0), event, 1, true), 201).await;
    until("a new one is sent", PATIENCE, async || (world.count(SENT).await == 6).then_some(()))
        .await;
    assert_eq!(world.count(TAKEN).await, 1, "an old claim was listened to");

    before_second.pass();
    world.must_hold(&sale, &mut [&mut first, &mut second]).await;
    until("both have sent it, so it came twice", PATIENCE, async || {
        let mut twice = 0.0;
        for server in [&first, &second] {
            twice += server.counter("consumer_messages_total", "outcome=\"duplicate\"").await;
        }
        (twice >= 1.0).then_some(())
    })
    .await;
}

/// Who gave a seat back is told so when it can be had again, also from another process: here the
/// word of it takes a while to Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_takes_back_another_one_sells() {
    let world = World::new().await;
    let (event, _) = world.event(1).await;
    let slow = Proxy::start(Upstream::Tcp(world.redis.proxy.address()), "").await;
    let redis = format!("redis://{}", slow.address());
    let mut first = world.serve_with(&[("REDIS_URL", &redis)]).await;
    let mut second = world.serve().await;
    let sale = Sale::new();
    for person in world.people(5).await {
        slow.lag(Duration::ZERO);
        sale.send_to(&[second.address]);
        sale.expect(Order::book(person, event, 1, false), 201).await;
        world.redis_is_equal().await;
        slow.lag(Duration::from_millis(80));
        sale.send_to(&[first.address]);
        let (owner, booking) = sale.to_cancel().pop().expect("a booking");
        sale.expect(Order::cancel(owner, booking), 200).await;
    }
    world.must_hold(&sale, &mut [&mut first, &mut second]).await;
}

async fn broker_proxy(world: &World) -> Proxy {
    let address = address_of(&world.amqp);
    Proxy::start(Upstream::Tcp(address), "").await
}

/// The part of an AMQP URL between credentials and virtual host.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn address_of(url: &str) -> SocketAddr {
    let resolved = std::net::ToSocketAddrs::to_socket_addrs(host(url));
    resolved.expect("the broker's address").next().expect("the broker has an address")
}

fn through(world: &World, proxy: &Proxy) -> String {
    world.amqp.replace(host(&world.amqp), &proxy.address().to_string())
}
