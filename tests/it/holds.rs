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
