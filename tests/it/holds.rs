//! Seats that are held while somebody decides: who has them, until when, and who is told.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::people::{Organizer, Person};
use crate::harness::{TestServer, Wishes, time};
use crate::support::client::{Client, Reply};
use crate::support::eventually;

/// How soon an end is told (matrix row 38).
const TOLD: Duration = Duration::from_secs(5);

/// An event with so many numbered seats on sale.
async fn hall(server: &TestServer, capacity: u32, more: Value) -> (Organizer, Uuid) {
    let organizer = server.organizer().await;
    let base = json!({"seating": "numbered", "capacity": capacity});
    let event = server.event(&organizer, crate::harness::people::over(base, more)).await;
    (organizer, event)
}

async fn hold(server: &impl AsRef<Client>, by: &Person, event: Uuid, seats: &[u32]) -> Reply {
    let ask = server.as_ref().call("POST", &format!("/events/{event}/holds")).bearer(&by.token);
    ask.json(json!({"seat_numbers": seats})).send().await
}

async fn renew(server: &impl AsRef<Client>, by: &Person, event: Uuid, token: &str) -> Reply {
    let path = format!("/events/{event}/holds/{token}");
    server.as_ref().call("PUT", &path).bearer(&by.token).send().await
}

async fn release(server: &impl AsRef<Client>, by: &Person, event: Uuid, token: &str) -> Reply {
    let path = format!("/events/{event}/holds/{token}");
    server.as_ref().call("DELETE", &path).bearer(&by.token).send().await
}

async fn book(
    server: &impl AsRef<Client>,
    by: &Person,
    event: Uuid,
    seats: &[u32],
    token: &str,
) -> Reply {
    let body = json!({"event_id": event, "seat_numbers": seats, "hold_token": token,
                      "waitlist": false});
    server.as_ref().call("POST", "/bookings").bearer(&by.token).json(body).send().await
}

async fn seats(server: &impl AsRef<Client>, event: Uuid) -> Value {
    server.as_ref().call("GET", &format!("/events/{event}/seats")).send().await.expect(200).body
}

/// Watches the changes of an event as every process is told them.
struct Ear {
    heard: redis::aio::PubSubStream,
    _sink: redis::aio::PubSubSink,
}

impl Ear {
    async fn open(server: &TestServer, event: Uuid) -> Self {
        let client = server.app().config.redis.url.clone();
        let client = redis::Client::open(secrecy::ExposeSecret::expose_secret(&client)).unwrap();
        let (mut sink, heard) = client.get_async_pubsub().await.unwrap().split();
        sink.subscribe(format!("event:{{{event}}}:deltas")).await.unwrap();
        Self { heard, _sink: sink }
    }

