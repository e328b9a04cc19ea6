//! Messages about interests are counted once, whatever comes twice or late, and told to those whom
//! they concern.

use std::sync::Arc;
use std::time::Duration;

use happening::actors::janitor::Janitor;
use happening::actors::{Actor as _, Next};
use happening::app::messages::handle::Message;
use happening::clock::{Clock, Ids};
use jiff::SignedDuration;
use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::harness::interactions::{
    Counter, WRONG, changed, followed, get, interest, message, number, put, told,
};
use crate::harness::people::Person;
use crate::harness::{TestServer, Wishes, id};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(20);
const STATES: [Option<&str>; 4] = [Some("sure"), Some("maybe"), Some("interested"), None];

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
    // Whoever hides is named no more, wherever they were named.
    counter.count(&[changed(event, people[0].id, 2, Some("maybe"), "private")]).await;
    let alerts = get(&server, &fan, "/me/alerts").await.expect(200);
    let alert = &alerts.items()[0];
    assert_eq!(alert["text"], "Somebody and 37 others are interested in Jazz.");
    let inbox = get(&server, &fan, "/me/notifications").await.expect(200);
    let news = &inbox.items()[0];
    assert_eq!(news["body"], alert["text"]);
    assert_eq!((&news["data"]["others"], news["data"].get("actor_id")), (&json!(37), None));
    server.finish().await;
}

/// Somebody says that they come, and hides before the mail is out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hid_before_the_mail_is_out_is_not_named() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"title": "Jazz"})).await;
    let ana = server.person().await;
    let hidden = json!({"state": "sure", "privacy": "private"});
    interest(&server, &ana, event, hidden).await.expect(200);
    let mail = json!({"type": "interest_alert", "eventId": event, "userId": organizer.person.id,
        "alert": {"id": Ids.uuid(), "actorId": ana.id, "others": 2, "sure": 3, "maybe": 0,
            "interested": 0}});
    server.queue().publish(&mail.to_string(), BasicProperties::default()).await;
    let inbox = eventually(SOON, || async {
        let inbox = get(&server, &organizer.person, "/me/notifications").await.expect(200);
        if inbox.items().is_empty() { Err("not yet".to_owned()) } else { Ok(inbox) }
    })
    .await;
    assert_eq!(inbox.items()[0]["body"], "Somebody and 2 others are interested in Jazz.");
    let row = &server.sql("SELECT body || data::text FROM notifications").await[0];
    let kept: &str = row.get(0);
    assert!(!kept.contains(&ana.id.to_string()), "{kept}");
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

/// Old alerts go, but nobody is told again of whom they told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_alerts_are_forgotten() {
    let clock = Clock::manual(Clock::default().now());
    let wishes = Wishes::default().without_loops().clock(&clock);
    let server = wishes.set("HAPPENING__INTERESTS__ALERT_DAYS", "10").start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, ben) = (server.person().await.id, server.person().await.id);
    let counter = Counter::new(&server);
    counter.count(&[changed(event, ana, 1, Some("sure"), "public")]).await;
    let earlier = "UPDATE user_alerts SET created_at = created_at - interval '1 day'";
    server.pg().batch_execute(earlier).await.unwrap();
    counter.count(&[changed(event, ben, 1, Some("sure"), "public")]).await;
    let app = server.app();
    let mut janitor = Janitor::new(app.db.clone(), clock.clone(), Arc::clone(&app.config));
    let alerts = "SELECT count(*) FROM user_alerts";
    for (hours, left) in [(9 * 24 - 1, 2), (2, 1), (22, 1), (2, 0)] {
        clock.advance(SignedDuration::from_hours(hours));
        while janitor.step().await.unwrap() == Next::Again {}
        assert_eq!(server.count(alerts).await, left, "after {hours} hours more");
    }
    let gone = counter.count(&[changed(event, ana, 2, None, "public")]).await;
    assert_eq!(number(&gone, "updated"), 1);
    counter.count(&[changed(event, ana, 3, Some("sure"), "public")]).await;
    assert_eq!(server.count(alerts).await, 0);
    server.finish().await;
}
