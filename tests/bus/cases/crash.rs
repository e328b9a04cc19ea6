//! Consumers that die, hang, or go.

use std::time::Duration;

use crate::world::{World, numbers};

/// Short, for those cases that wait for it.
const IDLE: Duration = Duration::from_millis(300);

pub async fn what_a_crash_left_comes_again(world: &mut World) {
    world.claim_idle(IDLE).await;
    let mut dying = world.subscribe("readers", "dying").await;
    world.publish(1..=10).await;
    let read = dying.take(10).await;
    // The effects of all are committed, the acknowledgement of the last five did not get out.
    dying.ack(&read[..5]).await;
    drop(dying);
    let mut next = world.subscribe("readers", "next").await;
    let again = next.take(5).await;
    assert_eq!(numbers(&again), [6, 7, 8, 9, 10]);
    assert!(again.iter().all(|one| one.attempt == 2));
    next.ack(&again).await;
    let lag = world.bus.lag(&world.stream, "readers").await.unwrap();
    assert_eq!((lag.pending, lag.lag), (0, 0));
}

pub async fn its_own_come_first(world: &mut World) {
    let mut dying = world.subscribe("readers", "same").await;
    world.publish(1..=3).await;
    let read = dying.take(3).await;
    dying.ack(&read[1..2]).await;
    drop(dying);
    world.publish(4..=5).await;
    let mut back = world.subscribe("readers", "same").await;
    let again = back.take(4).await;
    assert_eq!(numbers(&again), [1, 3, 4, 5]);
    assert_eq!(again.iter().map(|one| one.attempt).collect::<Vec<_>>(), [2, 2, 1, 1]);
    back.takes_nothing().await;
}

pub async fn idle_ones_are_claimed(world: &mut World) {
    world.claim_idle(IDLE).await;
    let mut hanging = world.subscribe("readers", "hanging").await;
    world.publish(1..=4).await;
    let held = hanging.take(4).await;
    let mut other = world.subscribe("readers", "other").await;
    let claimed = other.take(4).await;
    assert_eq!(numbers(&claimed), [1, 2, 3, 4]);
    assert!(claimed.iter().all(|one| one.attempt >= 2));
    other.ack(&claimed).await;
    // The one that hung comes to itself, and is late: nothing comes of it.
    hanging.retry(&held[0], Duration::from_millis(1)).await;
    hanging.ack(&held).await;
    other.takes_nothing().await;
    let lag = world.bus.lag(&world.stream, "readers").await.unwrap();
    assert_eq!((lag.pending, lag.lag), (0, 0));
}

pub async fn a_closed_reader_gives_back(world: &mut World) {
    let mut leaving = world.subscribe("readers", "leaving").await;
    world.publish(1..=20).await;
    let read = leaving.take_of(8, 8).await;
    leaving.ack(&read[..3]).await;
    leaving.0.close().await.expect("it can be closed");
    drop(leaving);
    let mut next = world.subscribe("readers", "next").await;
    let mut rest = numbers(&next.take(17).await);
    rest.sort_unstable();
    assert_eq!(rest, (4..=20).collect::<Vec<_>>());
}

pub async fn a_dropped_read_loses_nothing(world: &mut World) {
    world.claim_idle(Duration::from_secs(2)).await;
    let mut reader = world.subscribe("readers", "one").await;
    for number in 1..=30 {
        // The message may arrive at the very moment at which nobody waits any more.
        let (given_up, ()) = tokio::join!(
            tokio::time::timeout(
                Duration::from_micros(number * 40),
                reader.0.read(10, Duration::from_secs(1))
            ),
            world.publish(number..=number)
        );
        if let Ok(read) = given_up {
            reader.ack(&read.expect("it can be read")).await;
        }
    }
    // All that was given up is still there, and nothing else is.
    let pending = async || world.bus.lag(&world.stream, "readers").await.unwrap();
    let left = pending().await;
    let mut rest = Vec::new();
    while rest.len() < usize::try_from(left.pending + left.lag).unwrap() {
        let read = reader.take_of(1, 1).await;
        reader.ack(&read).await;
        rest.extend(numbers(&read));
    }
    rest.sort_unstable();
    rest.dedup();
    let left = pending().await;
    assert_eq!((left.pending, left.lag), (0, 0), "{rest:?}");
}
