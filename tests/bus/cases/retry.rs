//! Retries.

use std::time::{Duration, Instant};

use crate::world::{World, number, numbers};

/// Longer than any test.
const HOURS: Duration = Duration::from_hours(2);

pub async fn a_retry_comes_after_its_delay(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=3).await;
    let read = reader.take(3).await;
    let delay = Duration::from_millis(400);
    let asked = Instant::now();
    reader.retry(&read[0], delay).await;
    reader.ack(&read[1..]).await;
    // Neighbours flow while it waits.
    world.publish(4..=4).await;
    let next = reader.take(1).await;
    reader.ack(&next).await;
    let again = if number(&next[0]) == 4 { reader.take(1).await } else { next };
    assert_eq!((number(&again[0]), again[0].attempt), (1, 2));
    assert_eq!(again[0].position, read[0].position);
    assert!(asked.elapsed() >= delay, "it came too early");
    reader.ack(&again).await;
    reader.takes_nothing().await;
    assert_eq!(world.bus.lag(&world.stream, "readers").await.unwrap().pending, 0);
}

pub async fn attempts_are_counted(world: &mut World) {
    let mut readers =
        [world.subscribe("readers", "one").await, world.subscribe("readers", "two").await];
    world.publish(1..=2).await;
    let first = readers[0].take(2).await;
    readers[0].ack(&first[1..]).await;
    assert_eq!(first[0].attempt, 1);
    readers[0].retry(&first[0], Duration::from_millis(1)).await;
    drop(first);
    // Whoever takes it, it is the same count.
    for attempt in 2..=6_u32 {
        let reader = &mut readers[usize::try_from(attempt % 2).unwrap()];
        let again = reader.take(1).await;
        assert_eq!((number(&again[0]), again[0].attempt), (1, attempt));
        reader.retry(&again[0], Duration::from_millis(5)).await;
    }
    let last = readers[0].take(1).await;
    assert_eq!(last[0].attempt, 7);
    readers[0].ack(&last).await;
    readers[1].takes_nothing().await;
}

pub async fn a_retry_is_seen_to_be_late(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=3).await;
    let read = reader.take_of(1, 1).await;
    reader.retry(&read[0], Duration::from_millis(200)).await;
    let mut order = reader.take(3).await;
    assert_eq!(numbers(&order), [2, 3, 1], "a retry steps back behind those that follow");
    let late = order.pop().unwrap();
    assert!(order.iter().all(|one| one.position > late.position), "and one can see that it did");
    assert!(late.attempt > 1);
}

pub async fn a_waiting_retry_is_not_idle(world: &mut World) {
    let idle = Duration::from_millis(200);
    world.claim_idle(idle).await;
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=2).await;
    let read = reader.take(2).await;
    let asked = Instant::now();
    reader.retry(&read[0], HOURS).await;
    // The other one was forgotten: it lies there, and comes again and again.
    let mut other = world.subscribe("readers", "two").await;
    while asked.elapsed() < idle * 5 {
        for again in other.0.read(10, Duration::from_millis(100)).await.unwrap() {
            assert_eq!(number(&again), 2, "it waits for hours");
        }
    }
    let lag = world.bus.lag(&world.stream, "readers").await.unwrap();
    assert_eq!((lag.pending, lag.lag), (2, 0), "and counts as pending");
}
