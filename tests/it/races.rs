//! Many at once: on one seat, on a cold Redis, on one that forgets, through two processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{TestServer, spawn};
use crate::support::client::Reply;

/// So many requests are under way at once.
const AT_ONCE: usize = 250;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_want_one_seat_and_one_has_it() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1})).await;
    let people = server.people(2000).await;
    let body = json!({"event_id": event, "seats": 1, "waitlist": false});
    let asks = people.iter().map(|person| server.booking(person, body.clone()).send());
    let replies = all(asks).await;
    let won: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 201).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(won[0].body["status"], "confirmed");
    let lost = replies.iter().filter(|reply| reply.body["code"] == "sold_out");
    assert_eq!(lost.filter(|reply| reply.status == 409).count(), 1999);
    assert_eq!(server.count("SELECT count(*) FROM bookings").await, 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_choose_the_same_seat_one_has_it() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 20, "seating": "numbered"})).await;
    let people = server.people(300).await;
    // Each wants two neighbours; pairs overlap.
    let asks = people.iter().enumerate().map(|(n, person)| {
        let seat = u32::try_from(n % 19).unwrap() + 1;
        let body = json!({"event_id": event, "seat_numbers": [seat, seat + 1], "waitlist": false});
        server.booking(person, body).send()
    });
    let replies = all(asks).await;
    let won = replies.iter().filter(|reply| reply.status == 201).count();
    assert!((7..=10).contains(&won), "{won} pairs were sold");
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        assert_eq!(reply.status, 409, "{}", reply.text);
        let code = reply.body["code"].as_str().unwrap();
        assert!(code == "seats_unavailable" || code == "sold_out", "{}", reply.text);
    }
    let sold = i64::try_from(won * 2).unwrap();
    assert_eq!(server.count("SELECT count(*) FROM booking_seats").await, sold);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_counter_sells_no_seat_twice() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 50})).await;
    let people = server.people(200).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (mut redis, stopped) = (server.redis(), Arc::clone(&stop));
    let forgetful = spawn(async move {
        let slots = format!("event:{{{event}}}:slots");
        let mut times = 0;
        while !stopped.load(Ordering::Relaxed) {
            redis::cmd("DEL").arg(&slots).exec_async(&mut redis).await.unwrap();
            times += 1;
            tokio::task::yield_now().await;
        }
        times
    });
    let asks = people.iter().map(|person| server.book(person, event, 1));
    let replies = all(asks).await;
    stop.store(true, Ordering::Relaxed);
    assert!(forgetful.await.unwrap() > 10, "the key was deleted again and again");
    assert_eq!(count(&replies, "confirmed"), 50);
    assert_eq!(count(&replies, "waitlisted"), 150);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_in_the_middle_of_a_sale_changes_nothing() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 300})).await;
    let people = server.people(600).await;
    let mut replies = Vec::new();
    for (n, part) in people.chunks(100).enumerate() {
        let asks = part.iter().map(|person| server.book(person, event, 1));
        let mut redis = server.redis();
        let flush = async {
            if n % 2 == 1 {
                redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();
            }
        };
        let (part, ()) = tokio::join!(all(asks), flush);
        replies.extend(part);
    }
    assert_eq!(count(&replies, "confirmed"), 300);
    assert_eq!(count(&replies, "waitlisted"), 300);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_sell_one_event() {
    let mut server = TestServer::start().await;
    let (other, _) = server.another().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 100})).await;
    let people = server.people(400).await;
    let asks = people.iter().enumerate().map(|(n, person)| {
        let client = if n % 2 == 0 { server.client() } else { &other };
        let body = json!({"event_id": event, "seats": 1 + n % 3});
        let (book, cancels) = (client.call("POST", "/bookings"), n % 5 == 0);
        let client = client.clone();
        async move {
            let booked = book.bearer(&person.token).json(body).send().await.expect(201);
            if cancels {
                let path = format!("/bookings/{}/cancel", booked.str("id"));
                client.call("POST", &path).bearer(&person.token).send().await.expect(200);
            }
            booked
        }
    });
    all(asks).await;
    let sold = server.count("SELECT confirmed_seats::bigint FROM events").await;
    assert!(sold > 97, "{sold} of 100 seats are sold while hundreds wait");
    server.finish().await;
}

/// What was acknowledged counts: the next request sees the seat that a cancellation gave back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_that_was_given_back_can_be_had_at_once() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1})).await;
    let people = server.people(2).await;
    let body = json!({"event_id": event, "seats": 1, "waitlist": false});
    let mut refused = Vec::new();
    for turn in 0..200 {
        let person = &people[turn % 2];
        let booked = server.booking(person, body.clone()).send().await;
        if booked.status != 201 {
            refused.push((turn, booked.text));
            continue;
        }
        server.booking(&people[0], body.clone()).send().await.refused(409, "sold_out");
        server.cancel(person, &booked.body["id"], Value::Null).await.expect(200);
    }
    assert!(refused.is_empty(), "{} of 200 times: {:?}", refused.len(), refused.first());
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_cancels_while_everybody_waits() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let policy = json!({"capacity": 20, "waitlist": {"policy": "bypass", "max_bypass": 2}});
    let event = server.event(&organizer, policy).await;
    let people = server.people(200).await;
    let asks = people.iter().enumerate().map(|(n, person)| {
        let server = &server;
        async move {
            let seats = u32::try_from(n % 4).unwrap() + 1;
            let booked = server.book(person, event, seats).await.expect(201);
            let part = if seats > 2 { json!({"seats": 1}) } else { Value::Null };
            server.cancel(person, &booked.body["id"], part).await.expect(200)
        }
    });
    all(asks).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_has_a_booking_or_none_but_never_half_of_one() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 100})).await;
    let people = server.people(100).await;
    let asks = people.iter().map(|person| {
        let ask = server.booking(person, json!({"event_id": event, "seats": 1})).key("k");
        // Hangs up at some point of the way.
        tokio::time::timeout(std::time::Duration::from_millis(3), ask.attempt())
    });
    futures_util::future::join_all(asks).await;
    // Asked again with the same key everybody learns of one booking.
    let again = people.iter().map(|person| {
        server.booking(person, json!({"event_id": event, "seats": 1})).key("k").send()
    });
    for reply in all(again).await {
        let waits = reply.status == 409 && reply.body["code"] == "request_in_flight";
        assert!(reply.status == 201 || waits, "{}", reply.text);
    }
    assert_eq!(server.count("SELECT count(*) FROM bookings").await, 100);
    server.finish().await;
}

/// Runs them side by side, so many at once; answers in their order.
async fn all<Fut: Future>(asks: impl Iterator<Item = Fut>) -> Vec<Fut::Output> {
    use futures_util::StreamExt as _;
    futures_util::stream::iter(asks).buffered(AT_ONCE).collect().await
}

fn count(replies: &[Reply], status: &str) -> usize {
    let broken = replies.iter().find(|reply| reply.status != 201);
    assert!(broken.is_none(), "{}", broken.unwrap().text);
    replies.iter().filter(|reply| reply.body["status"] == status).count()
}
