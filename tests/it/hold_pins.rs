//! Seats on their way from one owner to the next: while they are being booked nobody else gets
//! them, and when they are let go whoever waits for them does.

use std::time::Duration;

use happening::actors::Actor as _;
use happening::actors::hold_sweeper::HoldSweeper;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::people::Person;
use crate::harness::{TestServer, Wishes, spawn};
use crate::sockets::{SOON, hall};
use crate::support::client::{Client, Reply};
use crate::support::eventually;

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

async fn hold(at: &impl AsRef<Client>, by: &Person, event: Uuid, seats: &[u32]) -> Reply {
    let ask = at.as_ref().call("POST", &format!("/events/{event}/holds")).bearer(&by.token);
    ask.json(json!({"seat_numbers": seats})).send().await
}

async fn release(at: &impl AsRef<Client>, by: &Person, event: Uuid, token: &str) -> Reply {
    let path = format!("/events/{event}/holds/{token}");
    at.as_ref().call("DELETE", &path).bearer(&by.token).send().await
}

async fn held(at: &impl AsRef<Client>, event: Uuid) -> Value {
    let path = format!("/events/{event}/seats");
    at.as_ref().call("GET", &path).send().await.expect(200).body["held"].clone()
}

/// A booking is between the gate and its commit: somebody else has the event's row, and nothing is
/// decided until they let it go. How often this is tried has nothing to do with luck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_seat_that_is_being_booked() {
    let mut server = Wishes::default()
        .set("HAPPENING__HOLDS__TTL_MS", "400")
        .set("HAPPENING__POSTGRES__LOCK_TIMEOUT_MS", "60000")
        .set("HAPPENING__POSTGRES__STATEMENT_TIMEOUT_MS", "60000")
        .set("HAPPENING__BOOKING__ANSWER_TIMEOUT_MS", "60000")
        .start()
        .await;
    let (other, _) = server.another().await;
    let event = hall(&server, 6, json!({})).await;
    let [ana, ben, eve] = [(); 3].map(|()| server.person());
    let (ana, ben, eve) = tokio::join!(ana, ben, eve);
    // Somebody who lets go while their seat is being booked.
    let let_go = hold(&server, &ben, event, &[2]).await.expect(201).str("hold_token");
    let first = hold(&server, &ana, event, &[3]).await.expect(201).str("hold_token");

    server.pg().batch_execute("BEGIN").await.unwrap();
    server.pg().query("SELECT FROM events WHERE id = $1 FOR UPDATE", &[&event]).await.unwrap();
    let book = |by: &Person, body: Value| {
        let ask = server.call("POST", "/bookings").bearer(&by.token).json(body);
        spawn(ask.send())
    };
    let converting = json!({"event_id": event, "seat_numbers": [3], "hold_token": first});
    let leaving = json!({"event_id": event, "seat_numbers": [2], "hold_token": let_go});
    let choosing = json!({"event_id": event, "seat_numbers": [5]});
    let any = json!({"event_id": event, "seats": 1});
    // One after the other: each is through the gate before the next one comes.
    let mut bookings = Vec::new();
    for (by, body) in [(&ana, converting), (&ben, leaving), (&ana, choosing), (&ben, any)] {
        let through = through_the_gate(&server).await;
        bookings.push(book(by, body));
        eventually(SOON, || async {
            let now = through_the_gate(&server).await;
            if now > through { Ok(()) } else { Err(format!("{now} are through the gate")) }
        })
        .await;
    }
    eventually(SOON, || async {
        let waiting = server.count(WAITING).await;
        if waiting > 0 { Ok(()) } else { Err("nobody waits for the row".to_owned()) }
    })
    .await;
    release(&server, &ben, event, &let_go).await.expect(204);
    // Longer than any of the holds lives, and long enough for sweepers to come by.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // 1 is the lowest free seat: it is kept for who did not choose.
    for seat in [1, 2, 3, 5] {
        for at in [server.client(), &other] {
            hold(at, &eve, event, &[seat]).await.refused(409, "seats_unavailable");
        }
    }
    let others = hold(&other, &eve, event, &[4, 6]).await.expect(201);
    release(&other, &eve, event, &others.str("hold_token")).await.expect(204);
    server.pg().batch_execute("COMMIT").await.unwrap();
    let mut seats = Vec::new();
    for booking in bookings {
        let booked = booking.await.unwrap().expect(201);
        seats.extend(booked.body["seat_numbers"].as_array().unwrap().clone());
    }
    assert_eq!(seats, [3, 2, 5, 1].map(Value::from));
    server.finish().await;
}

/// How many requests the gate has let through.
async fn through_the_gate(server: &TestServer) -> f64 {
    let metrics = server.root("GET", "/metrics").send().await.expect(200).text;
    let lines = metrics.lines().filter(|line| line.starts_with("gate_requests_total"));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// The sweeper of the waitlists sleeps: whoever waits is served by what ends the hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_gets_what_is_let_go_or_runs_out() {
    let server = Wishes::default()
        .set("HAPPENING__HOLDS__TTL_MS", "700")
        .set("HAPPENING__HOLDS__PER_EVENT_PERCENT", "100")
        .without_loops()
        .start()
        .await;
    for let_go in [true, false] {
        let event = hall(&server, 2, json!({})).await;
        let (ana, ben) = (server.person().await, server.person().await);
        let token = hold(&server, &ana, event, &[1, 2]).await.expect(201).str("hold_token");
        let waiting = server.book(&ben, event, 2).await.expect(201).body;
        assert_eq!(waiting["status"], "waitlisted");
        if let_go {
            release(&server, &ana, event, &token).await.expect(204);
        }
        eventually(SOON, || async {
            let mut sweeper = HoldSweeper { app: server.app().clone() };
            sweeper.step().await.map_err(|error| error.to_string())?;
            let path = format!("/bookings/{}", waiting["id"].as_str().unwrap());
            let now = server.call("GET", &path).bearer(&ben.token).send().await.expect(200).body;
            let served = now["status"] == "confirmed" && now["seat_numbers"] == json!([1, 2]);
            if served { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
        assert_eq!(held(&server, event).await, json!([]));
    }
    server.finish().await;
}
