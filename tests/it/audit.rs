//! The audit log: every publication and consumption beside what people changed, found by filters,
//! page by page, and forgotten by whole days.

use std::time::Duration;

use happening::app::forget;
use happening::clock::Clock;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::harness::people::Person;
use crate::harness::{TestServer, Wishes};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(15);

async fn lines(server: &TestServer, by: &Person, query: &str) -> Vec<Value> {
    let list = server.call("GET", &format!("/admin/audit?{query}")).bearer(&by.token);
    list.send().await.expect(200).items().clone()
}

fn actions(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["action"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_publication_and_consumption_is_told_beside_what_people_changed() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, admin) = (server.person().await, server.admin().await);
    let booked = server.book(&ana, event, 1).await.expect(201);
    server.cancel(&ana, &booked.body["id"], Value::Null).await.expect(200);
    eventually(SOON, || async {
        match lines(&server, &admin, "action=message.processed").await.len() {
            2 => Ok(()),
            other => Err(format!("{other} consumed")),
        }
    })
    .await;
    // A message may be dealt with before it is marked as sent.
    let published = eventually(SOON, || async {
        let lines = lines(&server, &admin, "action=message.published&service=mail").await;
        if lines.len() == 2 { Ok(lines) } else { Err(format!("{} published", lines.len())) }
    })
    .await;
    assert_eq!(published[0]["type"], "booking_cancelled");
    assert_eq!(published[1]["type"], "booking_confirmed");
    let message = published[1]["subject"].as_str().unwrap();
    let life = lines(&server, &admin, &format!("subject={message}")).await;
    let mut both = actions(&life);
    both.sort_unstable();
    assert_eq!(both, ["message.processed", "message.published"]);
    let consumed = life.iter().find(|line| line["action"] == "message.processed").unwrap();
    assert_eq!(
        (&consumed["type"], &consumed["service"], &consumed["source"]),
        (&json!("booking_confirmed"), &json!("inbox-service"), &json!("message"))
    );
    let request = published[1]["request_id"].as_str().unwrap();
    let caused = lines(&server, &admin, &format!("request_id={request}&source=message")).await;
    assert_eq!(actions(&caused), ["message.published"]);

    let changes = lines(&server, &admin, "source=change&limit=100").await;
    assert!(changes.iter().all(|line| line["source"] == "change" && line["type"].is_null()));
    let person = organizer.person.id;
    let of_one = lines(&server, &admin, &format!("actor_id={person}&limit=100")).await;
    assert!(!of_one.is_empty() && of_one.iter().all(|line| line["actor_id"] == json!(person)));

    // Page by page it is the same as at once, in the same order.
    let all = lines(&server, &admin, "limit=100").await;
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/admin/audit?limit=2{cursor}");
        let page = server.call("GET", &path).bearer(&admin.token).send().await.expect(200);
        paged.extend(page.items().clone());
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    let times: Vec<&str> = all.iter().map(|line| line["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");

    let since = times[0];
    let newest = lines(&server, &admin, &format!("since={since}")).await;
    assert!(newest.iter().all(|line| line["at"] == since), "{newest:?}");
    let older = lines(&server, &admin, &format!("until={since}&limit=100")).await;
    assert_eq!(newest.len() + older.len(), all.len());

    let ask = |query: &str, token: &str| {
        server.call("GET", &format!("/admin/audit?{query}")).bearer(token).send()
    };
    ask("", &ana.token).await.refused(403, "forbidden");
    ask("source=x&since=y&limit=0&cursor=eA", &admin.token)
        .await
        .invalid(&["/limit", "/cursor", "/source", "/since"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_begin_in_time_and_end_after_their_retention() {
    let clock = Clock::manual("2031-03-01T23:50:00Z".parse().unwrap());
    let wishes = Wishes::default().clock(&clock).set("HAPPENING__AUDIT__MESSAGE_DAYS", "2");
    let server = wishes.without_loops().start().await;
    let log = |at: &str| {
        format!(
            "INSERT INTO message_log (at, action, message_id, type, service)
            VALUES ('{at}', 'published', 'm', 't', 'bus')"
        )
    };
    // Nobody has made this day yet: its lines are kept all the same.
    server.pg().batch_execute(&log("2031-03-01T23:50:00Z")).await.unwrap();
    let place = async || {
        let rows = "SELECT DISTINCT tableoid::regclass::text FROM message_log ORDER BY 1";
        let rows = server.sql(rows).await;
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    assert_eq!(place().await, ["message_log_default"]);
    let turn = async || {
        forget::some(&server.app().db, server.clock(), server.config()).await.unwrap();
    };
    turn().await;
    assert_eq!(place().await, ["message_log_20310301"]);
    // Three days ahead are ready, so that a night without us does no harm.
    server.pg().batch_execute(&log("2031-03-04T23:59:59.999Z")).await.unwrap();
    assert_eq!(place().await, ["message_log_20310301", "message_log_20310304"]);
    turn().await;
    clock.advance(SignedDuration::from_hours(48));
    turn().await;
    assert_eq!(place().await, ["message_log_20310301", "message_log_20310304"]);
    clock.advance(SignedDuration::from_hours(24));
    turn().await;
    assert_eq!(place().await, ["message_log_20310304"]);
    server.finish().await;
}
