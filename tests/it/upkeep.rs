//! What nobody asks for: the sweeper, the end of events, forgetting what is old.

use happening::app::bookings::sweep;
use happening::app::events::complete::complete_over;
use happening::app::forget;
use happening::clock::Clock;
use happening::domain::ids::EventId;
use jiff::SignedDuration;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestServer, Wishes};

async fn quiet() -> TestServer {
    let clock = Clock::manual("2026-03-01T10:00:00Z".parse().expect("a time"));
    Wishes::default().without_loops().clock(&clock).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweeper_serves_whom_a_lost_trigger_left() {
    let server = quiet().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1})).await;
    let people = server.people(2).await;
    let first = server.book(&people[0], event, 1).await.expect(201);
    let second = server.book(&people[1], event, 1).await.expect(201);
    // As if a seat had been given back by something that did not serve the queue.
    let lost = format!(
        "UPDATE bookings SET status = 'cancelled' WHERE id = '{}';
         UPDATE events SET confirmed_seats = 0, reserved_seats = 1;
         INSERT INTO outbox (id, aggregate_id, type, payload, correlation_id, created_at)
         SELECT gen_random_uuid(), id, 'booking_cancelled', json_build_object('bookingId', id),
                '', now() FROM bookings WHERE status = 'cancelled'",
        first.str("id")
    );
    server.pg().batch_execute(&lost).await.unwrap();
    let found = sweep::step(server.app(), EventId(Uuid::nil())).await.unwrap();
    assert_eq!(found, Some(EventId(event)));
    let standing = server.standing(&people[1], &second.body["id"]).await;
    assert_eq!(standing["position"], Value::Null);
    let last = &standing["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["what"], &last["why"]), (&json!("promoted"), &json!("found by the sweeper")));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_taken_place_is_completed() {
    let server = quiet().await;
    let organizer = server.organizer().await;
    let ends = json!({"starts_at": "2026-03-02T10:00:00Z", "ends_at": "2026-03-02T12:00:00Z"});
    let event = server.event(&organizer, ends).await;
    let draft = server.draft(&organizer, json!({"starts_at": "2026-03-02T10:00:00Z"})).await;
    let later = server.event(&organizer, json!({})).await;
    server.clock().advance(SignedDuration::from_hours(26) - SignedDuration::from_millis(1));
    complete_over(server.app()).await.unwrap();
    // Tokens are short-lived; everybody may see an event.
    let status = async |event: Uuid| {
        let path = format!("/events/{event}");
        server.call("GET", &path).send().await.body["status"].clone()
    };
    assert_eq!(status(event).await, "published");
    server.clock().advance(SignedDuration::from_millis(1));
    complete_over(server.app()).await.unwrap();
    assert_eq!(
        (status(event).await, status(later).await),
        (json!("completed"), json!("published"))
    );
    assert_eq!(status(draft).await, 404, "nobody is told of a draft");
    let ana = server.person().await;
    server.book(&ana, event, 1).await.refused(409, "event_not_open");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_kept_for_a_day_and_sent_messages_for_their_time() {
    let server = quiet().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let ana = server.person().await;
    let body = json!({"event_id": event, "seats": 1});
    server.booking(&ana, body).key("k").send().await.expect(201);
    let keys = "SELECT count(*) FROM idempotency_keys";
    let app = server.app();
    let forget = async || {
        while forget::some(&app.db, &app.clock, &app.config).await.unwrap() {}
    };
    server.clock().advance(SignedDuration::from_hours(24));
    forget().await;
    assert_eq!(server.count(keys).await, 1);
    server.clock().advance(SignedDuration::from_millis(1));
    forget().await;
    assert_eq!(server.count(keys).await, 0);
    // Unsent messages are never forgotten, sent ones after their time.
    server.clock().advance(SignedDuration::from_hours(1000));
    forget().await;
    assert_eq!(server.count("SELECT count(*) FROM outbox").await, 1);
    let sent = "UPDATE outbox SET sent_at = created_at";
    server.pg().batch_execute(sent).await.unwrap();
    crate::support::truth::invariants(server.pg()).await;
    forget().await;
    assert_eq!(server.count("SELECT count(*) FROM outbox").await, 0);
    // With them goes what the truth is compared with.
    server
        .pg()
        .batch_execute(
            "DELETE FROM bookings; UPDATE events SET confirmed_seats = 0,
        available_slots = capacity",
        )
        .await
        .unwrap();
    server.finish().await;
}
