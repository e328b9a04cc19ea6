//! Interests, ratings and follows: said over the API, counted once whatever comes twice or late,
//! and told to those whom they concern.

use std::sync::Arc;
use std::time::Duration;

use happening::app::interests::count::UserInteractions;
use happening::app::messages::handle::{Handled, Handler as _, Message, Trouble};
use happening::clock::Ids;
use happening::domain::ids::MessageId;
use happening::postgres::Db;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::people::{Organizer, Person};
use crate::harness::{TestServer, Wishes, id, time};
use crate::support::client::Reply;
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(20);
const STATES: [Option<&str>; 4] = [Some("sure"), Some("maybe"), Some("interested"), None];

/// Counters that are not the sums of what was said last.
const WRONG: &str = "SELECT count(*) FROM (
    SELECT e.id FROM (SELECT event_id AS id FROM event_interests UNION
                      SELECT event_id FROM event_ratings UNION
                      SELECT event_id FROM event_stats) e
    LEFT JOIN event_stats s ON s.event_id = e.id
    WHERE (coalesce(s.sure, 0), coalesce(s.maybe, 0), coalesce(s.interested, 0),
           coalesce(s.ratings, 0), coalesce(s.rating_sum, 0)) <> (SELECT
        count(*) FILTER (WHERE state = 'sure'), count(*) FILTER (WHERE state = 'maybe'),
        count(*) FILTER (WHERE state = 'interested'),
        (SELECT count(rating) FROM event_ratings r WHERE r.event_id = e.id),
        (SELECT coalesce(sum(rating), 0) FROM event_ratings r WHERE r.event_id = e.id)
        FROM event_interests i WHERE i.event_id = e.id)
    UNION ALL
    SELECT u.id FROM users u LEFT JOIN user_stats s ON s.user_id = u.id
    WHERE (coalesce(s.sure, 0), coalesce(s.maybe, 0), coalesce(s.interested, 0),
           coalesce(s.interests, 0), coalesce(s.ratings, 0), coalesce(s.follows, 0))
        <> (SELECT
        count(*) FILTER (WHERE state = 'sure'), count(*) FILTER (WHERE state = 'maybe'),
        count(*) FILTER (WHERE state = 'interested'), count(state),
        (SELECT count(rating) FROM event_ratings r WHERE r.user_id = u.id),
        (SELECT count(*) FROM organization_follows f WHERE f.user_id = u.id AND f.following)
        FROM event_interests i WHERE i.user_id = u.id)
    UNION ALL
    SELECT o.id FROM organizations o LEFT JOIN organization_stats s ON s.organization_id = o.id
    WHERE coalesce(s.followers, 0) <> (SELECT count(*) FROM organization_follows f
        WHERE f.organization_id = o.id AND f.following)
    UNION ALL
    SELECT event_id FROM event_interests WHERE counted_state IS DISTINCT FROM state
        OR counted_version <> version
) wrong";

async fn put(server: &TestServer, by: &Person, path: &str, body: Value) -> Reply {
    server.call("PUT", path).bearer(&by.token).json(body).send().await
}

async fn delete(server: &TestServer, by: &Person, path: &str) -> Reply {
    server.call("DELETE", path).bearer(&by.token).send().await
}

async fn get(server: &TestServer, by: &Person, path: &str) -> Reply {
    server.call("GET", path).bearer(&by.token).send().await
}

async fn interest(server: &TestServer, by: &Person, event: Uuid, body: Value) -> Reply {
    put(server, by, &format!("/events/{event}/interest"), body).await
}

async fn follow(server: &TestServer, by: &Person, organizer: &Organizer) -> Reply {
    let path = format!("/organizations/{}/follow", organizer.organization);
    server.call("PUT", &path).bearer(&by.token).send().await
}

/// A message as the taker hands it over.
fn message(kind: &'static str, data: Value) -> Message {
    let id = MessageId(Ids.uuid());
    let happened_at = happening::clock::Clock::default().now();
    let correlation_id = id.to_string();
    Message { id, kind, data, happened_at, correlation_id, traceparent: None }
}

fn changed(event: Uuid, user: Uuid, version: i64, state: Option<&str>, privacy: &str) -> Message {
    let data = json!({"eventId": event, "userId": user, "state": state, "previous": null,
                      "privacy": privacy, "version": version});
    message("interest.changed", data)
}

fn followed(organization: Uuid, user: Uuid) -> Message {
    let data = json!({"organizationId": organization, "userId": user, "version": 1});
    message("organizer.followed", data)
}

