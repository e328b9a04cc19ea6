//! Types of messages in several versions and over several streams.

use std::sync::Arc;
use std::time::Instant;

use happening::actors::Actor as _;
use happening::app::Origin;
use happening::app::messages::dead_letters::DeadLetters;
use happening::app::messages::handle::Handler;
use happening::app::messages::parcels::Parcels;
use happening::app::messages::registry::{Registry, Upcast};
use happening::app::messages::seal::Keyring;
use happening::bus::envelope::Envelope;
use happening::clock::Ids;
use happening::domain::ids::{DeadLetterId, MessageId};
use happening::domain::stream_type::{self, DATA_MAX, Schema, StreamType};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::scribe::{KIND, Mood, SOON, World, drain, envelope, relay};

/// A type over four streams, of which an older version still comes.
fn types() -> Vec<StreamType> {
    const OLD: Schema = Schema {
        version: 1,
        text: r#"{"type":"object","required":["eventId"],"properties":{"n":{"type":"integer"}}}"#,
    };
    const NEW: Schema =
        Schema { version: 2, text: r#"{"type":"object","required":["eventId","version"]}"# };
    let interest = *stream_type::find(KIND).unwrap();
    let rated = *stream_type::find("event.rated").unwrap();
    vec![StreamType { shards: 4, schema: NEW, older: &[OLD], ..interest }, rated]
}

fn lift(mut data: Value) -> Value {
    data["version"] = data["n"].take();
    data
}

/// A process of the release that made these of them.
async fn newer() -> World {
    const UPCASTS: &[Upcast] = &[Upcast { kind: KIND, from: 1, lift }];
    let mut world = World::new().await;
    let config = world.server.config();
    let keys = Keyring::new(&config.seal, &config.auth, Ids).unwrap();
    world.app.registry = Registry::of(&types(), UPCASTS, keys, DATA_MAX).unwrap();
    let handler: Arc<dyn Handler> = world.scribe.clone();
    let parcels = Parcels::new(world.app.registry.clone(), &[handler]);
    parcels.declare(world.app.bus.as_ref()).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_keep_the_order_of_keys_and_old_versions_are_lifted() {
    let world = newer().await;
    assert_eq!(world.taker().streams().len(), 5);
    let keys: Vec<Uuid> = (0..20).map(|_| Ids.uuid()).collect();
    let (mut one, mut two) = (world.consumer(), world.consumer());
    for number in 1..=10 {
        for key in &keys {
            let old = json!({"eventId": key, "n": number});
            let new = json!({"eventId": key, "version": number});
            let data = if number % 2 == 0 { old } else { new };
            let version = if number % 2 == 0 { 1 } else { 2 };
            world.tell(&[Envelope { version, ..envelope(KIND, *key, data) }]).await;
        }
        one.step().await.unwrap();
        two.step().await.unwrap();
    }
    let until = Instant::now() + SOON;
    while world.server.count("SELECT count(*) FROM effects").await < 200 {
        assert!(Instant::now() < until, "not all is done");
        one.step().await.unwrap();
        two.step().await.unwrap();
    }
    for key in keys {
        assert_eq!(world.effects(key).await, (1..=10).collect::<Vec<_>>());
    }
    assert_eq!(world.letters().await, []);
    world.server.finish().await;
}

/// While processes are replaced by those of a newer release, what the old ones wrote is sent by the
/// new ones: as what it is, also when it died meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_release_wrote_is_sent_as_what_it_is() {
    let world = newer().await;
    let key = Ids.uuid();
    for number in 1..=3 {
        let (id, data) = (Ids.uuid(), json!({"eventId": key, "n": number}));
        let row = format!(
            "INSERT INTO outbox (id, aggregate_id, type, payload, correlation_id, created_at, lane)
             VALUES ('{id}', '{key}', '{KIND}', '{data}', 'req-7', now(), 'bus')"
        );
        world.server.sql(&row).await;
    }
    world.scribe.mood(2, Some(Mood::Poison));
    relay(&world).await;
    let mut consumer = world.consumer();
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, [1, 3]);
    let rows = "SELECT id, message_id, schema_version, payload::json ->> 'n' FROM dead_letters";
    let rows = world.server.sql(rows).await;
    let letter = &rows[0];
    assert_eq!((rows.len(), letter.get::<_, i32>(2), letter.get::<_, &str>(3)), (1, 1, "2"));

    world.scribe.mood(2, None);
    let letters =
        DeadLetters::new(world.app.db.clone(), world.app.clock.clone(), world.app.registry.clone());
    let origin = Origin { correlation_id: "again".to_owned(), traceparent: None };
    letters.redrive_now((None, &origin), DeadLetterId(letter.get(0)), false).await.unwrap();
    relay(&world).await;
    drain(&mut consumer).await;
    assert_eq!(world.effects(key).await, [1, 3, 2]);
    assert_eq!(world.letters().await, []);
    // The inbox knows it by its version: it is one message still.
    let id: String = letter.get(1);
    let (status, ..) = world.entry(MessageId(id.parse().unwrap())).await;
    assert_eq!(status, "processed");
    let entries = format!("SELECT count(*) FROM processed_events WHERE revision = '{id}'");
    assert_eq!(world.server.count(&entries).await, 1);
    world.server.finish().await;
}
