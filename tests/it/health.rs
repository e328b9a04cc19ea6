//! What an operator looks at: health, readiness, what is owed, metrics.

use std::time::Duration;

use serde_json::json;

use crate::harness::{TestServer, time};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_has_the_documented_shapes() {
    let server = TestServer::start().await;
    let health = server.root("GET", "/health").send().await.expect(200).body;
    assert_eq!((&health["status"], &health["service"]), (&json!("ok"), &json!("happening")));
    time(&health["timestamp"]);
    server.root("GET", "/health/live").send().await.expect(200);
    let events = server.root("GET", "/health/events").send().await.expect(200).body;
    assert_eq!((&events["status"], &events["failedEventsCount"]), (&json!("ok"), &json!(0)));
    let named = server.root("GET", "/health?service=outbox-relay").send().await.expect(200).body;
    assert_eq!(named["service"], "outbox-relay");
    server.root("GET", "/health?service=nobody").send().await.refused(404, "not_found");
    let ready = eventually(Duration::from_secs(10), || async {
        let ready = server.root("GET", "/health/ready").send().await.expect(200).body;
        if ready["status"] == "ready" { Ok(ready) } else { Err(ready.to_string()) }
    })
    .await;
    let names = |list: &str| -> Vec<String> {
        let all = ready[list].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("dependencies"), ["postgres", "redis", "bus", "rabbitmq"]);
    for actor in [
        "booking-desk-0",
        "booking-gate-0",
        "outbox-relay",
        "notification-consumer-0",
        "reconciler",
        "waitlist-sweeper",
        "event-cascade",
        "janitor",
    ] {
        assert!(names("actors").contains(&actor.to_owned()), "{actor}: {ready}");
    }
    for actor in ready["actors"].as_array().unwrap() {
        assert!(actor["heartbeat_age_ms"].as_i64().is_none_or(|age| age < 30_000), "{actor}");
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_counted_until_somebody_deals_with_it() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let insert = "INSERT INTO dead_letters (id, source, message_id, type, payload, reason,
            fingerprint, attempts, died_at)
        VALUES (gen_random_uuid(), 'relay', gen_random_uuid(), 'x', 'not JSON', 'why', 'f', 3,
            now())";
    server.pg().execute(insert, &[]).await.unwrap();
    let counted = async |wanted: i64| {
        eventually(Duration::from_secs(5), || async {
            let events = server.root("GET", "/health/events").send().await.body;
            if events["failedEventsCount"] == wanted { Ok(()) } else { Err(events.to_string()) }
        })
        .await;
    };
    counted(1).await;
    let list = server.call("GET", "/admin/dead-letters").bearer(&admin.token);
    let list = list.send().await.expect(200);
    let path = format!("/admin/dead-letters/{}", list.items()[0]["id"].as_str().unwrap());
    server.call("DELETE", &path).bearer(&admin.token).send().await.expect(204);
    counted(0).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_what_is_going_on() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1})).await;
    let ana = server.person().await;
    server.book(&ana, event, 1).await.expect(201);
    let no = json!({"event_id": event, "seats": 1, "waitlist": false});
    crate::support::truth::redis_agrees(server.pg(), &server.redis()).await;
    server.booking(&ana, no).send().await.refused(409, "sold_out");
    server.check().await;
    let wanted = [
        "http_requests_total{",
        "http_request_seconds_bucket{",
        "desk_batch_size_count",
        "desk_batch_seconds_count",
        "desk_queue_depth{",
        "gate_requests_total{outcome=\"sold_out\"}",
        "outbox_unsent_messages 0",
        "outbox_oldest_seconds",
        "relay_published_total",
        "consumer_messages_total{",
        "outcome=\"processed\"",
        "message_delivery_seconds_count",
        "dead_letters 0",
        "failed_messages 0",
        "postgres_pool_connections{",
        "redis_pool_connections{",
        "actor_heartbeat_age_seconds{actor=\"outbox-relay\"}",
        "actor_up{actor=\"reconciler\"} 1",
        "slot_drift_seats 0",
    ];
    eventually(Duration::from_secs(5), || async {
        let text = server.root("GET", "/metrics").send().await.expect(200).text;
        let missing: Vec<_> = wanted.iter().filter(|one| !text.contains(**one)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} in\n{text}")) }
    })
    .await;
    server.finish().await;
}
