//! Reading.

use std::collections::BTreeSet;
use std::time::Duration;

use happening::bus::{Stream, pattern};

use crate::servers::DEADLINE;
use crate::world::{World, number, numbers, outgoing};

pub async fn messages_come_in_order(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    for part in 0..4 {
        world.publish(part * 100 + 1..=part * 100 + 100).await;
    }
    let mut read = Vec::new();
    for max in [1, 7, 64, 128, 200] {
        let some = reader.take_of(max, max).await;
        reader.ack(&some).await;
        read.extend(some);
    }
    assert_eq!(numbers(&read), (1..=400).collect::<Vec<_>>());
    assert!(read.is_sorted_by(|a, b| a.position < b.position));
    assert!(read.iter().all(|one| one.attempt == 1 && one.stored_at.is_some()));
    reader.takes_nothing().await;
}

pub async fn consumers_compete(world: &mut World) {
    let mut readers = [
        world.subscribe("readers", "one").await,
        world.subscribe("readers", "two").await,
        world.subscribe("readers", "three").await,
    ];
    world.publish(1..=120).await;
    let mut seen = BTreeSet::new();
    let mut parts = [0; 3];
    while seen.len() < 120 {
        for (reader, part) in readers.iter_mut().zip(&mut parts) {
            let read = reader.0.read(5, Duration::from_millis(20)).await.unwrap();
            reader.ack(&read).await;
            *part += read.len();
            for one in &read {
                assert!(seen.insert(number(one)), "{} came twice", number(one));
            }
        }
    }
    assert!(parts.iter().all(|part| *part > 0), "one did it all: {parts:?}");
}

pub async fn groups_do_not_compete(world: &mut World) {
    let mut one = world.subscribe("ones", "a").await;
    let mut other = world.subscribe("others", "a").await;
    world.publish(1..=20).await;
    for reader in [&mut one, &mut other] {
        let read = reader.take(20).await;
        reader.ack(&read).await;
        assert_eq!(numbers(&read), (1..=20).collect::<Vec<_>>());
        reader.takes_nothing().await;
    }
}

pub async fn a_late_group_sees_the_beginning(world: &mut World) {
    let mut early = world.subscribe("early", "a").await;
    world.publish(1..=10).await;
    let read = early.take(10).await;
    early.ack(&read).await;
    world.declare(&["late"]).await;
    // Again, which changes nothing.
    world.declare(&["late", "early"]).await;
    let mut late = world.subscribe("late", "a").await;
    assert_eq!(numbers(&late.take(10).await), (1..=10).collect::<Vec<_>>());
    early.takes_nothing().await;
}

pub async fn one_subscription_reads_many_streams(world: &mut World) {
    let all: Vec<Stream> =
        ["vendor.created", "vendor.deleted", "user.deleted"].map(Stream::of).to_vec();
    world.bus.declare(&all, &["all", "vendors", "deletions", "one"]).await.unwrap();
    let batch: Vec<_> = (0..12)
        .map(|number| outgoing(&all[usize::try_from(number % 3).unwrap()], number))
        .collect();
    world.publish_batch(&batch).await;
    for (group, meant, wanted) in [
        ("all", ">", vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("vendors", "vendor.*", vec![0, 1, 3, 4, 6, 7, 9, 10]),
        ("deletions", "*.deleted", vec![1, 2, 4, 5, 7, 8, 10, 11]),
        ("one", "user.deleted", vec![2, 5, 8, 11]),
    ] {
        let mut reader = world.subscribe_to(pattern::select(meant, &all), group, "a").await;
        let mut read = numbers(&reader.take(wanted.len()).await);
        read.sort_unstable();
        assert_eq!(read, wanted, "{meant}");
        reader.takes_nothing().await;
    }
}

pub async fn a_busy_stream_starves_none(world: &mut World) {
    let quiet = Stream::of("quiet.said");
    let streams = vec![world.stream.clone(), quiet.clone()];
    let mut reader = world.subscribe_to(streams, "readers", "a").await;
    world.publish(1..=300).await;
    world.publish_batch(&[outgoing(&quiet, 1000)]).await;
    let mut before = 0;
    loop {
        let read = reader.take_of(10, 10).await;
        reader.ack(&read).await;
        if read.iter().any(|one| one.stream == quiet) {
            break;
        }
        before += read.len();
        assert!(before < 100, "the quiet one waits for the busy one to be empty");
    }
}

pub async fn a_waiting_reader_holds_up_nobody(world: &mut World) {
    let mut waiting = world.subscribe("readers", "waiting").await;
    let mut busy = world.subscribe("others", "busy").await;
    waiting.takes_nothing().await;
    let meanwhile = async {
        for number in 1..=50 {
            world.publish_batch(&[outgoing(&Stream::of("other.thing"), number)]).await;
            world.bus.lag(&world.stream, "others").await.unwrap();
        }
        world.publish(1..=1).await;
        numbers(&busy.take(1).await)
    };
    let woken = tokio::time::timeout(DEADLINE, waiting.0.read(10, DEADLINE * 10));
    let (woken, other) = tokio::join!(woken, meanwhile);
    assert_eq!(numbers(&woken.expect("a message wakes it").unwrap()), [1]);
    assert_eq!(other, [1]);
}
