//! Dead letters from their death to their second life: what consumers give up, what the broker
//! refuses, what dies inside the broker, and what an operator does about it at the command line.

use std::sync::Arc;
use std::time::Duration;

use happening::actors::dead_collector::DeadCollector;
use happening::actors::outbox_relay::OutboxRelay;
use happening::actors::pace::Pace;
use happening::actors::{Actor as _, Next};
use happening::app::messages::consume::Inbox;
use happening::app::messages::relay::Outbox;
use happening::clock::Ids;
use happening::telemetry::spans::Spans;
use lapin::BasicProperties;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestServer, Wishes};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(15);
/// Nobody listens there: the command needs neither Redis nor RabbitMQ.
const AWAY: &[(&str, &str)] =
    &[("REDIS_URL", "redis://127.0.0.1:9"), ("RABBITMQ_URL", "amqp://x:x@127.0.0.1:9")];
/// A trigger stands for anything that breaks the handling of one message.
const BREAK: &str = "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'cannot be written'; END $$;
    CREATE TRIGGER broken BEFORE INSERT ON notifications FOR EACH ROW
        WHEN (NEW.type = 'booking_cancelled') EXECUTE FUNCTION broken();";
const MEND: &str = "DROP TRIGGER broken ON notifications; DROP FUNCTION broken()";

/// Until there are so many open letters.
async fn letters(server: &TestServer, wanted: i64) {
    let open = "SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL";
    eventually(SOON, || async {
        let found = server.count(open).await;
        if found == wanted { Ok(()) } else { Err(format!("{found} letters")) }
    })
    .await;
}