/// What lies in the outbox for the bus, as messages.
async fn told(server: &TestServer) -> Vec<Message> {
    let rows = "SELECT id, type, payload::text, created_at, correlation_id FROM outbox
        WHERE lane = 'bus' ORDER BY seq";
    let kinds = [
        "interest.changed",
        "event.rated",
        "organizer.followed",
        "organizer.unfollowed",
        "alert.continued",
    ];
    let row = |row: &tokio_postgres::Row| {
        let kind: String = row.get(1);
        let kind = kinds.into_iter().find(|known| *known == kind).expect("a kind of ours");
        let data: Value = serde_json::from_str(row.get(2)).expect("JSON");
        let id = MessageId(row.get(0));
        server.app().registry.accept(kind, 1, id, data.clone()).expect("it fits the schema");
        let (happened_at, correlation_id) = (row.get(3), row.get(4));
        Message { id, kind, data, happened_at, correlation_id, traceparent: None }
    };
    server.sql(rows).await.iter().map(row).collect()
}

/// The handler with a pool as the taker has it.
struct Counter {
    db: Db,
    handler: UserInteractions,
}

impl Counter {
    fn new(server: &TestServer) -> Self {
        let db = Db::by_key(&server.config().postgres, 4).expect("a pool");
        Self { db, handler: UserInteractions::new(Ids) }
    }

    async fn attempt(&self, batch: &[Message], commit: bool) -> Result<Handled, Trouble> {
        let tx = self.db.begin().await?;
        let now = happening::clock::Clock::default().now();
        let handled = self.handler.handle(&tx, batch, now).await?;
        if commit {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(handled)
    }

    async fn count(&self, batch: &[Message]) -> Handled {
        self.attempt(batch, true).await.expect("it is counted")
    }
}

fn number(handled: &Handled, name: &str) -> u64 {
    handled.counts.iter().find(|(known, _)| *known == name).expect(name).1
}

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
    let aggregates = format!(
        "SELECT count(*) FROM outbox WHERE aggregate_id = '{event}'
        AND lane = 'bus'"
    );
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

/// Duplicates, old news, a batch that is handled again after its commit, one that is rolled back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_count_once_whatever_comes_twice_or_late() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, ben) = (server.person().await.id, server.person().await.id);
    let counter = Counter::new(&server);
    let batch = [
        changed(event, ana, 2, Some("maybe"), "public"),
        changed(event, ben, 1, Some("sure"), "public"),
        changed(event, ana, 1, Some("sure"), "public"),
        changed(event, ana, 2, Some("maybe"), "public"),
    ];
    // A crash before the commit leaves nothing.
    counter.attempt(&batch, false).await.expect("it is handled");
    assert_eq!(server.count("SELECT count(*) FROM event_stats").await, 0);
    let handled = counter.count(&batch).await;
    assert_eq!(
        ["read", "folded", "updated", "alerts"].map(|name| number(&handled, name)),
        [4, 2, 2, 1]
    );
    assert!(handled.told && handled.skipped.is_empty());
    let state = server.state().await;
    for _ in 0..2 {
        let again = counter.count(&batch).await;
        assert_eq!((number(&again, "updated"), number(&again, "alerts")), (0, 0));
        assert_eq!((again.skipped.len(), again.told), (2, false));
    }
    counter.count(&[changed(event, ana, 1, Some("sure"), "public")]).await;
    assert_eq!(server.state().await, state, "what came again or late changed something");
    // Another state, or a privacy, is no news.
    let quiet = counter.count(&[changed(event, ana, 3, Some("sure"), "public")]).await;
    assert_eq!((number(&quiet, "updated"), number(&quiet, "alerts")), (1, 0));
    let gone = counter.count(&[changed(event, ana, 4, None, "public")]).await;
    assert_eq!((number(&gone, "updated"), number(&gone, "alerts")), (1, 0));
    let back = counter.count(&[changed(event, ana, 5, Some("sure"), "public")]).await;
    assert_eq!(number(&back, "alerts"), 0, "nobody is told twice of one person");
    let unknown = [
        changed(Ids.uuid(), ana, 1, Some("sure"), "public"),
        changed(event, Ids.uuid(), 1, Some("sure"), "public"),
    ];
    let unknown = counter.count(&unknown).await;
    assert_eq!((number(&unknown, "updated"), unknown.skipped.len()), (0, 2));
    assert_eq!(server.count(WRONG).await, 0);
    let sums = "SELECT sure::bigint * 100 + maybe * 10 + interested FROM event_stats";
    assert_eq!(server.count(sums).await, 200);
    server.finish().await;
}

