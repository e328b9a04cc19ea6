//! What is kept: replay, lag, trimming.

use std::time::Duration;

use happening::bus::{From, Stream};
use happening::config::Provider;
use jiff::Timestamp;

use crate::servers::DEADLINE;
use crate::world::{World, numbers};

pub async fn replay_begins_anywhere(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=5).await;
    let read = reader.take(5).await;
    reader.ack(&read[..2]).await;
    // The broker's clock tells them apart by milliseconds.
    let until = std::time::Instant::now() + DEADLINE;
    loop {
        world.publish(6..=6).await;
        let all = world.bus.replay(&world.stream, From::Start, 100).await.unwrap();
        if all.last().unwrap().stored_at > read[4].stored_at {
            break;
        }
        assert!(std::time::Instant::now() < until, "time stands still");
    }
    let bus = &world.bus;
    let replay = async |from, max| bus.replay(&world.stream, from, max).await.unwrap();
    let all = replay(From::Start, 100).await;
    assert_eq!(numbers(&all)[..6], [1, 2, 3, 4, 5, 6]);
    assert_eq!(all[..5].iter().map(|one| one.position).collect::<Vec<_>>(), positions(&read));
    assert_eq!(numbers(&replay(From::Start, 3).await), [1, 2, 3]);
    assert_eq!(numbers(&replay(From::At(read[1].position), 2).await), [2, 3]);
    assert_eq!(numbers(&replay(From::After(read[1].position), 2).await), [3, 4]);
    let last = all.last().unwrap();
    assert!(replay(From::After(last.position), 10).await.is_empty());
    assert_eq!(replay(From::At(last.position), 10).await.len(), 1);
    let since = last.stored_at.unwrap();
    let late = replay(From::Time(since), 100).await;
    assert!(!late.is_empty() && late.iter().all(|one| one.stored_at.unwrap() >= since));
    assert!(replay(From::Time(Timestamp::MAX), 10).await.is_empty());
    assert_eq!(replay(From::Time(Timestamp::UNIX_EPOCH), 100).await.len(), all.len());
    // The group did not notice.
    let lag = world.bus.lag(&world.stream, "readers").await.unwrap();
    assert_eq!(lag.pending, 3);
    let unknown = Stream::of("nobody.knows");
    assert!(world.bus.replay(&unknown, From::Start, 10).await.unwrap().is_empty());
}

fn positions(read: &[happening::bus::Delivery]) -> Vec<happening::bus::Position> {
    read.iter().map(|one| one.position).collect()
}

pub async fn lag_is_told(world: &mut World) {
    let group = "readers";
    world.declare(&[group]).await;
    let look = async || world.bus.lag(&world.stream, group).await.unwrap();
    let lag = look().await;
    assert_eq!((lag.length, lag.pending, lag.lag, lag.oldest_age), (0, 0, 0, None));
    world.publish(1..=10).await;
    let lag = look().await;
    assert_eq!((lag.length, lag.pending, lag.lag), (10, 0, 10));
    assert!(lag.oldest_age.is_some());
    let mut reader = world.subscribe(group, "one").await;
    let read = reader.take_of(4, 4).await;
    let lag = look().await;
    // Some may be on their way ahead of the next read.
    assert_eq!((lag.length, lag.pending + lag.lag), (10, 10));
    assert!(lag.pending >= 4 && lag.consumers <= 1, "{lag:?}");
    reader.ack(&read).await;
    let read = reader.take(6).await;
    assert_eq!(look().await.last_position, Some(read[5].position));
    let older = look().await.oldest_age.unwrap();
    reader.ack(&read).await;
    let lag = look().await;
    assert_eq!((lag.length, lag.pending, lag.lag, lag.oldest_age), (10, 0, 0, None), "{older:?}");
    assert!(world.bus.lag(&world.stream, "nobody").await.is_err());
    assert_eq!(world.bus.length(&world.stream).await.unwrap(), 10, "whoever reads it");
    let nowhere = happening::bus::Stream::of("no.such");
    assert_eq!(world.bus.length(&nowhere).await.unwrap(), 0);
}

pub async fn a_trim_keeps_what_is_not_acknowledged(world: &mut World) {
    world.declare(&["fast", "slow", "asleep"]).await;
    let mut fast = world.subscribe("fast", "a").await;
    let mut slow = world.subscribe("slow", "a").await;
    world.publish(1..=100).await;
    let (since, max) = (Timestamp::MAX, 10);
    let trim = async || world.bus.trim(&world.stream, since, max).await.unwrap();
    let read = fast.take(100).await;
    fast.ack(&read).await;
    let read = slow.take(50).await;
    // All but one in the middle.
    slow.ack(&read[..20]).await;
    slow.ack(&read[21..]).await;
    assert_eq!(trim().await, 0, "one group has not even begun");
    let mut asleep = world.subscribe("asleep", "a").await;
    let all = asleep.take(100).await;
    assert_eq!(numbers(&all).len(), 100);
    asleep.ack(&all).await;
    trim().await;
    let left = world.bus.replay(&world.stream, From::Start, 200).await.unwrap();
    // Of those that were acknowledged the last one may stay, as a mark.
    let left = numbers(&left);
    assert!(left[0] == 20 || left[0] == 21, "21 is not acknowledged, but {left:?} were kept");
    assert_eq!(left.last(), Some(&100));
    // It still can be retried, and so can those that were not read yet.
    slow.retry(&read[20], Duration::from_millis(1)).await;
    let mut rest = slow.take(51).await;
    rest.sort_by_key(|one| one.position);
    assert_eq!(numbers(&rest), [vec![21], (51..=100).collect()].concat());
    slow.ack(&rest).await;
    trim().await;
    let left = world.bus.replay(&world.stream, From::Start, 200).await.unwrap();
    assert!(left.len() <= 1, "{:?}", numbers(&left));
    // And on it goes.
    world.publish(101..=102).await;
    assert_eq!(numbers(&slow.take(2).await), [101, 102]);
    trim().await;
    let left = world.bus.replay(&world.stream, From::Start, 200).await.unwrap();
    assert!(numbers(&left).ends_with(&[101, 102]));
}

pub async fn a_trim_keeps_by_time(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=50).await;
    let read = reader.take(50).await;
    reader.ack(&read).await;
    let trim = async |since, max| world.bus.trim(&world.stream, since, max).await.unwrap();
    assert_eq!(trim(Timestamp::UNIX_EPOCH, u64::MAX).await, 0, "all are young, and not too many");
    assert_eq!(trim(Timestamp::UNIX_EPOCH, 30).await, 20, "young, but too many");
    let left = world.bus.replay(&world.stream, From::Start, 200).await.unwrap();
    assert_eq!(numbers(&left), (21..=50).collect::<Vec<_>>());
    let since = left[15].stored_at.unwrap();
    trim(since, u64::MAX).await;
    let left = world.bus.replay(&world.stream, From::Start, 200).await.unwrap();
    assert!(left.iter().all(|one| one.stored_at.unwrap() >= since), "what is old went");
    assert_eq!(numbers(&left).last(), Some(&50));
    assert!(left.len() >= 15, "what is young stayed");
    if world.provider() != Provider::Redis {
        return;
    }
    // More than one script may drop at once.
    for part in 0..6 {
        world.publish(part * 500 + 100..=part * 500 + 599).await;
        let read = reader.take_of(500, 500).await;
        reader.ack(&read).await;
    }
    let before = world.bus.lag(&world.stream, "readers").await.unwrap().length;
    assert_eq!(trim(Timestamp::UNIX_EPOCH, 100).await, before - 100);
}