async fn letter_of(server: &TestServer, kind: &str) -> Uuid {
    let newest = format!("SELECT id FROM dead_letters WHERE type = '{kind}' ORDER BY died_at");
    server.sql(&newest).await[0].get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_lists_shows_redrives_and_drops_at_the_command_line() {
    let server = Wishes::default().set("HAPPENING__INBOX__ATTEMPTS_MAX", "1").start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 100})).await;
    let people = server.people(3).await;
    let run = async |args: &[&str]| {
        let args: Vec<&str> = ["dead-letters"].iter().chain(args).copied().collect();
        server.command(&args, AWAY).await
    };
    assert_eq!(run(&["list"]).await.well(), "there are none\n");
    server.pg().batch_execute(BREAK).await.unwrap();
    for person in &people {
        let booked = server.book(person, event, 1).await.expect(201);
        server.cancel(person, &booked.body["id"], Value::Null).await.expect(200);
    }
    server.queue().publish("not JSON", BasicProperties::default()).await;
    letters(&server, 4).await;

    let all = run(&["list"]).await.well();
    assert_eq!(all.lines().count(), 4, "{all}");
    assert_eq!(all.matches("cannot be written").count(), 3, "{all}");
    let some = run(&["list", "--type", "booking_cancelled", "--limit", "2"]).await.well();
    assert_eq!(some.matches("inbox-service  booking_cancelled").count(), 2, "{some}");
    assert!(some.ends_with("… and more: see --limit, --groups, --type\n"), "{some}");
    let groups = run(&["list", "--groups"]).await.well();
    assert_eq!(groups.lines().count(), 2, "{groups}");
    let largest = groups.lines().next().unwrap();
    assert!(largest.trim_start().starts_with("3 "), "{groups}");
    let fingerprint = largest.split_whitespace().nth(1).unwrap();
    let of_it = run(&["list", "--fingerprint", fingerprint]).await.well();
    assert_eq!(of_it.lines().count(), 3, "{of_it}");

    let first = letter_of(&server, "booking_cancelled").await.to_string();
    let shown = run(&["show", &first]).await.well();
    for line in ["source       inbox-service", "attempts     1", "state        open", "bookingId"] {
        assert!(shown.contains(line), "{line:?} is not in {shown}");
    }
    run(&["show", &Ids.uuid().to_string()]).await.badly();

    server.pg().batch_execute(MEND).await.unwrap();
    let done = run(&["redrive", &first]).await.well();
    assert_eq!(done, format!("{first} is on its way again\n"));
    let twice = run(&["redrive", &first]).await.badly();
    assert!(twice.contains("already"), "{twice}");
    let shown = run(&["show", &first]).await.well();
    assert!(shown.contains("state        sent again"), "{shown}");
    let dropped = run(&["drop", &first]).await.badly();
    assert!(dropped.contains("already"), "{dropped}");

    let dry = run(&["redrive", "--all", "--type", "booking_cancelled", "--dry-run"]).await.well();
    assert_eq!(dry, "2 of 2 letters would be on their way again\n");
    letters(&server, 3).await;
    // What can never be read is left, and the status says that not all went.
    let poison = server.sql("SELECT id FROM dead_letters WHERE payload = 'not JSON'").await;
    let poison = poison[0].get::<_, Uuid>(0).to_string();
    let rest = run(&["redrive", "--all", "--rate", "1000"]).await.badly();
    assert!(rest.contains(&format!("{poison} its payload is not JSON")), "{rest}");
    assert!(rest.contains("2 of 3 letters are on their way again"), "{rest}");
    assert_eq!(run(&["drop", &poison]).await.well(), format!("{poison} is gone\n"));
    run(&["drop", &poison]).await.badly();
    assert_eq!(run(&["list"]).await.well(), "there are none\n");

    // The command rings nobody's bell: the relay finds them by itself.
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
    let audit = "SELECT count(*) FROM audit_log WHERE actor_id IS NULL
        AND action IN ('dead_letter.redriven', 'dead_letter.discarded')";
    assert_eq!(server.count(audit).await, 4);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_refuses_is_a_dead_letter_after_the_limit_and_can_be_sent_again() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, ben, admin) = (server.person().await, server.person().await, server.admin().await);
    eventually(SOON, || async {
        let depth = server.queue().depth(server.queue().name()).await;
        depth.ok_or_else(|| "the queue is not declared".to_owned())
    })
    .await;
    server.queue().set_policy(r#"{"max-length":0,"overflow":"reject-publish"}"#).await;
    // Who books does not notice.
    server.book(&ana, event, 1).await.expect(201);
    letters(&server, 1).await;
    let list = server.call("GET", "/admin/dead-letters?source=relay").bearer(&admin.token);
    let list = list.send().await.expect(200);
    let letter = &list.items()[0];
    let seen = ["type", "source", "reason", "attempts"].map(|field| letter[field].clone());
    let expected = ["booking_confirmed", "relay", "the broker refused it (nack)"].map(Value::from);
    assert_eq!(seen[..3], expected);
    assert_eq!(seen[3], server.config().relay.attempts_max);
    let given_up = "SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL AND sent_at IS NULL
        AND attempts = 3 AND last_error IS NOT NULL";
    assert_eq!(server.count(given_up).await, 1);
    assert!(server.inbox(&ana).await.is_empty());

    server.queue().clear_policy().await;
    server.book(&ben, event, 1).await.expect(201);
    let path = format!("/admin/dead-letters/{}/redrive", letter["id"].as_str().unwrap());
    server.call("POST", &path).bearer(&admin.token).send().await.expect(200);
    eventually(SOON, || async {
        let told = [server.inbox(&ana).await, server.inbox(&ben).await];
        let both = told.iter().all(|told| *told == ["booking_confirmed"]);
        if both { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    letters(&server, 0).await;
    server.finish().await;
}

/// The queue of what died in the broker is drained by hand, so that every place on the way of one
/// message can be looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dies_inside_the_broker_is_collected_and_sent_again_as_it_was() {
    let server = Wishes::default().without_loops().start().await;
    let (app, queue) = (server.app(), server.queue());
    let config = Arc::clone(&app.config);
    let outbox = Outbox::new(app.db.clone(), app.clock.clone(), app.ids, Arc::clone(&config));
    let pace = Pace::new(app.wakes.busy.clone(), app.clock.clone(), 0);
    let mut relay = OutboxRelay::new(&config, outbox, pace, Spans::default())
        .await
        .expect("the relay connects");
    let inbox = Inbox::new(app, app.db.clone());
    let mut collector = DeadCollector::new(&config, inbox).await.expect("the collector connects");
    let dead = format!("{}.dead", queue.name());
    queue
        .set_policy(&format!(r#"{{"dead-letter-exchange":"","dead-letter-routing-key":"{dead}"}}"#))
        .await;

    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, admin) = (server.person().await, server.admin().await);
    server.book(&ana, event, 2).await.expect(201);
    while relay.step().await.expect("a step") == Next::Again {}
    queue.reject().await;
    eventually(SOON, || async {
        let depth = queue.depth(&dead).await;
        if depth == Some(1) { Ok(()) } else { Err(format!("{depth:?} in {dead}")) }
    })
    .await;
    while collector.step().await.expect("a step") == Next::Again {}
    assert_eq!(queue.depth(&dead).await, Some(0));
    let row = &server.sql("SELECT id, payload::text FROM outbox").await[0];
    let (message, payload): (Uuid, String) = (row.get(0), row.get(1));
    let row = "SELECT source, message_id, type, payload, reason, correlation_id FROM dead_letters";
    let row = &server.sql(row).await[0];
    let text = |index: usize| row.get::<_, String>(index);
    assert_eq!(
        (text(0), text(1), text(2)),
        ("broker".into(), message.to_string(), "booking_confirmed".into())
    );
    assert_eq!(text(3), payload);
    assert!(text(4).contains("rejected") && text(4).contains(queue.name()), "{}", text(4));

    let path =
        format!("/admin/dead-letters/{}/redrive", letter_of(&server, "booking_confirmed").await);
    server.call("POST", &path).bearer(&admin.token).send().await.expect(200);
    while relay.step().await.expect("a step") == Next::Again {}
    let again = queue.take(queue.name()).await;
    assert_eq!(String::from_utf8_lossy(&again.data), payload);
    let id = again.properties.message_id().as_ref().expect("an id");
    assert_eq!(id.as_str(), message.to_string());
    let correlation = again.properties.correlation_id().as_ref().expect("a correlation id");
    assert_eq!(correlation.as_str(), text(5));
    queue.clear_policy().await;
    server.finish().await;
}

/// A server does so by itself, whatever lies there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_collects_what_died_inside_the_broker() {
    let server = TestServer::start().await;
    let (ana, admin) = (server.person().await, server.admin().await);
    let dead = format!("{}.dead", server.queue().name());
    eventually(SOON, || async {
        let depth = server.queue().depth(&dead).await;
        depth.ok_or_else(|| format!("{dead} is not declared"))
    })
    .await;
    let good = json!({"type": "booking_confirmed", "eventId": Ids.uuid(), "userId": ana.id,
        "seats": 2})
    .to_string();
    // Twice the same, and what nobody can read.
    let id = Ids.uuid().to_string();
    let named = BasicProperties::default().with_message_id(id.as_str().into());
    let channel = server.queue().channel().await;
    for body in [good.as_str(), good.as_str()] {
        server.queue().publish_to(&channel, &dead, body, named.clone()).await;
    }
    for body in ["", "\u{0}\u{0}", "[]"] {
        server.queue().publish_to(&channel, &dead, body, BasicProperties::default()).await;
    }
    letters(&server, 4).await;
    let broker = "SELECT count(*) FROM dead_letters WHERE source = 'broker' AND reason <> ''";
    assert_eq!(server.count(broker).await, 4);
    assert_eq!(server.queue().depth(&dead).await, Some(0));
    assert!(server.inbox(&ana).await.is_empty());
    let path = "/admin/dead-letters/redrive";
    let filter = json!({"filter": {"type": "booking_confirmed"}, "rate_per_second": 1000});
    let redriven = server.call("POST", path).bearer(&admin.token).json(filter).send().await;
    assert_eq!(redriven.expect(200).body["redriven"], 1);
    eventually(SOON, || async {
        let told = server.inbox(&ana).await;
        if told == ["booking_confirmed"] { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    server.finish().await;
}
