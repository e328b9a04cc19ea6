//! Redis against PostgreSQL: drift is seen, told and mended, by the reconciler and by hand.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestServer, Wishes};
use crate::support::client::Reply;
use crate::support::{eventually, truth};

async fn lie(server: &TestServer, event: Uuid, slots: i64) {
    let key = format!("event:{{{event}}}:slots");
    redis::cmd("SET").arg(key).arg(slots).exec_async(&mut server.redis()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_mended_within_seconds_and_sells_nothing_twice_meanwhile() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 2})).await;
    let people = server.people(5).await;
    for person in &people[..3] {
        server.book(person, event, 1).await.expect(201);
    }
    truth::redis_agrees(server.pg(), &server.redis()).await;
    // Too many: whoever is let through is refused by PostgreSQL.
    lie(&server, event, 100).await;
    let body = json!({"event_id": event, "seats": 1, "waitlist": false});
    server.booking(&people[3], body).send().await.refused(409, "sold_out");
    truth::redis_agrees(server.pg(), &server.redis()).await;
    // A queue that lost its head, gained strangers, or is gone.
    let list = format!("event:{{{event}}}:waitlist");
    for change in ["LPOP", "RPUSH", "DEL"] {
        let mut command = redis::cmd(change);
        command.arg(&list);
        if change == "RPUSH" {
            command.arg("a stranger");
        }
        command.exec_async(&mut server.redis()).await.unwrap();
        truth::redis_agrees(server.pg(), &server.redis()).await;
    }
    redis::cmd("FLUSHALL").exec_async(&mut server.redis()).await.unwrap();
    truth::redis_agrees(server.pg(), &server.redis()).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_drift_and_mends_it() {
    let rare = Wishes::default().set("HAPPENING__RECONCILER__TICK_MS", "3600000");
    let server = rare.start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 7})).await;
    let (ana, admin) = (server.person().await, server.admin().await);
    server.book(&ana, event, 2).await.expect(201);
    truth::redis_agrees(server.pg(), &server.redis()).await;
    let ask = |method: &str, path: &str| server.call(method, path).bearer(&admin.token).send();
    let look = || ask("GET", "/admin/integrity");
    let clean = look().await.expect(200).body;
    assert_eq!((&clean["healthy"], &clean["drifts"]), (&json!(true), &json!([])), "{clean}");
    lie(&server, event, 99).await;
    let drift = look().await.expect(200).body;
    assert_eq!((&drift["healthy"], &drift["repaired"]), (&json!(false), &json!(0)));
    let one = &drift["drifts"][0];
    assert_eq!(one["event_id"], json!(event));
    assert_eq!((&one["available_slots"], &one["shown_slots"]), (&json!(5), &json!(99)));
    let mended: Reply = ask("POST", "/admin/integrity/repair").await.expect(200);
    assert_eq!((&mended.body["healthy"], &mended.body["repaired"]), (&json!(true), &json!(1)));
    assert_eq!(look().await.expect(200).body["healthy"], true);

    // Sold seats are compared one by one: as many, but others.
    let hall = server.event(&organizer, json!({"seating": "numbered"})).await;
    server.take(&ana, hall, &[4, 7]).await.expect(201);
    truth::redis_agrees(server.pg(), &server.redis()).await;
    let taken = format!("event:{{{hall}}}:taken");
    for (seat, bit) in [(7, 0), (8, 1)] {
        let mut set = redis::cmd("SETBIT");
        set.arg(&taken).arg(seat).arg(bit).exec_async(&mut server.redis()).await.unwrap();
    }
    let drift = look().await.expect(200).body;
    assert_eq!(drift["drifts"][0]["event_id"], json!(hall), "{drift}");
    assert_eq!(drift["drifts"][0]["seats_sold"], drift["drifts"][0]["shown_seats_sold"]);
    ask("POST", "/admin/integrity/repair").await.expect(200);
    assert_eq!(look().await.expect(200).body["healthy"], true);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_person_can_judge_is_told_and_left_alone() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, admin) = (server.person().await, server.admin().await);
    server.book(&ana, event, 2).await.expect(201);
    server.check().await;
    let seats = async |seats: i32| {
        server.pg().execute("UPDATE bookings SET seats = $1", &[&seats]).await.unwrap();
    };
    seats(3).await;
    let told = eventually(Duration::from_secs(5), || async {
        let path = "/admin/integrity/repair";
        let report = server.call("POST", path).bearer(&admin.token).send().await.expect(200).body;
        if report["contradictions"] == json!([]) { Err(report.to_string()) } else { Ok(report) }
    })
    .await;
    assert_eq!(
        (&told["healthy"], &told["contradictions"][0]["event_id"]),
        (&json!(false), &json!(event))
    );
    assert_ne!(told["contradictions"][0]["detail"], Value::Null);
    assert_eq!(server.count("SELECT seats::bigint FROM bookings").await, 3, "nothing was touched");
    seats(2).await;
    server.finish().await;
}

/// Whoever settles bookings shows them, whether or not the same process reconciles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_workers_believes_redis_too() {
    let server = Wishes::default().without_loops().start().await;
    eventually(Duration::from_secs(5), || async {
        let trusted = server.app().redis.link.trusted();
        trusted.map(drop).ok_or_else(|| "Redis is not believed".to_owned())
    })
    .await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 3})).await;
    let person = server.person().await;
    server.book(&person, event, 2).await.expect(201);
    server.book(&person, event, 2).await.expect(201);
    truth::redis_agrees(server.pg(), &server.redis()).await;
    server.finish().await;
}
