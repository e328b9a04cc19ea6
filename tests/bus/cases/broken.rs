//! Brokers that are killed, paused, or lose what they had.

use std::time::{Duration, Instant};

use happening::bus::{Outgoing, PublishError, Status};

use crate::servers::DEADLINE;
use crate::world::{World, number, numbers, outgoing};

/// Publishes until it is confirmed, as the relay does it: the same message, with the same id.
async fn insist(world: &World, message: &Outgoing) {
    let until = Instant::now() + DEADLINE;
    loop {
        match world.bus.publish(std::slice::from_ref(message)).await.remove(0) {
            Ok(_) => return,
            Err(why) => assert!(Instant::now() < until, "{why}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn the_broker_is_killed(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=50).await;
    let read = reader.take(20).await;
    reader.ack(&read).await;
    world.server().kill();
    let outcome = world.bus.publish(&[outgoing(&world.stream, 1000)]).await.remove(0);
    assert!(
        matches!(outcome, Err(PublishError::NotSent(_) | PublishError::Lost(_))),
        "{outcome:?}"
    );
    // It may notice now, or later.
    reader.0.read(10, Duration::ZERO).await.ok();
    assert!(world.server().start_again().await, "its port was taken");
    insist(world, &outgoing(&world.stream, 51)).await;
    let seen = reader.take_all(21..=51).await;
    assert!(seen.keys().all(|number| (21..=51).contains(number) || *number == 1000), "{seen:?}");
    reader.0.close().await.ok();
}

pub async fn the_broker_is_paused(world: &mut World) {
    world.claim_idle(Duration::from_secs(3)).await;
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=5).await;
    let read = reader.take(5).await;
    reader.ack(&read).await;
    world.server().pause();
    let asked = [outgoing(&world.stream, 6)];
    let published = tokio::time::timeout(DEADLINE, world.bus.publish(&asked)).await;
    let outcome = published.expect("it does not hang").remove(0);
    assert!(matches!(outcome, Err(PublishError::Lost(_))), "it may be stored: {outcome:?}");
    let read = tokio::time::timeout(DEADLINE, reader.0.read(10, Duration::from_secs(1))).await;
    assert!(read.expect("it does not hang").map_or(true, |read| read.is_empty()));
    let told = tokio::time::timeout(DEADLINE, world.bus.health()).await;
    assert!(!told.expect("it does not hang").connected);
    world.server().resume();
    insist(world, &asked[0]).await;
    insist(world, &outgoing(&world.stream, 7)).await;
    reader.take_all(6..=7).await;
}

pub async fn the_stream_is_deleted(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=10).await;
    let read = reader.take(5).await;
    world.delete_stream().await;
    // There is nothing left to acknowledge.
    reader.0.ack(&[read[0].receipt()]).await.ok();
    for number in 11..=13 {
        insist(world, &outgoing(&world.stream, number)).await;
    }
    let seen = reader.take_all(11..=13).await;
    assert!(!seen.contains_key(&6), "what was lost is lost, and published again by the reconciler");
    // While it waits for something new, too.
    let deletion = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.delete_stream().await;
        insist(world, &outgoing(&world.stream, 14)).await;
    };
    let (_, ()) = tokio::join!(reader.0.read(10, Duration::from_millis(300)), deletion);
    insist(world, &outgoing(&world.stream, 15)).await;
    reader.take_all(15..=15).await;
}

pub async fn the_group_is_deleted(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=5).await;
    let read = reader.take(5).await;
    reader.ack(&read).await;
    world.delete_group("readers").await;
    world.publish(6..=6).await;
    // It begins at the start again: better twice than never.
    let seen = reader.take_all(1..=6).await;
    assert_eq!(seen.len(), 6);
}

pub async fn the_stream_is_deleted_for_the_publisher(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=5).await;
    world.delete_stream().await;
    let batch: Vec<_> = (6..=9).map(|number| outgoing(&world.stream, number)).collect();
    let outcomes = world.bus.publish(&batch).await;
    let confirmed: Vec<u64> =
        (6..=9).zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(n, _)| n).collect();
    let stored = world.bus.replay(&world.stream, happening::bus::From::Start, 100).await.unwrap();
    assert_eq!(numbers(&stored), confirmed, "what is confirmed is there, and nothing else");
    assert_eq!(confirmed, [6, 7, 8, 9], "and it can be published to");
    let seen = reader.take_all(6..=9).await;
    assert_eq!(seen.len(), 4);
}

pub async fn the_scripts_are_forgotten(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    let mut redis = world.redis().await;
    for number in 1..=10 {
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await.unwrap();
        world.publish(number..=number).await;
        let read = reader.take(1).await;
        assert_eq!(numbers(&read), [number], "neither lost nor twice");
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await.unwrap();
        reader.retry(&read[0], Duration::from_millis(1)).await;
        let again = reader.take(1).await;
        reader.ack(&again).await;
    }
    reader.takes_nothing().await;
}

pub async fn a_full_broker_takes_nothing(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=5).await;
    let mut redis = world.redis().await;
    let mut limit = async |bytes: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes).exec_async(&mut redis).await.unwrap();
    };
    limit("1").await;
    let batch: Vec<_> = (6..=8).map(|number| outgoing(&world.stream, number)).collect();
    for outcome in world.bus.publish(&batch).await {
        assert!(matches!(outcome, Err(PublishError::NotSent(_))), "{outcome:?}");
    }
    assert_eq!(world.bus.health().await.status, Status::Degraded);
    // What is there can be read and acknowledged all the same.
    let read = reader.take(5).await;
    reader.ack(&read).await;
    limit("0").await;
    world.publish_batch(&batch).await;
    assert_eq!(numbers(&reader.take(3).await), [6, 7, 8]);
}

pub async fn health_is_told(world: &mut World) {
    let health = async |world: &World| {
        let told = tokio::time::timeout(DEADLINE, world.bus.health()).await;
        told.expect("it does not hang")
    };
    let told = health(world).await;
    assert!(told.connected && told.status == Status::Up, "{told:?}");
    world.server().kill();
    let until = Instant::now() + DEADLINE;
    loop {
        let told = health(world).await;
        if !told.connected && told.status == Status::Down && told.reason.is_some() {
            break;
        }
        assert!(Instant::now() < until, "{told:?}");
    }
    assert!(world.server().start_again().await, "its port was taken");
    while !health(world).await.connected {
        assert!(Instant::now() < until, "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=1).await;
    assert_eq!(number(&reader.take(1).await[0]), 1);
}

pub async fn entries_are_deleted(world: &mut World) {
    world.claim_idle(Duration::from_millis(200)).await;
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=4).await;
    let read = reader.take(4).await;
    reader.retry(&read[0], Duration::from_millis(50)).await;
    // One waits, one lies there, one is acknowledged, and one of each of them is deleted.
    reader.ack(&read[2..3]).await;
    world.delete_entries(&[read[0].position, read[1].position]).await;
    let left = reader.take_all(4..=4).await;
    assert!(left.keys().all(|number| *number == 4), "{left:?}");
    let until = Instant::now() + DEADLINE;
    while world.bus.lag(&world.stream, "readers").await.unwrap().pending > 0 {
        assert!(Instant::now() < until, "what is gone is pending for ever");
        let read = reader.0.read(10, Duration::from_millis(50)).await.unwrap();
        reader.ack(&read).await;
    }
}
