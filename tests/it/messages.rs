//! Messages: on the wire as documented, dealt with once, and never lost, whoever sent them and
//! whatever becomes of the queue.

use std::sync::Arc;
use std::time::Duration;

use happening::actors::outbox_relay::OutboxRelay;
use happening::actors::pace::Pace;
use happening::actors::{Actor as _, Next};
use happening::app::messages::relay::Outbox;
use happening::clock::Ids;
use happening::telemetry::spans::Spans;
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestServer, Wishes};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(15);

/// Takes the relay's steps until there is nothing left to send.
async fn relay(server: &TestServer) {
    let app = server.app();
    let config = Arc::clone(&app.config);
    let outbox = Outbox::new(app.db.clone(), app.clock.clone(), app.ids, Arc::clone(&config));
    let pace = Pace::new(app.wakes.busy.clone(), app.clock.clone(), 0);
    let mut relay = OutboxRelay::new(&config, outbox, pace, Spans::default())
        .await
        .expect("the relay connects");
    while relay.step().await.expect("a step") == Next::Again {}
}

fn named(id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_message_id(id.into())
        .with_content_type("application/json".into())
}

fn confirmed(user: Uuid) -> Value {
    json!({"type": "booking_confirmed", "eventId": Ids.uuid(), "userId": user, "seats": 2})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_documented_messages_are_on_the_wire_as_documented() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 2})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let body = json!({"event_id": event, "seats": 2});
    let ask = server.booking(&ana, body).header("x-request-id", "the-request");
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let first = ask.header("traceparent", &traceparent).send().await.expect(201);
    assert_eq!(first.header("x-request-id"), "the-request");
    let second = server.book(&ben, event, 1).await.expect(201);
    server.cancel(&ana, &first.body["id"], json!({"seats": 1})).await.expect(200);
    let invite = format!("/organizations/{}/invitations", organizer.organization);
    let body = json!({"email": ana.email(), "role": "member"});
    let invite = server.call("POST", &invite).bearer(&organizer.person.token).json(body);
    let invitation = invite.send().await.expect(201);
    server.patch(&organizer, event, json!({"venue": "Hall"})).await.expect(200);
    let off = format!("/events/{event}/cancel");
    server.call("POST", &off).bearer(&organizer.person.token).send().await.expect(200);
    while happening::app::events::cascade::step(server.app()).await.expect("a step") {}
    relay(&server).await;
    let (of_ana, of_ben) = (&first.body["id"], &second.body["id"]);
    let expected = [
        ("booking_confirmed", Some(ana.id), Some(2), of_ana),
        ("booking_waitlisted", Some(ben.id), Some(1), of_ben),
        ("booking_cancelled", Some(ana.id), Some(1), of_ana),
        ("waitlist_promoted", Some(ben.id), Some(1), of_ben),
        ("invitation_received", Some(ana.id), None, &Value::Null),
        ("event_updated", None, None, &Value::Null),
        ("event_cancelled", Some(ana.id), Some(1), of_ana),
        ("event_cancelled", Some(ben.id), Some(1), of_ben),
    ];
    let mut seen = Vec::new();
    for _ in 0..expected.len() {
        let message = server.queue().take(server.queue().name()).await;
        let body: Value = serde_json::from_slice(&message.data).expect("JSON");
        let kind = body["type"].as_str().unwrap().to_owned();
        let properties = &message.properties;
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().unwrap().to_string();
        assert_eq!(text(properties.content_type()), "application/json");
        assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
        assert_eq!(text(properties.kind()), kind);
        assert!(properties.timestamp().is_some());
        let id: Uuid = text(properties.message_id()).parse().expect("a UUID");
        let row = format!("SELECT type, correlation_id FROM outbox WHERE id = '{id}'");
        let row = &server.sql(&row).await[0];
        assert_eq!(row.get::<_, String>(0), kind);
        assert_eq!(row.get::<_, String>(1), text(properties.correlation_id()));
        if kind == "booking_confirmed" {
            assert_eq!(text(properties.correlation_id()), "the-request");
            let headers = properties.headers().as_ref().expect("headers").inner();
            let Some(AMQPValue::LongString(parent)) = headers.get("traceparent") else {
                panic!("no traceparent in {headers:?}")
            };
            assert!(parent.to_string().contains(trace), "the trace goes on: {parent}");
        }
        let user = body["userId"].as_str().map(|id| id.parse::<Uuid>().unwrap());
        let event_id = if kind == "invitation_received" { Value::Null } else { json!(event) };
        assert_eq!(body["eventId"], event_id, "{body}");
        if kind == "invitation_received" {
            assert_eq!(body["invitationId"], invitation.body["id"]);
        }
        seen.push((kind, user, body["seats"].as_i64(), body["bookingId"].clone()));
    }
    let mut expected: Vec<_> = expected
        .map(|(kind, user, seats, booking)| (kind.to_owned(), user, seats, booking.clone()))
        .into();
    let key = |one: &(String, Option<Uuid>, Option<i64>, Value)| format!("{one:?}");
    seen.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(seen, expected);
    assert_eq!(server.queue().depth(server.queue().name()).await, Some(0));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_a_hundred_times_is_one_notification() {
    let server = TestServer::start().await;
    let ana = server.person().await;
    wait_for_the_queue(&server).await;
    let (id, body) = (Ids.uuid().to_string(), confirmed(ana.id).to_string());
    let channel = server.queue().channel().await;
    for _ in 0..100 {
        server.queue().publish_on(&channel, &body, named(&id)).await;
    }
    // One more of another id arrives behind them all.
    let last = Ids.uuid().to_string();
    server.queue().publish_on(&channel, &body, named(&last)).await;
    told(&server, &last).await;
    drained(&server).await;
    let of = format!("SELECT count(*) FROM notifications WHERE message_id = '{id}'");
    assert_eq!(server.count(&of).await, 1);
    let of = format!(
        "SELECT count(*) FROM processed_events WHERE revision = '{id}'
        AND processingStatus = 'processed' AND attempts = 1"
    );
    assert_eq!(server.count(&of).await, 1);
    assert_eq!(server.count("SELECT count(*) FROM dead_letters").await, 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_message_without_an_id_is_dealt_with_once() {
    let server = TestServer::start().await;
    let ana = server.person().await;
    wait_for_the_queue(&server).await;
    let (one, two) = (confirmed(ana.id), confirmed(ana.id));
    for body in [&one, &one, &two, &one] {
        server.queue().publish(&body.to_string(), BasicProperties::default()).await;
    }
    eventually(SOON, || async {
        match server.inbox(&ana).await.len() {
            2 => Ok(()),
            other => Err(format!("{other} notifications")),
        }
    })
    .await;
    drained(&server).await;
    assert_eq!(server.inbox(&ana).await.len(), 2);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_goes_to_the_dead_letters_and_its_neighbours_flow() {
    let server = TestServer::start().await;
    let (ana, admin) = (server.person().await, server.admin().await);
    wait_for_the_queue(&server).await;
    let channel = server.queue().channel().await;
    let deep = "[".repeat(50_000);
    let poison = [
        "",
        "not JSON",
        "not JSON",
        "[]",
        "null",
        deep.as_str(),
        "{\"type\":\"booking_confirmed\"}",
        "{\"type\":\"no_such\",\"userId\":\"018f8f8f-0000-7000-8000-000000000000\"}",
        "{\"type\":\"booking_confirmed\",\"userId\":7}",
        "{\"type\":7}",
        "{\"type\":\"booking_confirmed\",\"seats\":-1,
          \"userId\":\"018f8f8f-0000-7000-8000-000000000000\"}",
    ];
    let mut good = Vec::new();
    for body in poison {
        server.queue().publish_on(&channel, body, named(&Ids.uuid().to_string())).await;
        good.push(Ids.uuid().to_string());
        let neighbour = confirmed(ana.id).to_string();
        server.queue().publish_on(&channel, &neighbour, named(&good[good.len() - 1])).await;
    }
    for id in &good {
        told(&server, id).await;
    }
    let dead = eventually(SOON, || async {
        let dead = server.sql("SELECT reason FROM dead_letters").await;
        if dead.len() < poison.len() { Err(format!("{} letters", dead.len())) } else { Ok(dead) }
    })
    .await;
    assert_eq!(dead.len(), poison.len());
    assert!(dead.iter().all(|row| !row.get::<_, String>(0).is_empty()));
    let list = server.call("GET", "/admin/dead-letters?limit=100").bearer(&admin.token);
    let list = list.send().await.expect(200);
    assert_eq!(list.items().len(), poison.len());
    let groups = server.call("GET", "/admin/dead-letters?group=fingerprint").bearer(&admin.token);
    let groups = groups.send().await.expect(200);
    let counts: i64 = groups.items().iter().map(|group| group["count"].as_i64().unwrap()).sum();
    assert_eq!(counts, i64::try_from(poison.len()).unwrap());
    assert!(groups.items().len() < poison.len(), "what died of the same thing is one group");
    // What can never be read is not sent again, but dropped.
    let broken = list.items().iter().find(|one| one["payload"] == "not JSON").expect("it is there");
    let path = format!("/admin/dead-letters/{}", broken["id"].as_str().unwrap());
    let redrive = server.call("POST", &format!("{path}/redrive")).bearer(&admin.token);
    redrive.send().await.refused(422, "invalid");
    server.call("DELETE", &path).bearer(&admin.token).send().await.expect(204);
    server.call("DELETE", &path).bearer(&admin.token).send().await.refused(404, "not_found");
    server.finish().await;
}

/// A trigger stands for anything that breaks the handling of one message.
const BREAK: &str = "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'cannot be written'; END $$;
    CREATE TRIGGER broken BEFORE INSERT ON notifications FOR EACH ROW
        WHEN (NEW.type = 'booking_cancelled') EXECUTE FUNCTION broken();";
const MEND: &str = "DROP TRIGGER broken ON notifications; DROP FUNCTION broken()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_tried_again_and_does_not_hold_others_up() {
    let patient = Wishes::default().set("HAPPENING__INBOX__ATTEMPTS_MAX", "100");
    let server = patient.set("HAPPENING__INBOX__RETRY_DELAYS_MS", "50,500").start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let booked = server.book(&ana, event, 1).await.expect(201);
    server.pg().batch_execute(BREAK).await.unwrap();
    server.cancel(&ana, &booked.body["id"], Value::Null).await.expect(200);
    let failed = "SELECT attempts::bigint FROM processed_events WHERE processingStatus = 'failed'";
    eventually(SOON, || async {
        let rows = server.sql(failed).await;
        let attempts = rows.first().map(|row| row.get::<_, i64>(0));
        if attempts >= Some(2) { Ok(()) } else { Err(format!("{attempts:?} attempts")) }
    })
    .await;
    server.book(&ben, event, 1).await.expect(201);
    eventually(SOON, || async {
        let told = server.inbox(&ben).await;
        if told == ["booking_confirmed"] { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    server.pg().batch_execute(MEND).await.unwrap();
    server.check().await;
    assert_eq!(server.inbox(&ana).await, ["booking_confirmed", "booking_cancelled"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_given_up_can_be_redriven_once_the_cause_is_mended() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 100})).await;
    let (people, admin) = (server.people(6).await, server.admin().await);
    server.pg().batch_execute(BREAK).await.unwrap();
    for person in &people {
        let booked = server.book(person, event, 1).await.expect(201);
        server.cancel(person, &booked.body["id"], Value::Null).await.expect(200);
    }
    eventually(SOON, || async {
        match server.count("SELECT count(*) FROM dead_letters").await {
            6 => Ok(()),
            other => Err(format!("{other} letters")),
        }
    })
    .await;
    server.pg().batch_execute(MEND).await.unwrap();
    let post = |path: &str, body: Value| {
        let path = format!("/admin/dead-letters{path}");
        server.call("POST", &path).bearer(&admin.token).json(body).send()
    };
    let list = server.call("GET", "/admin/dead-letters").bearer(&admin.token);
    let list = list.send().await.expect(200);
    let one = &list.items()[0];
    assert_eq!(
        (&one["type"], &one["source"]),
        (&json!("booking_cancelled"), &json!("inbox-service"))
    );
    assert_eq!(one["attempts"], 5);
    assert!(one["reason"].as_str().unwrap().contains("cannot be written"), "{one}");
    let path = format!("/{}/redrive", one["id"].as_str().unwrap());
    post(&path, json!({})).await.expect(200);
    post(&path, json!({})).await.refused(409, "already_redriven");
    let filter = json!({"type": "booking_cancelled"});
    let dry = json!({"filter": filter, "dry_run": true});
    let dry = post("/redrive", dry).await.expect(200).body;
    assert_eq!(
        (&dry["matched"], &dry["redriven"], &dry["dry_run"]),
        (&json!(5), &json!(5), &json!(true))
    );
    assert_eq!(
        server.count("SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL").await,
        5
    );
    let none = json!({"filter": {"type": "booking_confirmed"}});
    assert_eq!(post("/redrive", none).await.expect(200).body["matched"], 0);
    let part = json!({"filter": filter, "limit": 2, "rate_per_second": 1000});
    assert_eq!(post("/redrive", part).await.expect(200).body["redriven"], 2);
    let rest = post("/redrive", json!({"rate_per_second": 1000})).await.expect(200).body;
    assert_eq!(rest["redriven"], 3);
    eventually(SOON, || async {
        for person in &people {
            let told = server.inbox(person).await;
            if told != ["booking_confirmed", "booking_cancelled"] {
                return Err(format!("{told:?}"));
            }
        }
        Ok(())
    })
    .await;
    for bad in [json!({"limit": 0}), json!({"rate_per_second": 0}), json!({"limit": 1_000_001})] {
        let pointer = format!("/{}", bad.as_object().unwrap().keys().next().unwrap());
        post("/redrive", bad).await.invalid(&[pointer.as_str()]);
    }
    let audit = "SELECT count(*) FROM audit_log WHERE action = 'dead_letter.redriven'";
    assert_eq!(server.count(audit).await, 6);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_deleted_comes_back_and_nothing_is_lost() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1000})).await;
    let people = server.people(60).await;
    wait_for_the_queue(&server).await;
    for (n, person) in people.iter().enumerate() {
        if n % 20 == 10 {
            // Nothing may be in it: what a broker loses with a queue nobody can bring back.
            crate::support::truth::everybody_was_told(server.pg(), SOON).await;
            server.queue().remove(server.queue().name()).await;
        }
        server.book(person, event, 1).await.expect(201);
    }
    server.finish().await;
}

async fn wait_for_the_queue(server: &TestServer) {
    eventually(SOON, || async {
        let depth = server.queue().depth(server.queue().name()).await;
        depth.ok_or_else(|| "the queue is not declared".to_owned())
    })
    .await;
}

/// Until somebody was told of this message.
async fn told(server: &TestServer, message: &str) {
    let of = format!("SELECT count(*) FROM notifications WHERE message_id = '{message}'");
    eventually(SOON, || async {
        if server.count(&of).await > 0 { Ok(()) } else { Err(format!("{message} was not told")) }
    })
    .await;
}

/// Until nothing is ready in the queue.
async fn drained(server: &TestServer) {
    eventually(SOON, || async {
        match server.queue().depth(server.queue().name()).await {
            Some(0) => Ok(()),
            other => Err(format!("{other:?} messages are left")),
        }
    })
    .await;
}