    /// The next change.
    async fn next(&mut self) -> Value {
        let message = tokio::time::timeout(TOLD, self.heard.next()).await.expect("it is told");
        let payload: String = message.expect("the channel is open").get_payload().unwrap();
        serde_json::from_str(&payload).unwrap_or_else(|error| panic!("{payload}: {error}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seats_are_held_renewed_booked_and_let_go_and_everybody_is_told() {
    let server = TestServer::start().await;
    let (_, event) = hall(&server, 10, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let mut ear = Ear::open(&server, event).await;

    let held = hold(&server, &ana, event, &[3, 4]).await.expect(201);
    let token = held.str("hold_token");
    assert_eq!(held.header("location"), format!("/api/v1/events/{event}/holds/{token}"));
    assert_eq!(held.body["seat_numbers"], json!([3, 4]));
    assert_eq!(held.body["renewals_left"], 5);
    let left = time(&held.body["expires_at"]) - time(&held.body["server_time"]);
    assert_eq!(left.get_milliseconds() + 1_000 * left.get_seconds(), 120_000);
    let mut delta = ear.next().await;
    if delta["full"] == true {
        // The event was unknown to Redis until somebody wanted to hold a seat.
        delta = ear.next().await;
    }
    let version = delta["v"].as_i64().unwrap();
    assert_eq!(delta, json!({"v": version, "held": [3, 4], "available": 8, "total": 10}));
    let shown = seats(&server, event).await;
    assert_eq!(
        shown,
        json!({"total": 10, "available": 8, "taken": [], "held": [3, 4],
                             "version": version})
    );

    let refused = hold(&server, &ben, event, &[2, 3]).await.refused(409, "seats_unavailable");
    assert_eq!(refused.body["unavailable"], json!([3]));
    server.take(&ben, event, &[4, 5]).await.refused(409, "seats_unavailable");
    assert_eq!(seats(&server, event).await["version"], version, "a refusal changes nothing");

    let renewed = renew(&server, &ana, event, &token).await.expect(200);
    assert_eq!(renewed.body["renewals_left"], 4);
    renew(&server, &ben, event, &token).await.refused(409, "hold_expired");
    release(&server, &ben, event, &token).await.refused(409, "hold_expired");
    book(&server, &ben, event, &[3, 4], &token).await.refused(409, "hold_expired");
    book(&server, &ana, event, &[4, 5], &token).await.refused(409, "hold_expired");

    let booked = book(&server, &ana, event, &[3], &token).await.expect(201);
    assert_eq!(booked.body["seat_numbers"], json!([3]));
    let delta = ear.next().await;
    assert_eq!(delta, json!({"v": version + 1, "taken": [3], "available": 8, "total": 10}));
    release(&server, &ana, event, &token).await.expect(204);
    release(&server, &ana, event, &token).await.expect(204);
    let delta = ear.next().await;
    assert_eq!(delta, json!({"v": version + 2, "released": [4], "available": 9, "total": 10}));
    renew(&server, &ana, event, &token).await.refused(409, "hold_expired");

    server.cancel(&ana, &booked.body["id"], json!(null)).await.expect(200);
    let delta = ear.next().await;
    assert_eq!(delta, json!({"v": version + 3, "freed": [3], "available": 10, "total": 10}));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_hold_is_told_without_any_traffic() {
    let server = Wishes::default().set("HAPPENING__HOLDS__TTL_MS", "400").start().await;
    let (_, event) = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    let held = hold(&server, &ana, event, &[7]).await.expect(201);
    let token = held.str("hold_token");
    let mut ear = Ear::open(&server, event).await;
    let delta = ear.next().await;
    assert_eq!(delta["released"], json!([7]));
    assert_eq!(delta["lost"], json!({ token.as_str(): [7] }));
    assert_eq!(delta["available"], 10);
    book(&server, &ana, event, &[7], &token).await.refused(409, "hold_expired");
    let mut redis = server.redis();
    let left: Vec<String> =
        redis::cmd("KEYS").arg(format!("*{token}*")).query_async(&mut redis).await.unwrap();
    assert_eq!(left, Vec::<String>::new(), "nothing of the token is left");
    eventually(TOLD, || async {
        let events: u32 =
            redis::cmd("ZCARD").arg("holds:events").query_async(&mut redis.clone()).await.unwrap();
        if events == 0 { Ok(()) } else { Err("the event is still looked at".to_owned()) }
    })
    .await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_bound_what_is_held_at_once() {
    let server = Wishes::default()
        .set("HAPPENING__HOLDS__PER_ADDRESS_MAX", "5")
        .set("HAPPENING__LIMITS__EXEMPT_LOOPBACK", "false")
        .set("HAPPENING__LIMITS__ADDRESS_BURST", "100000")
        .set("HAPPENING__HTTP__TRUSTED_PROXIES", "127.0.0.1")
        .start()
        .await;
    let (_, event) = hall(&server, 10, json!({"max_seats_per_booking": 4})).await;
    let people = server.people(6).await;
    let from = async |n: usize, address: &str, seats: &[u32]| {
        let ask = server.call("POST", &format!("/events/{event}/holds")).bearer(&people[n].token);
        let ask = ask.header("x-forwarded-for", address);
        ask.json(json!({"seat_numbers": seats})).send().await
    };
    from(0, "1.1.1.1", &[1, 2, 3]).await.expect(201);
    from(0, "1.1.1.1", &[4, 5]).await.refused(409, "hold_limit_user");
    from(0, "2.2.2.2", &[4, 5]).await.refused(409, "hold_limit_user");
    from(0, "1.1.1.1", &[1, 2, 3, 4, 5]).await.invalid(&["/seat_numbers"]);
    from(1, "1.1.1.1", &[4, 5, 6]).await.refused(409, "hold_limit_address");
    let two = from(1, "1.1.1.1", &[4, 5]).await.expect(201).str("hold_token");
    from(2, "2.2.2.2", &[6, 7, 8]).await.expect(201);
    // Nine of ten: somebody who does not hold can still buy.
    from(3, "3.3.3.3", &[9, 10]).await.refused(409, "hold_limit_event");
    from(3, "3.3.3.3", &[9]).await.expect(201);
    release(&server, &people[1], event, &two).await.expect(204);
    from(4, "1.1.1.1", &[4, 5]).await.expect(201);
    server.take(&people[5], event, &[10]).await.expect(201);
    let shown = seats(&server, event).await;
    assert_eq!((&shown["available"], &shown["taken"]), (&json!(0), &json!([10])));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_renewed_only_so_often_and_grows_only_so_old() {
    let server = Wishes::default()
        .set("HAPPENING__HOLDS__RENEWALS_MAX", "2")
        .set("HAPPENING__HOLDS__TTL_MS", "60000")
        .set("HAPPENING__HOLDS__AGE_MAX_MS", "60500")
        .start()
        .await;
    let (_, event) = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    let held = hold(&server, &ana, event, &[1]).await.expect(201);
    let token = held.str("hold_token");
    let since = time(&held.body["server_time"]);
    let mut last = time(&held.body["expires_at"]);
    let mut renewed = 0;
    let refused = eventually(TOLD, || async {
        let reply = renew(&server, &ana, event, &token).await;
        if reply.status == 409 { Ok(reply) } else { Err(reply.text) }
    })
    .await;
    refused.refused(409, "renewals_exhausted");
    let seen = hold_of(&server, event, 1).await;
    assert!(seen.is_some(), "it stands until it expires");
    let other = hold(&server, &ana, event, &[2]).await.expect(201).str("hold_token");
    while let Ok(reply) = renewal(&server, &ana, event, &other).await {
        let until = time(&reply.body["expires_at"]);
        assert!(until >= last, "a renewal never shortens");
        last = until;
        renewed += 1;
    }
    assert!(renewed <= 2);
    let age = last.as_millisecond() - since.as_millisecond();
    assert!(age < 120_000, "{age} ms");
    server.finish().await;
}

async fn renewal(
    server: &TestServer,
    by: &Person,
    event: Uuid,
    token: &str,
) -> Result<Reply, Reply> {
    let reply = renew(server, by, event, token).await;
    if reply.status == 200 { Ok(reply) } else { Err(reply.refused(409, "renewals_exhausted")) }
}

/// Whose a seat is, as the documented key says (S4.10).
async fn hold_of(server: &TestServer, event: Uuid, seat: u32) -> Option<String> {
    let key = format!("event:{{{event}}}:hold:{seat}");
    redis::cmd("GET").arg(key).query_async(&mut server.redis()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_or_another_redis_voids_what_was_held() {
    let server = TestServer::start().await;
    let (_, event) = hall(&server, 10, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let token = hold(&server, &ana, event, &[1, 2]).await.expect(201).str("hold_token");
    let before = seats(&server, event).await["version"].as_i64().unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut server.redis()).await.unwrap();
    // In whatever order they come: who held has nothing, and the seats are free at once.
    book(&server, &ana, event, &[1, 2], &token).await.refused(409, "hold_expired");
    renew(&server, &ana, event, &token).await.refused(409, "hold_expired");
    let other = hold(&server, &ben, event, &[2, 3]).await.expect(201).str("hold_token");
    book(&server, &ana, event, &[1, 2], &token).await.refused(409, "hold_expired");
    let shown = seats(&server, event).await;
    assert_eq!(shown["held"], json!([2, 3]));
    assert!(shown["version"].as_i64().unwrap() > before, "a new epoch");
    book(&server, &ben, event, &[2, 3], &other).await.expect(201);

    // The old dump comes back: whatever it says belongs to another epoch.
    let mut redis = server.redis();
    let token = hold(&server, &ana, event, &[5]).await.expect(201).str("hold_token");
    let state = format!("event:{{{event}}}:state");
    redis::cmd("HSET").arg(&state).arg("epoch").arg(1).exec_async(&mut redis).await.unwrap();
    book(&server, &ana, event, &[5], &token).await.refused(409, "hold_expired");
    hold(&server, &ben, event, &[5]).await.expect(201);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_taken_once_per_key() {
    let mut server = TestServer::start().await;
    let (other, _) = server.another().await;
    let (_, event) = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    let ask = |client: &Client, body: Value| {
        let ask = client.call("POST", &format!("/events/{event}/holds")).bearer(&ana.token);
        ask.key("one").json(body).send()
    };
    let body = json!({"best_available": {"count": 2}});
    let (one, two) = tokio::join!(ask(server.client(), body.clone()), ask(&other, body.clone()));
    assert_eq!((one.status, two.status), (201, 201), "{} {}", one.text, two.text);
    assert_eq!(one.body["hold_token"], two.body["hold_token"]);
    let again = ask(&other, body.clone()).await.expect(201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert!(again.header("location").ends_with(&again.str("hold_token")));
    assert_eq!(again.body["hold_token"], one.body["hold_token"]);
    ask(&other, json!({"seat_numbers": [1]})).await.refused(422, "idempotency_mismatch");
    assert_eq!(seats(&server, event).await["held"], json!([1, 2]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_choose_gets_nothing_that_is_held_and_waits_if_the_rest_is_too_little() {
    let server = Wishes::default().set("HAPPENING__HOLDS__TTL_MS", "30000").start().await;
    let (_, event) = hall(&server, 6, json!({})).await;
    let people = server.people(4).await;
    let (ana, ben, cem, dora) = (&people[0], &people[1], &people[2], &people[3]);
    let token = hold(&server, ana, event, &[1, 3]).await.expect(201).str("hold_token");
    let two = server.book(ben, event, 2).await.expect(201);
    assert_eq!(two.body["seat_numbers"], json!([2, 4]));
    // Two are left that nobody holds: three do not fit, and nothing else can be held from now on.
    let refused = json!({"event_id": event, "seats": 3, "waitlist": false});
    server.booking(cem, refused).send().await.refused(409, "sold_out");
    let waiting = server.book(cem, event, 3).await.expect(201);
    assert_eq!(waiting.body["status"], "waitlisted");
    eventually(TOLD, || async {
        let reply = hold(&server, dora, event, &[6]).await;
        if reply.status == 409 { Ok(()) } else { Err(reply.text) }
    })
    .await;
    // Who held before the others began to wait, has what they hold.
    let booked = book(&server, ana, event, &[1, 3], &token).await.expect(201);
    assert_eq!(
        (&booked.body["status"], &booked.body["seat_numbers"]),
        (&json!("confirmed"), &json!([1, 3]))
    );
    // What comes back goes to the head of the queue.
    server.cancel(ben, &two.body["id"], json!(null)).await.expect(200);
    let seen = server.call("GET", &format!("/bookings/{}", waiting.str("id"))).bearer(&cem.token);
    assert_eq!(seen.send().await.expect(200).body["seat_numbers"], json!([2, 4, 5]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotions_go_around_what_is_held_and_a_released_seat_serves_the_queue() {
    let server = TestServer::start().await;
    let (organizer, event) = hall(&server, 4, json!({})).await;
    let people = server.people(4).await;
    let all = server.take(&people[0], event, &[1, 4]).await.expect(201);
    let token = hold(&server, &people[1], event, &[2]).await.expect(201).str("hold_token");
    let waiting = server.book(&people[2], event, 2).await.expect(201);
    assert_eq!(waiting.body["status"], "waitlisted", "one is held, one is left");
    server.cancel(&people[0], &all.body["id"], json!({"seat_numbers": [1]})).await.expect(200);
    let path = format!("/bookings/{}", waiting.str("id"));
    let seen = async || {
        let ask = server.call("GET", &path).bearer(&people[2].token);
        ask.send().await.expect(200).body["seat_numbers"].clone()
    };
    assert_eq!(seen().await, json!([1, 3]), "not 2, which is held");
    let next = server.book(&people[3], event, 1).await.expect(201);
    assert_eq!(next.body["status"], "waitlisted");
    release(&server, &people[1], event, &token).await.expect(204);
    let path = format!("/bookings/{}", next.str("id"));
    eventually(Duration::from_secs(15), || async {
        let ask = server.call("GET", &path).bearer(&people[3].token);
        let body = ask.send().await.expect(200).body;
        if body["seat_numbers"] == json!([2]) { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    server.patch(&organizer, event, json!({"capacity": 6})).await.expect(200);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_or_smaller_event_lets_holds_go() {
    let server = TestServer::start().await;
    let (organizer, event) = hall(&server, 10, json!({})).await;
    let people = server.people(2).await;
    let token = hold(&server, &people[0], event, &[2, 9]).await.expect(201).str("hold_token");
    let mut ear = Ear::open(&server, event).await;
    server.patch(&organizer, event, json!({"capacity": 8})).await.expect(200);
    let delta = ear.next().await;
    assert_eq!((&delta["released"], &delta["lost"]), (&json!([9]), &json!({token.as_str(): [9]})));
    assert_eq!((&delta["available"], &delta["total"]), (&json!(7), &json!(8)));
    let above = hold(&server, &people[1], event, &[9]).await;
    assert!(matches!(above.status, 409 | 422), "{}", above.text);
    let path = format!("/events/{event}/cancel");
    server.call("POST", &path).bearer(&organizer.person.token).send().await.expect(200);
    let delta = ear.next().await;
    assert_eq!((&delta["released"], &delta["lost"]), (&json!([2]), &json!({token.as_str(): [2]})));
    hold(&server, &people[1], event, &[3]).await.refused(409, "event_not_open");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_outlives_its_sessions_for_a_short_grace() {
    use happening::app::holds::{HoldToken, Owner, attend, take};
    use happening::domain::ids::{EventId, UserId};
    let server = Wishes::default().set("HAPPENING__HOLDS__GRACE_MS", "700").start().await;
    let (_, event) = hall(&server, 10, json!({})).await;
    let (ana, app) = (server.person().await, server.app().clone());
    let id = EventId(event);
    let owner = |session: &str| Owner {
        user: UserId(ana.id),
        address: None,
        session: Some(session.to_owned()),
    };
    let token = HoldToken::parse(&app.ids.secret()).unwrap();
    let first = take::set(&app, &owner("a"), id, &token, &[1, 2]).await.unwrap();
    // The wanted set changes: one goes, one comes, one stays.
    let held = take::set(&app, &owner("a"), id, &token, &[2, 3]).await.unwrap();
    assert_eq!(held.seats, [2, 3]);
    assert!(held.expires_at >= first.expires_at);
    // It comes back on another connection before the first one is known to be gone.
    attend::resume(&app, &owner("b"), id, &token).await.unwrap();
    attend::park(&app, &owner("a"), id, &token).await.unwrap();
    let still = attend::resume(&app, &owner("b"), id, &token).await.unwrap().unwrap();
    assert_eq!(still.expires_at, held.expires_at, "the other one is there");
    // The last one goes, and comes back in time.
    attend::park(&app, &owner("b"), id, &token).await.unwrap();
    let back = attend::resume(&app, &owner("c"), id, &token).await.unwrap().unwrap();
    assert_eq!((back.expires_at, &back.seats), (held.expires_at, &vec![2, 3]));
    // It goes, and does not come back.
    let mut ear = Ear::open(&server, event).await;
    attend::park(&app, &owner("c"), id, &token).await.unwrap();
    let delta = ear.next().await;
    assert_eq!(delta["released"], json!([2, 3]));
    assert_eq!(attend::resume(&app, &owner("c"), id, &token).await.unwrap(), None);
    // None wanted: nothing is held.
    take::set(&app, &owner("a"), id, &token, &[7]).await.unwrap();
    assert_eq!(take::set(&app, &owner("a"), id, &token, &[]).await.unwrap().seats, [0_u32; 0]);
    assert_eq!(seats(&server, event).await["held"], json!([]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_lets_one_person_in_once_at_whichever_process() {
    use happening::app::accounts::tickets;
    let mut server = TestServer::start().await;
    let (_, other) = server.another().await;
    let ana = server.person().await;
    let ask = || server.call("POST", "/ws-tickets").bearer(&ana.token).send();
    let ticket = ask().await.expect(201);
    assert_eq!(ticket.body["expires_in"], 30);
    let ticket = ticket.str("ticket");
    let (here, there) =
        tokio::join!(tickets::redeem(server.app(), &ticket), tickets::redeem(&other, &ticket));
    let let_in: Vec<_> = [here, there].into_iter().flatten().collect();
    assert_eq!(let_in.len(), 1);
    assert_eq!(let_in[0].user_id.0, ana.id);
    for bad in ["", "x", ticket.as_str(), "../..", "\u{0}"] {
        assert!(tickets::redeem(&other, bad).await.is_err(), "{bad:?}");
    }
    server.call("POST", "/ws-tickets").send().await.refused(401, "unauthenticated");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_wishes_are_refused_and_change_nothing() {
    let server = TestServer::start().await;
    let (organizer, event) = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    let path = format!("/events/{event}/holds");
    let ask =
        async |body: Value| server.call("POST", &path).bearer(&ana.token).json(body).send().await;
    let version = seats(&server, event).await["version"].clone();
    for (body, pointers) in [
        (json!({}), vec!["/seat_numbers"]),
        (json!({"seat_numbers": []}), vec!["/seat_numbers"]),
        (json!({"seat_numbers": [0]}), vec!["/seat_numbers/0"]),
        (json!({"seat_numbers": [1, -1]}), vec!["/seat_numbers/1"]),
        (json!({"seat_numbers": [1, 1]}), vec!["/seat_numbers"]),
        (json!({"seat_numbers": [11]}), vec!["/seat_numbers"]),
        (json!({"seat_numbers": [1], "best_available": {"count": 1}}), vec!["/best_available"]),
        (json!({"best_available": {"count": -1}}), vec!["/best_available/count"]),
        (json!({"best_available": {"count": 11}}), vec!["/best_available/count"]),
        (
            json!({"best_available": {"count": 1, "category": "x"}}),
            vec!["/best_available/category"],
        ),
    ] {
        ask(body).await.invalid(&pointers);
    }
    for token in ["x", "%00", "a%22b", &"a".repeat(43), &"a".repeat(300)] {
        renew(&server, &ana, event, token).await.refused(409, "hold_expired");
        release(&server, &ana, event, token).await.expect(204);
    }
    server
        .call("POST", &path)
        .json(json!({"seat_numbers": [1]}))
        .send()
        .await
        .refused(401, "unauthenticated");
    assert_eq!(seats(&server, event).await["version"], version);
    let general = server.event(&organizer, json!({})).await;
    hold(&server, &ana, general, &[1]).await.invalid(&["/seat_numbers"]);
    let draft = server.draft(&organizer, json!({"seating": "numbered"})).await;
    hold(&server, &ana, draft, &[1]).await.refused(404, "not_found");
    server.publish(&organizer, draft).await.expect(200);
    hold(&server, &ana, draft, &[1]).await.expect(201);
    let later = crate::harness::in_days(server.clock(), 5);
    let (_, closed) = hall(&server, 10, json!({"sales_open_at": later})).await;
    hold(&server, &ana, closed, &[1]).await.refused(409, "sales_closed");
    server.take(&ana, event, &[4]).await.expect(201);
    let refused = hold(&server, &ana, event, &[3, 4]).await.refused(409, "seats_unavailable");
    assert_eq!(refused.body["unavailable"], json!([4]));
    server.finish().await;
}
