//! Publishing.

use bytes::Bytes;
use happening::bus::{From, PublishError, Stream};
use happening::config::Provider;

use crate::world::{LIMIT, World, number, numbers, outgoing};

pub async fn a_batch_is_published_in_order(world: &mut World) {
    let (one, other) = (world.stream.clone(), Stream::of("post.liked"));
    world.bus.declare(std::slice::from_ref(&other), &[]).await.unwrap();
    let batch: Vec<_> = (1..=600)
        .map(|number| outgoing(if number % 3 == 0 { &other } else { &one }, number))
        .collect();
    let outcomes = world.bus.publish(&batch).await;
    assert_eq!(outcomes.len(), batch.len());
    for stream in [&one, &other] {
        let published: Vec<_> = batch
            .iter()
            .zip(&outcomes)
            .filter(|(message, _)| message.stream == *stream)
            .map(|(message, outcome)| (*outcome.as_ref().unwrap(), message.id))
            .collect();
        assert!(published.is_sorted_by(|a, b| a.0 < b.0), "positions grow with the batch");
        let stored = replay_all(world, stream).await;
        let stored: Vec<_> =
            stored.iter().map(|one| (one.position, one.envelope().unwrap().id)).collect();
        assert_eq!(stored, published);
    }
}

async fn replay_all(world: &World, stream: &Stream) -> Vec<happening::bus::Delivery> {
    let mut all: Vec<happening::bus::Delivery> = Vec::new();
    loop {
        let from = all.last().map_or(From::Start, |last| From::After(last.position));
        let page = world.bus.replay(stream, from, 250).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

pub async fn oversized_ones_are_refused(world: &mut World) {
    let mut batch: Vec<_> = (1..=3).map(|number| outgoing(&world.stream, number)).collect();
    let bytes = LIMIT + 1;
    batch[1].body = Bytes::from(vec![b'x'; bytes]);
    let outcomes = world.bus.publish(&batch).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[1], Err(PublishError::TooLarge { bytes, limit: LIMIT }));
    let stored = world.bus.replay(&world.stream, From::Start, 10).await.unwrap();
    assert_eq!(numbers(&stored), [1, 3]);
    // One that just fits.
    let mut fits = outgoing(&world.stream, 4);
    fits.body = Bytes::from(vec![b'x'; LIMIT]);
    world.publish_batch(&[fits]).await;
}

/// Redis and memory keep both, NATS leaves the second one out: who reads must cope with both.
pub async fn a_second_copy_has_the_same_id(world: &mut World) {
    let message = outgoing(&world.stream, 1);
    let first = world.bus.publish(std::slice::from_ref(&message)).await.remove(0).unwrap();
    let again = world.bus.publish(std::slice::from_ref(&message)).await.remove(0).unwrap();
    world.publish(2..=2).await;
    let mut reader = world.subscribe("readers", "one").await;
    if world.provider() == Provider::Nats {
        assert_eq!(first, again);
        assert_eq!(numbers(&reader.take(2).await), [1, 2]);
    } else {
        assert!(first < again);
        let read = reader.take(3).await;
        assert_eq!(numbers(&read), [1, 1, 2]);
        let id = |at: usize| read[at].envelope().unwrap().id;
        assert_eq!((id(0), id(1)), (message.id, message.id));
    }
    reader.takes_nothing().await;
}

pub async fn shards_are_streams_of_their_own(world: &mut World) {
    let shards: Vec<_> = (0..3).map(|shard| Stream::shard("event.rated", shard)).collect();
    world.bus.declare(&shards, &["readers"]).await.unwrap();
    let batch: Vec<_> = (0..30)
        .map(|number| outgoing(&shards[usize::try_from(number % 3).unwrap()], number))
        .collect();
    world.publish_batch(&batch).await;
    for (index, shard) in (0..).zip(&shards) {
        let mut reader = world.subscribe_to(vec![shard.clone()], "readers", "one").await;
        let read = reader.take(10).await;
        assert!(read.iter().all(|one| number(one) % 3 == index && one.stream == *shard));
        reader.takes_nothing().await;
    }
}
