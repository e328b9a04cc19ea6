//! The in-app inbox: pages, what is unread, and news that reach everybody who booked.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{TestServer, id, time};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_has_pages_and_what_is_read_is_read() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"title": "Jazz", "capacity": 100})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let mut booked = vec![server.book(&ana, event, 2).await.expect(201).body["id"].clone()];
    for _ in 0..4 {
        booked.push(server.book(&ana, event, 1).await.expect(201).body["id"].clone());
    }
    server.book(&ben, event, 1).await.expect(201);
    server.check().await;
    let get = |path: &str| server.call("GET", path).bearer(&ana.token).send();
    let all = get("/me/notifications").await.expect(200);
    assert_eq!(all.items().len(), 5);
    // Consumers compete, but news stand in the order of their causes.
    let told: Vec<&Value> = all.items().iter().rev().map(|one| &one["booking_id"]).collect();
    assert_eq!(told, booked.iter().collect::<Vec<_>>());
    let news = all.items().last().expect("the oldest");
    assert_eq!((&news["type"], id(&news["event_id"])), (&json!("booking_confirmed"), event));
    assert_eq!(news["data"]["seats"], 2);
    assert_eq!(news["read_at"], Value::Null);
    assert!(news["body"].as_str().unwrap().contains("Jazz"), "{news}");
    time(&news["created_at"]);
    let (mut seen, mut path) = (Vec::new(), "/me/notifications?limit=2".to_owned());
    loop {
        let page = get(&path).await.expect(200);
        seen.extend(page.items().clone());
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/me/notifications?limit=2&cursor={cursor}");
    }
    assert_eq!(&seen, all.items());
    let read = |token: &str, body: Value| {
        server.call("POST", "/me/notifications/read").bearer(token).json(body).send()
    };
    // Nobody reads another's mail.
    let theirs = read(&ben.token, json!({"ids": [seen[0]["id"]]})).await;
    theirs.refused(404, "not_found");
    let one = read(&ana.token, json!({"ids": [seen[0]["id"]]})).await.expect(200);
    assert_eq!(one.body, json!({"marked": 1, "unread": 4}));
    let again = read(&ana.token, json!({"ids": [seen[0]["id"]]})).await.expect(200);
    assert_eq!(again.body, json!({"marked": 0, "unread": 4}));
    let unread = get("/me/notifications?unread=true").await.expect(200);
    assert_eq!(unread.items(), &seen[1..]);
    let rest = read(&ana.token, json!({"up_to": seen[2]["id"]})).await.expect(200);
    assert_eq!(rest.body, json!({"marked": 3, "unread": 1}));
    read(&ana.token, json!({})).await.invalid(&["/ids"]);
    read(&ana.token, json!({"ids": []})).await.invalid(&["/ids"]);
    let both = json!({"ids": [seen[0]["id"]], "up_to": seen[0]["id"]});
    read(&ana.token, both).await.invalid(&["/up_to"]);
    server.call("GET", "/me/notifications").send().await.refused(401, "unauthenticated");
    server.finish().await;
}

/// More people than one message tells at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_of_an_event_reach_everybody_who_booked_once() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 2000})).await;
    let people = server.people(1200).await;
    let all = people.iter().map(|person| server.book(person, event, 1));
    let booked = futures_util::stream::iter(all).buffered(100).collect::<Vec<_>>().await;
    assert!(booked.iter().all(|reply| reply.status == 201));
    let gone = server.cancel(&people[0], &booked[0].body["id"], Value::Null).await;
    gone.expect(200);
    server.patch(&organizer, event, json!({"venue": "The large hall"})).await.expect(200);
    let told = "SELECT count(*) FROM notifications WHERE type = 'event_updated'";
    eventually(Duration::from_secs(20), || async {
        match server.count(told).await {
            1199 => Ok(()),
            other => Err(format!("{other} were told")),
        }
    })
    .await;
    server.check().await;
    let people = "SELECT count(DISTINCT user_id) FROM notifications WHERE type = 'event_updated'";
    assert_eq!((server.count(told).await, server.count(people).await), (1199, 1199));
    server.finish().await;
}