/// Ten thousand messages about few pairs, shuffled, doubled, cut into overlapping batches that two
/// handlers work on at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_handlers_at_once_count_exactly() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(server.event(&organizer, json!({})).await);
    }
    let people = server.people(125).await;
    let mut all = Vec::new();
    for version in 1..=16_i64 {
        for (n, person) in people.iter().enumerate() {
            for (m, event) in events.iter().enumerate() {
                let dice = (n * 7 + m * 3 + usize::try_from(version).unwrap() * 5) % 11;
                all.push(changed(*event, person.id, version, STATES[dice % 4], "public"));
            }
        }
    }
    for (n, person) in people.iter().enumerate() {
        for version in 1..=8_i64 {
            let rating = (n % 2 == 0 || version < 8).then_some(version % 5 + 1);
            let data = json!({"eventId": events[n % 4], "userId": person.id, "rating": rating,
                              "version": version});
            all.push(message("event.rated", data));
            let kind = if version % 2 == 0 { "organizer.unfollowed" } else { "organizer.followed" };
            let data = json!({"organizationId": organizer.organization, "userId": person.id,
                              "version": version});
            all.push(message(kind, data));
        }
    }
    assert_eq!(all.len(), 10_000);
    // Neighbours far apart, the same in every run.
    let shuffled = |step: usize| -> Vec<Message> {
        (0..all.len()).map(|n| all[n * step % all.len()].clone()).collect()
    };
    let counter = Arc::new(Counter::new(&server));
    let work = |messages: Vec<Message>, size: usize| {
        let counter = Arc::clone(&counter);
        async move {
            for batch in messages.chunks(size) {
                counter.count(batch).await;
            }
        }
    };
    tokio::join!(work(shuffled(3_331), 500), work(shuffled(7_919), 333));
    assert_eq!(server.count(WRONG).await, 0);
    let latest = "SELECT count(*) FROM event_interests WHERE version = 16 AND counted_version = 16";
    assert_eq!(server.count(latest).await, 500);
    let twice = "SELECT count(*) FROM (SELECT 1 FROM user_alerts
        GROUP BY user_id, event_id HAVING sum(others + 1) > 125) t";
    assert_eq!(server.count(twice).await, 0, "somebody was told twice of the same person");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_reach_organizers_and_interested_followers_once() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"title": "Jazz"})).await;
    let other = server.event(&organizer, json!({"title": "Rock"})).await;
    let people = server.people(38).await;
    let (fan, idle, stranger) =
        (server.person().await, server.person().await, server.person().await);
    let counter = Counter::new(&server);
    let begin = [
        followed(organizer.organization, fan.id),
        followed(organizer.organization, idle.id),
        changed(event, fan.id, 1, Some("interested"), "private"),
        changed(event, stranger.id, 1, Some("sure"), "private"),
    ];
    assert_eq!(number(&counter.count(&begin).await, "alerts"), 0);

    let mut socket = server.socket(&organizer.person).await;
    let mut batch: Vec<Message> =
        people.iter().map(|person| changed(event, person.id, 1, Some("maybe"), "public")).collect();
    batch.push(changed(other, people[0].id, 1, Some("sure"), "public"));
    let handled = counter.count(&batch).await;
    // The organizer of both events, and the fan of one.
    assert_eq!((number(&handled, "updated"), number(&handled, "alerts")), (39, 3));
    server.app().wakes.outbox_relay.ring();
    let frame = socket.find(|frame| frame["notification"]["data"]["others"] == 37).await;
    assert_eq!(frame["notification"]["type"], "interest_alert");

    let alerts = get(&server, &fan, "/me/alerts").await.expect(200);
    let alert = &alerts.items()[0];
    assert_eq!(alerts.items().len(), 1);
    assert_eq!(alert["text"], "P and 37 others are interested in Jazz.");
    assert_eq!(id(&alert["actor"]["id"]), people[0].id);
    assert_eq!((id(&alert["event_id"]), &alert["seen"]), (event, &json!(false)));
    for nobody in [&idle, &stranger, &people[1]] {
        let alerts = get(&server, nobody, "/me/alerts").await.expect(200);
        assert_eq!((alerts.items().len(), &alerts.body["unseen"]), (0, &json!(0)));
    }
    // The inbox is told by the mail of the same transaction.
    let inbox = eventually(SOON, || async {
        let inbox = get(&server, &fan, "/me/notifications").await.expect(200);
        if inbox.items().is_empty() { Err("not yet".to_owned()) } else { Ok(inbox) }
    })
    .await;
    let news = &inbox.items()[0];
    assert_eq!((&news["type"], id(&news["event_id"])), (&json!("interest_alert"), event));
    assert_eq!(news["title"], "Interest in Jazz");
    assert_eq!(news["body"], "P and 37 others are interested in Jazz.");
    assert_eq!((&news["data"]["alert_id"], &news["data"]["others"]), (&alert["id"], &json!(37)));
    // Redelivery changes nothing, and a follower who acts is not told of themself.
    counter.count(&batch).await;
    counter.count(&[changed(event, fan.id, 2, Some("sure"), "public")]).await;
    assert_eq!(server.count("SELECT count(*) FROM user_alerts").await, 4);
    assert_eq!(get(&server, &fan, "/me/alerts").await.expect(200).items().len(), 1);
    assert_eq!(server.count(WRONG).await, 0);
    server.finish().await;
}

