//! What operators do about letters beyond sending one again: many at a rate, edited copies, letters
//! that keep dying, and those that nobody needs.

use std::time::Duration;

use happening::app::messages::dead_letters::DeadLetters;
use happening::clock::{Clock, Ids};
use happening::domain::ids::{MessageId, RedriveId};
use jiff::SignedDuration;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::people::Person;
use crate::harness::{TestServer, Wishes, id};
use crate::support::client::Ask;
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(15);
const AWAY: &[(&str, &str)] =
    &[("REDIS_URL", "redis://127.0.0.1:9"), ("RABBITMQ_URL", "amqp://x:x@127.0.0.1:9")];

/// A letter that died in a service.
async fn letter(server: &TestServer, source: &str, kind: &str, payload: &str) -> Uuid {
    let (id, message) = (Ids.uuid(), Ids.uuid());
    letter_of(server, id, message, source, kind, payload).await;
    id
}

async fn letter_of(
    server: &TestServer,
    id: Uuid,
    message: Uuid,
    source: &str,
    kind: &str,
    payload: &str,
) {
    let insert = "INSERT INTO dead_letters (id, source, message_id, type, payload, reason,
            fingerprint, attempts, died_at)
        VALUES ($1, $2, $3, $4, $5, 'cannot be written', 'f', 3, $6)";
    let (message, now) = (message.to_string(), server.clock().now());
    server
        .pg()
        .execute(insert, &[&id, &source, &message, &kind, &payload, &now])
        .await
        .expect("a letter");
}

/// A notification that nobody is to be told of any more.
fn notice() -> String {
    json!({"type": "event_cancelled", "eventId": Ids.uuid(), "userId": Ids.uuid(), "seats": 1})
        .to_string()
}

fn interest(state: &str) -> Value {
    json!({"eventId": Ids.uuid(), "userId": Ids.uuid(), "state": state, "previous": null,
        "privacy": "public", "version": 1})
}

fn admin(server: &TestServer, by: &Person, method: &str, path: &str) -> Ask {
    server.call(method, &format!("/admin/dead-letters{path}")).bearer(&by.token)
}

