//! Interests, ratings and follows as people say them, and what others see of it.

use std::time::Duration;

use happening::clock::Ids;
use serde_json::{Value, json};

use crate::harness::interactions::{
    Counter, WRONG, delete, follow, get, interest, number, put, told,
};
use crate::harness::{TestServer, Wishes, id, time};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interests_are_said_changed_and_withdrawn() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"title": "Jazz"})).await;
    let draft = server.draft(&organizer, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);

    let said = interest(&server, &ana, event, json!({"state": "sure"})).await.expect(200);
    assert_eq!((id(&said.body["event_id"]), id(&said.body["user_id"])), (event, ana.id));
    assert_eq!((&said.body["state"], &said.body["privacy"]), (&json!("sure"), &json!("public")));
    assert_eq!(said.body["version"], 1);
    time(&said.body["changed_at"]);
    // The same again changes nothing and tells nobody.
    let again = interest(&server, &ana, event, json!({"state": "sure"})).await.expect(200);
    assert_eq!(again.body, said.body);
    assert_eq!(told(&server).await.len(), 1);
    // A privacy that was chosen stays.
    let hidden = json!({"state": "sure", "privacy": "private"});
    let hidden = interest(&server, &ana, event, hidden).await.expect(200);
    assert_eq!((&hidden.body["version"], &hidden.body["privacy"]), (&json!(2), &json!("private")));
    let maybe = interest(&server, &ana, event, json!({"state": "maybe"})).await.expect(200);
    assert_eq!((&maybe.body["version"], &maybe.body["privacy"]), (&json!(3), &json!("private")));
    let path = format!("/events/{event}/interest");
    delete(&server, &ana, &path).await.expect(204);
    delete(&server, &ana, &path).await.expect(204);
    delete(&server, &ben, &path).await.expect(204);
    let messages = told(&server).await;
    let versions: Vec<_> = messages
        .iter()
        .map(|one| (&one.data["version"], &one.data["previous"], &one.data["state"]))
        .collect();
    assert_eq!(
        versions,
        [
            (&json!(1), &json!(null), &json!("sure")),
            (&json!(2), &json!("sure"), &json!("sure")),
            (&json!(3), &json!("sure"), &json!("maybe")),
            (&json!(4), &json!("maybe"), &json!(null)),
        ]
    );
    let aggregates = format!("SELECT count(*) FROM bus_outbox WHERE aggregate_id = '{event}'");
    assert_eq!(server.count(&aggregates).await, 4);

    // What makes no sense.
    interest(&server, &ana, event, json!({"state": "perhaps", "privacy": "secret"}))
        .await
        .invalid(&["/privacy", "/state"]);
    interest(&server, &ana, event, json!({})).await.refused(422, "invalid");
    interest(&server, &ana, event, json!({"state": "sure", "more": 1})).await.expect(422);
    interest(&server, &ana, draft, json!({"state": "sure"})).await.refused(404, "not_found");
    interest(&server, &organizer.person, draft, json!({"state": "sure"})).await.expect(404);
    interest(&server, &ana, Ids.uuid(), json!({"state": "sure"})).await.refused(404, "not_found");
    delete(&server, &ana, &format!("/events/{draft}/interest")).await.refused(404, "not_found");
    let nobody = server.call("PUT", &path).json(json!({"state": "sure"})).send().await;
    nobody.refused(401, "unauthenticated");
    interest(&server, &ben, event, json!({"state": "sure"})).await.expect(200);
    let cancel = server.call("POST", &format!("/events/{event}/cancel"));
    cancel.bearer(&organizer.person.token).send().await.expect(200);
    interest(&server, &ana, event, json!({"state": "sure"})).await.refused(409, "event_not_open");
    delete(&server, &ben, &path).await.expect(204);
    assert_eq!(told(&server).await.len(), 6);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ratings_and_follows_are_said_and_counted() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let counter = Counter::new(&server);
    let path = format!("/events/{event}/rating");
    let rated = put(&server, &ana, &path, json!({"rating": 5})).await.expect(200);
    assert_eq!((&rated.body["rating"], &rated.body["version"]), (&json!(5), &json!(1)));
    assert_eq!(put(&server, &ana, &path, json!({"rating": 5})).await.body, rated.body);
    put(&server, &ben, &path, json!({"rating": 4})).await.expect(200);
    for wrong in [0, 6, -1, 5_000_000_000_i64] {
        put(&server, &ana, &path, json!({"rating": wrong})).await.invalid(&["/rating"]);
    }
    put(&server, &ana, &path, json!({"rating": 4.5})).await.expect(422);
    let nowhere = format!("/events/{}/rating", Ids.uuid());
    put(&server, &ana, &nowhere, json!({"rating": 4})).await.refused(404, "not_found");
    let following = follow(&server, &ana, &organizer).await.expect(200);
    assert_eq!(following.body["following"], true);
    assert_eq!(follow(&server, &ana, &organizer).await.body, following.body);
    let nowhere = format!("/organizations/{}/follow", Ids.uuid());
    let reply = server.call("PUT", &nowhere).bearer(&ana.token).send().await;
    reply.refused(404, "not_found");
    let messages = told(&server).await;
    assert_eq!(messages.len(), 3);
    counter.count(&messages).await;
    let seen = server.seen(&ana, event).await;
    assert_eq!(seen["ratings"], json!({"count": 2, "average": 4.5}));
    delete(&server, &ana, &path).await.expect(204);
    delete(&server, &ana, &path).await.expect(204);
    let follow_path = format!("/organizations/{}/follow", organizer.organization);
    delete(&server, &ana, &follow_path).await.expect(204);
    delete(&server, &ana, &follow_path).await.expect(204);
    delete(&server, &ben, &follow_path).await.expect(204);
    let messages = told(&server).await;
    assert_eq!(messages.len(), 5);
    assert_eq!(messages[4].kind, "organizer.unfollowed");
    // In any order, and again.
    let turned: Vec<_> = messages.iter().rev().cloned().collect();
    counter.count(&turned).await;
    counter.count(&messages).await;
    assert_eq!(server.seen(&ana, event).await["ratings"], json!({"count": 1, "average": 4.0}));
    assert_eq!(server.count(WRONG).await, 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_private_is_counted_and_never_named() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"title": "Jazz"})).await;
    let people = server.people(5).await;
    let said = [
        ("sure", "public"),
        ("maybe", "public"),
        ("sure", "private"),
        ("interested", "followers"),
        ("interested", "public"),
    ];
    for (person, (state, privacy)) in people.iter().zip(said) {
        let body = json!({"state": state, "privacy": privacy});
        interest(&server, person, event, body).await.expect(200);
    }
    let counter = Counter::new(&server);
    let handled = counter.count(&told(&server).await).await;
    assert_eq!((number(&handled, "updated"), number(&handled, "alerts")), (5, 1));
    let path = format!("/events/{event}/interests");
    let counts = json!({"sure": 2, "maybe": 1, "interested": 2});
    for who in [&organizer.person, &people[0]] {
        let mut named = Vec::new();
        let mut page = format!("{path}?limit=2");
        loop {
            let reply = get(&server, who, &page).await.expect(200);
            assert_eq!(reply.body["counts"], counts);
            named.extend(reply.items().iter().map(|one| id(&one["user_id"])));
            let Some(cursor) = reply.body["next_cursor"].as_str() else { break };
            page = format!("{path}?limit=2&cursor={cursor}");
        }
        assert_eq!(named, [people[4].id, people[1].id, people[0].id]);
    }
    assert_eq!(server.seen(&people[2], event).await["interest"], counts);
    let listed = get(&server, &people[2], "/events").await.expect(200);
    assert_eq!(listed.items()[0]["interest"], counts);
    // Whoever is named by an alert and then hides is named no more.
    let alerts = get(&server, &organizer.person, "/me/alerts").await.expect(200);
    let alert = &alerts.items()[0];
    assert_eq!((id(&alert["actor"]["id"]), &alert["others"]), (people[0].id, &json!(2)));
    assert_eq!(alert["states"], json!({"sure": 1, "maybe": 1, "interested": 1}));
    assert_eq!(alert["text"], "P and 2 others are interested in Jazz.");
    let hide = json!({"state": "sure", "privacy": "private"});
    interest(&server, &people[0], event, hide).await.expect(200);
    let alerts = get(&server, &organizer.person, "/me/alerts").await.expect(200);
    assert_eq!(alerts.items()[0]["actor"], Value::Null);
    assert_eq!(alerts.items()[0]["text"], "Somebody and 2 others are interested in Jazz.");
    let mine = get(&server, &people[0], "/me/interests").await.expect(200);
    let mine = &mine.items()[0];
    assert_eq!((&mine["state"], &mine["privacy"]), (&json!("sure"), &json!("private")));
    assert_eq!(
        (&mine["event_title"], &mine["event_status"]),
        (&json!("Jazz"), &json!("published"))
    );
    let hidden = server.draft(&organizer, json!({})).await;
    let path = format!("/events/{hidden}/interests");
    get(&server, &people[0], &path).await.refused(404, "not_found");
    get(&server, &organizer.person, &path).await.expect(200);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ones_own_interests_have_pages() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let ana = server.person().await;
    let mut events = Vec::new();
    for _ in 0..5 {
        let event = server.event(&organizer, json!({})).await;
        interest(&server, &ana, event, json!({"state": "interested"})).await.expect(200);
        events.push(event);
    }
    delete(&server, &ana, &format!("/events/{}/interest", events[2])).await.expect(204);
    interest(&server, &ana, events[0], json!({"state": "sure"})).await.expect(200);
    let (mut seen, mut path) = (Vec::new(), "/me/interests?limit=2".to_owned());
    loop {
        let page = get(&server, &ana, &path).await.expect(200);
        seen.extend(page.items().iter().map(|one| id(&one["event_id"])));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/me/interests?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, [events[0], events[4], events[3], events[1]]);
    get(&server, &ana, "/me/interests?cursor=nonsense&limit=0")
        .await
        .invalid(&["/cursor", "/limit"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_account_is_interested_in_nothing() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let ana = server.person().await;
    interest(&server, &ana, event, json!({"state": "sure"})).await.expect(200);
    follow(&server, &ana, &organizer).await.expect(200);
    let counter = Counter::new(&server);
    counter.count(&told(&server).await).await;
    assert_eq!(server.seen(&organizer.person, event).await["interest"]["sure"], 1);
    delete(&server, &ana, "/me").await.expect(204);
    counter.count(&told(&server).await).await;
    assert_eq!(server.seen(&organizer.person, event).await["interest"]["sure"], 0);
    let path = format!("/events/{event}/interests");
    assert!(get(&server, &organizer.person, &path).await.expect(200).items().is_empty());
    assert_eq!(server.count("SELECT count(*) FROM organization_follows WHERE following").await, 0);
    assert_eq!(server.count(WRONG).await, 0);
    server.finish().await;
}

/// All of it by itself: outbox, bus, handler, mail, inbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_is_counted_and_told_by_itself() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"title": "Jazz"})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    interest(&server, &ana, event, json!({"state": "sure"})).await.expect(200);
    interest(&server, &ben, event, json!({"state": "maybe"})).await.expect(200);
    interest(&server, &ben, event, json!({"state": "interested"})).await.expect(200);
    put(&server, &ana, &format!("/events/{event}/rating"), json!({"rating": 3})).await.expect(200);
    let path = format!("/organizations/{}/follow", organizer.organization);
    server.call("PUT", &path).bearer(&ana.token).send().await.expect(200);
    eventually(SOON, || async {
        let seen = server.seen(&ana, event).await;
        let counted = (&seen["interest"], &seen["ratings"]["average"]);
        let wanted = (&json!({"sure": 1, "maybe": 0, "interested": 1}), &json!(3.0));
        if counted == wanted { Ok(()) } else { Err(format!("{counted:?}")) }
    })
    .await;
    // In one batch or in two: both are named once.
    eventually(SOON, || async {
        let told = format!(
            "SELECT coalesce(sum(others + 1), 0)::bigint FROM user_alerts a
             JOIN notifications n ON n.data->>'alert_id' = a.id::text
             WHERE a.user_id = '{}'",
            organizer.person.id
        );
        match server.count(&told).await {
            2 => Ok(()),
            other => Err(format!("{other} were told of")),
        }
    })
    .await;
    let inbox = server.inbox(&organizer.person).await;
    assert!(inbox.iter().all(|kind| kind == "interest_alert"), "{inbox:?}");
    server.finish().await;
}
