//! The same request twice is done once: replays, mistaken keys, other callers, and many at once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::TestServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_answers_as_the_first_time_did() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let body = json!({"event_id": event, "seats": 2});
    let first = server.booking(&ana, body.clone()).key("k").send().await.expect(201);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let state = server.state().await;
    let again = server.booking(&ana, body.clone()).key("k").send().await.expect(201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!((&again.text, again.header("location")), (&first.text, first.header("location")));
    let other = json!({"event_id": event, "seats": 3});
    let mistake = server.booking(&ana, other).key("k").send().await;
    mistake.refused(422, "idempotency_mismatch");
    assert_eq!(server.count("SELECT count(*) FROM bookings").await, 1);
    // Neither another route, nor another person's request with the same key, has to do with it.
    let cancel = format!("/bookings/{}/cancel", first.str("id"));
    let theirs = server.booking(&ben, body.clone()).key("k").send().await.expect(201);
    assert_ne!(theirs.body["id"], first.body["id"]);
    assert!(!theirs.headers.contains_key("idempotency-replayed"));
    let off = server.call("POST", &cancel).bearer(&ana.token).key("k").send().await.expect(200);
    assert!(!off.headers.contains_key("idempotency-replayed"));
    let off2 = server.call("POST", &cancel).bearer(&ana.token).key("k").send().await.expect(200);
    assert_eq!((off2.header("idempotency-replayed"), &off2.text), ("true", &off.text));
    // The replay of the booking still says what was answered then.
    let third = server.booking(&ana, body).key("k").send().await.expect(201);
    assert_eq!(third.text, first.text);
    assert_ne!(server.state().await, state);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_replayed_too_and_keys_have_bounds() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let held = server.book(&ben, event, 1).await.expect(201);
    let body = json!({"event_id": event, "seats": 1, "waitlist": false});
    let no = server.booking(&ana, body.clone()).key("k").send().await.refused(409, "sold_out");
    server.cancel(&ben, &held.body["id"], Value::Null).await.expect(200);
    let again = server.booking(&ana, body.clone()).key("k").send().await.refused(409, "sold_out");
    assert_eq!(again.header("idempotency-replayed"), "true");
    let without_id = |body: &Value| {
        let mut body = body.clone();
        body.as_object_mut().unwrap().remove("request_id");
        body
    };
    assert_eq!(without_id(&again.body), without_id(&no.body));
    let long = "k".repeat(256);
    for key in ["", "  ", long.as_str(), "schlüssel"] {
        let refused = server.booking(&ana, body.clone()).key(key).send().await;
        refused.refused(400, "malformed");
    }
    server.booking(&ana, body).key(&"k".repeat(255)).send().await.expect(201);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_submits_of_one_key_are_one_booking() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1000})).await;
    let ana = server.person().await;
    let body = json!({"event_id": event, "seats": 1});
    let all = (0..50).map(|_| server.booking(&ana, body.clone()).key("one").send());
    let all = futures_util::future::join_all(all).await;
    // In flight is an allowed answer; it must not be the only one, and it must not book.
    let answered: Vec<_> = all.iter().filter(|reply| reply.status == 201).collect();
    assert!(!answered.is_empty());
    for reply in &all {
        assert!(reply.status == 201 || reply.body["code"] == "request_in_flight", "{}", reply.text);
    }
    let bodies: BTreeSet<&str> = answered.iter().map(|reply| reply.text.as_str()).collect();
    assert_eq!(bodies.len(), 1, "all say the same");
    let fresh = answered.iter().filter(|reply| !reply.headers.contains_key("idempotency-replayed"));
    assert_eq!(fresh.count(), 1);
    assert_eq!(server.count("SELECT count(*) FROM bookings").await, 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_know_each_others_keys() {
    let mut server = TestServer::start().await;
    let (other, _) = server.another().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1000})).await;
    let ana = server.person().await;
    let body = json!({"event_id": event, "seats": 1});
    let mut all = Vec::new();
    for n in 0..60 {
        let client = if n % 2 == 0 { server.client() } else { &other };
        let ask = client.call("POST", "/bookings").bearer(&ana.token).json(body.clone());
        all.push(ask.key(&format!("key {}", n / 6)).send());
    }
    let all = futures_util::future::join_all(all).await;
    for reply in &all {
        assert!(reply.status == 201 || reply.body["code"] == "request_in_flight", "{}", reply.text);
    }
    assert_eq!(server.count("SELECT count(*) FROM bookings").await, 10);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_verbs_are_replayed_as_well() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let token = &organizer.person.token;
    let path = format!("/organizations/{}/events", organizer.organization);
    let body = server.usual_event();
    let ask = || server.call("POST", &path).bearer(token).key("e").json(body.clone()).send();
    let (made, again) = (ask().await.expect(201), ask().await.expect(201));
    assert_eq!((again.header("idempotency-replayed"), &again.text), ("true", &made.text));
    assert_eq!(again.header("location"), made.header("location"));
    for verb in ["publish", "cancel"] {
        let path = format!("/events/{}/{verb}", made.str("id"));
        let ask = || server.call("POST", &path).bearer(token).key("v").send();
        let (done, again) = (ask().await.expect(200), ask().await.expect(200));
        assert_eq!((again.header("idempotency-replayed"), &again.text), ("true", &done.text));
    }
    server.finish().await;
}