async fn stopped() -> (TestServer, Person) {
    let clock = Clock::manual("2026-03-01T10:00:00Z".parse().unwrap());
    let server = Wishes::default().clock(&clock).without_loops().start().await;
    let by = server.admin().await;
    (server, by)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_keeps_to_its_rate_and_tells_how_far_it_is() {
    let (server, by) = stopped().await;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(letter(&server, "inbox-service", "event_cancelled", &notice()).await);
    }
    let poison = letter(&server, "inbox-service", "event_cancelled", "not JSON").await;
    let rate = json!({"filter": {"type": "event_cancelled"}, "rate_per_second": 5});
    let begun = admin(&server, &by, "POST", "/redrive").json(rate).send().await.expect(200).body;
    assert_eq!((&begun["matched"], &begun["redriven"]), (&json!(13), &json!(5)));
    assert_eq!((&begun["state"], &begun["dry_run"]), (&json!("running"), &json!(false)));
    // The oldest go first.
    assert_eq!(begun["ids"], json!(ids[..5]));
    let (letters, job) = (DeadLetters::from(server.app()), RedriveId(id(&begun["id"])));
    let told = async || {
        let job = admin(&server, &by, "GET", &format!("/redrives/{job}")).send().await;
        let job = job.expect(200).body;
        (job["state"].as_str().unwrap().to_owned(), job["redriven"].clone())
    };
    // Time stands still: nothing more is allowed, however often it is stepped.
    letters.step_all().await.unwrap();
    assert_eq!(told().await, ("running".to_owned(), json!(5)));
    server.clock().advance(SignedDuration::from_millis(400));
    letters.step_all().await.unwrap();
    letters.step_all().await.unwrap();
    assert_eq!(told().await, ("running".to_owned(), json!(7)));
    // What died after it began is not its affair.
    server.clock().advance(SignedDuration::from_secs(60));
    let late = letter(&server, "inbox-service", "event_cancelled", &notice()).await;
    letters.step_all().await.unwrap();
    assert_eq!(told().await, ("running".to_owned(), json!(12)));
    server.clock().advance(SignedDuration::from_secs(1));
    letters.step_all().await.unwrap();
    assert_eq!(told().await, ("done".to_owned(), json!(12)));
    let job = admin(&server, &by, "GET", &format!("/redrives/{job}")).send().await.body;
    assert_eq!((&job["refused"], &job["created_by"]), (&json!(1), &json!(by.id)));
    assert!(job["refusals"][poison.to_string()].as_str().unwrap().contains("not JSON"), "{job}");
    let open = admin(&server, &by, "GET", "").send().await.expect(200);
    let open: Vec<_> = open.items().iter().map(|one| id(&one["id"])).collect();
    assert_eq!(open, [late, poison]);
    assert_eq!(server.count("SELECT count(*) FROM outbox").await, 12);
    let audit = "SELECT count(*) FROM audit_log WHERE action = 'dead_letter.redriven'";
    assert_eq!(server.count(audit).await, 12);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_can_be_ended_and_letters_be_named_one_by_one() {
    let (server, by) = stopped().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(letter(&server, "inbox-service", "event_cancelled", &notice()).await);
    }
    // An empty selection is no selection of all.
    let none = json!({"filter": {"ids": []}});
    let none = admin(&server, &by, "POST", "/redrive").json(none).send().await;
    none.invalid(&["/filter/ids"]);
    let two = json!({"filter": {"ids": [ids[1], ids[3], Ids.uuid()]}});
    let ask = || admin(&server, &by, "POST", "/redrive").header("idempotency-key", "k");
    let done = ask().json(two.clone()).send().await.expect(200).body;
    assert_eq!((&done["ids"], &done["state"]), (&json!([ids[1], ids[3]]), &json!("done")));
    // The answer got lost: asking again begins no second job.
    let again = ask().json(two).send().await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), &again.body), ("true", &done));
    assert_eq!(server.count("SELECT count(*) FROM redrives").await, 1);
    let slow = json!({"rate_per_second": 1});
    let begun = admin(&server, &by, "POST", "/redrive").json(slow).send().await.expect(200).body;
    assert_eq!((&begun["redriven"], &begun["state"]), (&json!(1), &json!("running")));
    let path = format!("/redrives/{}", begun["id"].as_str().unwrap());
    let ended = admin(&server, &by, "DELETE", &path).send().await.expect(200).body;
    assert_eq!(ended["state"], "cancelled");
    let again = admin(&server, &by, "DELETE", &path).send().await.expect(200).body;
    assert_eq!(again, ended);
    server.clock().advance(SignedDuration::from_secs(10));
    DeadLetters::from(server.app()).step_all().await.unwrap();
    assert_eq!(
        server.count("SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL").await,
        2
    );
    let list = admin(&server, &by, "GET", "/redrives").send().await.expect(200);
    let states: Vec<_> = list.items().iter().map(|job| job["state"].clone()).collect();
    assert_eq!(states, ["cancelled", "done"]);
    let nowhere = format!("/redrives/{}", Ids.uuid());
    admin(&server, &by, "GET", &nowhere).send().await.refused(404, "not_found");
    admin(&server, &by, "DELETE", &nowhere).send().await.refused(404, "not_found");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_goes_on_with_what_somebody_began_elsewhere() {
    let server = TestServer::start().await;
    for _ in 0..30 {
        letter(&server, "inbox-service", "event_cancelled", &notice()).await;
    }
    let run = async |args: &[&str]| {
        let args: Vec<&str> = ["dead-letters"].iter().chain(args).copied().collect();
        server.command(&args, AWAY).await
    };
    assert_eq!(run(&["progress"]).await.well(), "there are none\n");
    let begun = run(&["redrive", "--all", "--rate", "20", "--detach"]).await.well();
    let job = begun.split_whitespace().next().unwrap().to_owned();
    eventually(SOON, || async {
        let told = run(&["progress", &job]).await.well();
        let over = told.contains("done  30 sent, 0 refused of 30");
        if over { Ok(()) } else { Err(told) }
    })
    .await;
    eventually(SOON, || async {
        let sent = server.count("SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL").await;
        if sent == 30 { Ok(()) } else { Err(format!("{sent} sent")) }
    })
    .await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_keeps_dying_needs_force() {
    let (server, by) = stopped().await;
    let one = letter(&server, "inbox-service", "event_cancelled", &notice()).await;
    let often = format!("UPDATE dead_letters SET redrives = 5 WHERE id = '{one}'");
    server.pg().batch_execute(&often).await.unwrap();
    let path = format!("/{one}/redrive");
    let post = |body: Value| admin(&server, &by, "POST", &path).json(body).send();
    for body in [json!({}), json!({"dry_run": true})] {
        let refused = post(body).await.refused(422, "invalid");
        assert_eq!(refused.body["errors"][0]["code"], "redrive_loop");
    }
    let all = admin(&server, &by, "POST", "/redrive").json(json!({})).send().await.expect(200).body;
    assert_eq!((&all["redriven"], &all["matched"]), (&json!(0), &json!(1)));
    let would = post(json!({"dry_run": true, "force": true})).await.expect(200).body;
    assert_eq!((&would["state"], &would["redrives"]), (&json!("open"), &json!(5)));
    assert_eq!(server.count("SELECT count(*) FROM outbox").await, 0);
    let done = post(json!({"force": true})).await.expect(200).body;
    assert_eq!((&done["state"], &done["redrives"]), (&json!("redriven"), &json!(6)));
    post(json!({"force": true})).await.refused(409, "already_redriven");
    assert_eq!(server.count("SELECT count(*) FROM outbox").await, 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_sent_as_an_edited_copy() {
    let (server, by) = stopped().await;
    let bad = interest("perhaps");
    let one = letter(&server, "user_interactions", "interest.changed", &bad.to_string()).await;
    let redrive = admin(&server, &by, "POST", &format!("/{one}/redrive")).send().await;
    let redrive = redrive.refused(422, "invalid");
    assert_eq!(redrive.body["errors"][0]["code"], "does_not_fit");
    let path = format!("/{one}/copy");
    let copy = |data: &Value| {
        let body = json!({"data": data, "reason": "the app said perhaps for maybe"});
        admin(&server, &by, "POST", &path).json(body).send()
    };
    copy(&bad).await.invalid(&["/data/state"]);
    let mut good = bad.clone();
    good["state"] = json!("maybe");
    let done = copy(&good).await.expect(201).body;
    assert_eq!((&done["id"], &done["state"]), (&json!(one), &json!("copied")));
    assert_eq!((&done["resolved_by"], &done["redrives"]), (&json!(by.id), &json!(0)));
    copy(&good).await.refused(409, "already_redriven");
    let copied = id(&done["replaced_by"]);
    let row = &server.sql("SELECT id, payload::text, aggregate_id::text FROM bus_outbox").await[0];
    assert_eq!(row.get::<_, Uuid>(0), copied);
    assert_eq!(serde_json::from_str::<Value>(row.get(1)).unwrap(), good);
    assert_eq!(row.get::<_, &str>(2), good["eventId"].as_str().unwrap());
    // Should the copy die as well, each of the letters leads to the other.
    let second = Ids.uuid();
    let payload = good.to_string();
    letter_of(&server, second, copied, "user_interactions", "interest.changed", &payload).await;
    let shown = admin(&server, &by, "GET", &format!("/{second}")).send().await.expect(200).body;
    assert_eq!((&shown["copy_of"], &shown["state"]), (&json!(one), &json!("open")));
    let first = admin(&server, &by, "GET", &format!("/{one}")).send().await.expect(200).body;
    assert_eq!((&first["replaced_by"], &first["note"]), (&shown["message_id"], &done["note"]));
    // A notification stays one of its type.
    let mail = letter(&server, "inbox-service", "event_cancelled", "not JSON").await;
    let body = |kind: &str| json!({"data": {"type": kind, "eventId": null}});
    let path = format!("/{mail}/copy");
    let post = |body: Value| admin(&server, &by, "POST", &path).json(body).send();
    post(body("booking_confirmed")).await.invalid(&["/data/type"]);
    post(body("event_cancelled")).await.expect(201);
    let audit = "SELECT count(*) FROM audit_log WHERE action = 'dead_letter.copied'";
    assert_eq!(server.count(audit).await, 2);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_stays_so_in_letters_and_reaches_the_copy() {
    let (server, by) = stopped().await;
    let at = "2026-03-01T10:00:00.000Z";
    let data = json!({"id": Ids.uuid(), "name": "Bread", "email": "bread@example.org",
        "open": true, "createdAt": at, "updatedAt": at});
    let publish = server.call("POST", "/admin/streams/vendor.created/messages").bearer(&by.token);
    let made = publish.json(json!({"data": data})).send().await.expect(201).body;
    let row = &server.sql("SELECT payload::text FROM bus_outbox").await[0];
    let (one, sealed, message) = (Ids.uuid(), row.get::<_, String>(0), id(&made["id"]));
    letter_of(&server, one, message, "search-sync", "vendor.created", &sealed).await;
    let shown = admin(&server, &by, "GET", &format!("/{one}")).send().await.expect(200).body;
    let mut edited: Value = serde_json::from_str(shown["payload"].as_str().unwrap()).unwrap();
    assert!(edited["email"].as_str().unwrap().starts_with("sealed:"), "{edited}");
    edited["name"] = json!("Cake");
    let copy = admin(&server, &by, "POST", &format!("/{one}/copy")).json(json!({"data": edited}));
    let copy = id(&copy.send().await.expect(201).body["replaced_by"]);
    let rows = "SELECT payload::text FROM bus_outbox ORDER BY seq DESC LIMIT 1";
    let travelled = serde_json::from_str(server.sql(rows).await[0].get(0)).unwrap();
    let registry = &server.app().registry;
    let read = registry.accept("vendor.created", 1, MessageId(copy), travelled).unwrap();
    assert_eq!((&read["name"], &read["email"]), (&json!("Cake"), &data["email"]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_discarded_is_kept_with_its_reason() {
    let (server, by) = stopped().await;
    let ana = server.person().await;
    let one = letter(&server, "inbox-service", "event_cancelled", "not JSON").await;
    let other = letter(&server, "inbox-service", "event_cancelled", &notice()).await;
    let path = format!("/{one}?reason=a%20test%20of%20ours");
    admin(&server, &ana, "DELETE", &path).send().await.refused(403, "forbidden");
    admin(&server, &by, "DELETE", &path).send().await.expect(204);
    admin(&server, &by, "DELETE", &path).send().await.refused(404, "not_found");
    let again = admin(&server, &by, "POST", &format!("/{one}/redrive")).send().await;
    again.refused(409, "already_redriven");
    let long = format!("/{other}?reason={}", "x".repeat(1001));
    admin(&server, &by, "DELETE", &long).send().await.invalid(&["/reason"]);
    let shown = async |state: &str| {
        let list = admin(&server, &by, "GET", &format!("?state={state}")).send().await.expect(200);
        list.items().iter().map(|one| id(&one["id"])).collect::<Vec<_>>()
    };
    assert_eq!(shown("open").await, [other]);
    assert_eq!(shown("resolved").await, [one]);
    assert_eq!(shown("all").await, [other, one]);
    admin(&server, &by, "GET", "?state=lost").send().await.invalid(&["/state"]);
    let kept = admin(&server, &by, "GET", &format!("/{one}")).send().await.expect(200).body;
    assert_eq!((&kept["state"], &kept["note"]), (&json!("discarded"), &json!("a test of ours")));
    assert_eq!(kept["resolved_by"], json!(by.id));
    let audit = "SELECT detail->>'note' FROM audit_log WHERE action = 'dead_letter.discarded'";
    assert_eq!(server.sql(audit).await[0].get::<_, &str>(0), "a test of ours");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_publications_are_listed_as_documented() {
    let (server, by) = stopped().await;
    let publish = server.call("POST", "/admin/streams/interest.changed/messages").bearer(&by.token);
    let data = interest("sure");
    let made = publish.json(json!({"data": data})).send().await.expect(201).body;
    let list = async || {
        let list = server.call("GET", "/admin/failed-events").bearer(&by.token).send().await;
        list.expect(200).items().clone()
    };
    assert!(list().await.is_empty());
    let fail = "INSERT INTO bus_stragglers (seq, aggregate_id, attempts, last_error, failed_at)
        SELECT seq, aggregate_id, 1, 'no room', created_at FROM bus_outbox";
    server.pg().batch_execute(fail).await.unwrap();
    let failed = list().await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["id"], made["id"]);
    for (field, value) in [
        ("type", json!("interest.changed")),
        ("data", data),
        ("error", json!("no room")),
        ("timestamp", json!("2026-03-01T10:00:00.000Z")),
        ("retryCount", json!(0)),
        ("dead", json!(false)),
    ] {
        assert_eq!(failed[0][field], value, "{field}");
    }
    let dead = letter(&server, "relay", "post.liked", "{}").await;
    let all = list().await;
    assert_eq!(all.iter().filter(|one| one["dead"] == true).count(), 1);
    admin(&server, &by, "DELETE", &format!("/{dead}")).send().await.expect(204);
    assert_eq!(list().await, failed);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_show_the_beginning_of_a_long_letter() {
    let (server, by) = stopped().await;
    let long = "é".repeat(10_000);
    let one = letter(&server, "inbox-service", "event_cancelled", &long).await;
    let list = admin(&server, &by, "GET", "").send().await.expect(200);
    assert_eq!(list.items()[0]["payload"], long.chars().take(4096).collect::<String>());
    let whole = admin(&server, &by, "GET", &format!("/{one}")).send().await.expect(200);
    assert_eq!(whole.body["payload"], long);
    server.finish().await;
}