/// More followers than one part tells: each interested one is told once, nobody else, and nobody of
/// themself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_followers_are_told_part_by_part() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let people = server.people(2300).await;
    let counter = Counter::new(&server);
    let follow = |one: &Person| followed(organizer.organization, one.id);
    let follows: Vec<Message> = people.iter().map(follow).collect();
    counter.count(&follows).await;
    let quiet = |one: &Person| changed(event, one.id, 1, Some("maybe"), "private");
    let quiet: Vec<Message> = people.iter().step_by(2).map(quiet).collect();
    counter.count(&quiet).await;
    // Two followers of the last part and one of the first say in public that they come.
    let mut order: Vec<&Person> = people.iter().step_by(2).collect();
    order.sort_unstable_by_key(|one| one.id);
    let loud = [order[order.len() - 1], order[order.len() - 2], order[0]];
    let news: Vec<Message> =
        loud.iter().map(|one| changed(event, one.id, 2, Some("sure"), "public")).collect();
    let handled = counter.count(&news).await;
    assert!(handled.told && number(&handled, "alerts") > 1, "{:?}", handled.counts);
    let mut parts = 0;
    while let Some(next) = told(&server).await.get(parts) {
        counter.count(std::slice::from_ref(next)).await;
        parts += 1;
    }
    assert_eq!(parts, 2);
    let told = "SELECT count(*) FROM user_alerts";
    assert_eq!(server.count(told).await, 1150 + 1);
    let people = "SELECT count(DISTINCT user_id) FROM user_alerts";
    assert_eq!(server.count(people).await, 1150 + 1);
    let mails = "SELECT count(*) FROM outbox WHERE type = 'interest_alert' AND lane = 'mail'";
    assert_eq!(server.count(mails).await, 1150 + 1);
    let own = "SELECT count(*) FROM user_alerts WHERE actor_id = user_id";
    assert_eq!(server.count(own).await, 0);
    for one in loud {
        let alerts = get(&server, one, "/me/alerts").await.expect(200);
        assert_eq!(alerts.items()[0]["others"], 1);
        assert_eq!(alerts.items()[0]["states"], json!({"sure": 2, "maybe": 0, "interested": 0}));
    }
    let alerts = get(&server, &organizer.person, "/me/alerts").await.expect(200);
    assert_eq!(alerts.items()[0]["others"], 2);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_have_pages_and_a_pointer() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let counter = Counter::new(&server);
    for person in server.people(5).await {
        counter.count(&[changed(event, person.id, 1, Some("sure"), "public")]).await;
    }
    let me = &organizer.person;
    let all = get(&server, me, "/me/alerts").await.expect(200);
    assert_eq!((all.items().len(), &all.body["unseen"]), (5, &json!(5)));
    assert_eq!(all.body["last_seen"], Value::Null);
    let (mut seen, mut path) = (Vec::new(), "/me/alerts?limit=2".to_owned());
    loop {
        let page = get(&server, me, &path).await.expect(200);
        seen.extend(page.items().clone());
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/me/alerts?limit=2&cursor={cursor}");
    }
    assert_eq!(&seen, all.items());
    let see = |alert: &Value| put(&server, me, "/me/alerts/seen", json!({"up_to": alert["id"]}));
    let pointed = see(&seen[2]).await.expect(200);
    assert_eq!(pointed.body, json!({"last_seen": seen[2]["id"], "unseen": 2}));
    // It never goes back.
    assert_eq!(see(&seen[4]).await.expect(200).body, pointed.body);
    let listed = get(&server, me, "/me/alerts").await.expect(200);
    let marks: Vec<bool> =
        listed.items().iter().map(|one| one["seen"].as_bool().expect("seen")).collect();
    assert_eq!(marks, [false, false, true, true, true]);
    assert_eq!(see(&seen[0]).await.expect(200).body["unseen"], 0);
    let stranger = server.person().await;
    let theirs = put(&server, &stranger, "/me/alerts/seen", json!({"up_to": seen[0]["id"]})).await;
    theirs.refused(404, "not_found");
    put(&server, me, "/me/alerts/seen", json!({})).await.expect(422);
    server.call("GET", "/me/alerts").send().await.refused(401, "unauthenticated");
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
