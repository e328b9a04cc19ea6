//! Events: made, shown, changed, called off; who sees them, and in which order.

use std::collections::BTreeSet;

use happening::actors::Actor as _;
use happening::actors::event_cascade::EventCascade;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::people::over;
use crate::harness::{TestServer, Wishes, in_days, time};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_is_shown_to_its_organizers_and_then_to_all() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let stranger = server.person().await;
    let path = format!("/organizations/{}/events", organizer.organization);
    let body = over(
        server.usual_event(),
        json!({"description": "Six bands", "venue": "Park",
        "category": "music", "max_seats_per_booking": 4}),
    );
    let ask = || server.call("POST", &path).json(body.clone());
    ask().send().await.refused(401, "unauthenticated");
    ask().bearer(&stranger.token).send().await.refused(404, "not_found");
    let made = ask().bearer(&organizer.person.token).send().await.expect(201);
    let event: Uuid = made.str("id").parse().unwrap();
    assert_eq!(made.header("location"), format!("/api/v1/events/{event}"));
    assert_eq!((made.header("etag"), &made.body["status"]), ("\"1\"", &json!("draft")));
    for (name, value) in body.as_object().unwrap() {
        let same = match name.as_str() {
            "waitlist" => made.body[name]["policy"] == "strict",
            "starts_at" => time(&made.body[name]).to_string() == value.as_str().unwrap(),
            _ => &made.body[name] == value,
        };
        assert!(same, "{name}: {}", made.text);
    }
    let counts = ["available_slots", "confirmed_seats", "reserved_seats", "waitlist_length"];
    assert_eq!(counts.map(|name| made.body[name].as_i64().unwrap()), [10, 0, 0, 0]);
    assert_eq!(made.body["interest"], json!({"sure": 0, "maybe": 0, "interested": 0}));
    let one = format!("/events/{event}");
    let get = |token: &str| server.call("GET", &one).bearer(token).send();
    assert_eq!(get(&organizer.person.token).await.expect(200).body, made.body);
    get(&stranger.token).await.refused(404, "not_found");
    server.call("GET", &one).send().await.refused(404, "not_found");
    server.call("GET", &format!("{one}/seats")).send().await.refused(404, "not_found");
    let publish = format!("{one}/publish");
    let by = |token: &str| server.call("POST", &publish).bearer(token).send();
    by(&stranger.token).await.refused(404, "not_found");
    let shown = server.publish(&organizer, event).await.expect(200);
    assert_eq!((shown.header("etag"), &shown.body["status"]), ("\"2\"", &json!("published")));
    assert_eq!(server.publish(&organizer, event).await.expect(200).body, shown.body);
    assert_eq!(get(&stranger.token).await.expect(200).body, shown.body);
    by(&stranger.token).await.refused(403, "forbidden");
    server.patch(&organizer, event, json!({"capacity": 12})).await.expect(200);
    let cancel = server.call("POST", &format!("{one}/cancel")).bearer(&organizer.person.token);
    cancel.json(json!({"reason": "Rain"})).send().await.expect(200);
    let audit = format!(
        "SELECT action FROM audit_log WHERE subject = '{event}' AND actor_id = '{}' ORDER BY id",
        organizer.person.id
    );
    let noted: Vec<String> = server.sql(&audit).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(noted, ["event.created", "event.published", "event.changed", "event.cancelled"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_guarded_by_the_version_that_was_seen() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let ana = server.person().await;
    server.book(&ana, event, 1).await.expect(201);
    let path = format!("/events/{event}");
    let patch =
        |body: Value| server.call("PATCH", &path).bearer(&organizer.person.token).json(body);
    let first =
        patch(json!({"title": "Night"})).header("if-match", "\"2\"").send().await.expect(200);
    assert_eq!((first.header("etag"), &first.body["title"]), ("\"3\"", &json!("Night")));
    let state = server.state().await;
    for stale in ["\"2\"", "\"99\"", "nonsense"] {
        let refused = patch(json!({"title": "No"})).header("if-match", stale).send().await;
        refused.refused(412, "version_mismatch");
    }
    assert_eq!(server.state().await, state);
    let same = patch(json!({"title": "Night"})).header("if-match", "*").send().await.expect(200);
    assert_eq!(same.header("etag"), "\"3\"", "nothing changed");
    patch(json!({"title": null})).send().await.invalid(&["/title"]);
    let emptied = patch(json!({"description": "x", "venue": "y"})).send().await.expect(200);
    assert_eq!(emptied.body["venue"], "y");
    let emptied = patch(json!({"description": null})).send().await.expect(200);
    assert_eq!((&emptied.body["description"], &emptied.body["venue"]), (&Value::Null, &json!("y")));
    let body = json!({"title": "Mine"});
    let by = |token: &str| server.call("PATCH", &path).bearer(token).json(body.clone()).send();
    by(&ana.token).await.refused(403, "forbidden");
    let contradiction = json!({"ends_at": in_days(server.clock(), 1)});
    patch(contradiction).send().await.invalid(&["/ends_at", "/sales_close_at"][..1]);
    server.check().await;
    assert!(server.inbox(&ana).await.contains(&"event_updated".to_owned()));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_changes_at_once_are_one_after_the_other() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let path = format!("/events/{event}");
    let all = (0..20).map(|n| {
        let ask = server.call("PATCH", &path).bearer(&organizer.person.token);
        ask.header("if-match", "\"2\"").json(json!({"title": format!("Title {n}")})).send()
    });
    let all = futures_util::future::join_all(all).await;
    assert_eq!(all.iter().filter(|reply| reply.status == 200).count(), 1);
    assert_eq!(all.iter().filter(|reply| reply.status == 412).count(), 19);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sold_seats_bound_the_capacity_from_below() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"seating": "numbered", "capacity": 10})).await;
    let ana = server.person().await;
    let booked = server.take(&ana, event, &[2, 9]).await.expect(201);
    let state = server.state().await;
    let below = server.patch(&organizer, event, json!({"capacity": 1})).await;
    below.refused(409, "capacity_below_confirmed");
    let above = server.patch(&organizer, event, json!({"capacity": 8})).await;
    let above = above.refused(409, "seats_above_capacity");
    assert_eq!(above.body["unavailable"], json!([9]));
    assert_eq!(server.state().await, state);
    server.cancel(&ana, &booked.body["id"], json!({"seat_numbers": [9]})).await.expect(200);
    let shrunk = server.patch(&organizer, event, json!({"capacity": 2})).await.expect(200).body;
    assert_eq!((&shrunk["available_slots"], &shrunk["confirmed_seats"]), (&json!(1), &json!(1)));
    server.take(&ana, event, &[3]).await.invalid(&["/seat_numbers"]);
    let grown = server.patch(&organizer, event, json!({"capacity": 3})).await.expect(200).body;
    assert_eq!(grown["available_slots"], 2);
    server.take(&ana, event, &[3]).await.expect(201);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_closes_everything_and_tells_everybody() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 2})).await;
    let people = server.people(3).await;
    for person in &people {
        server.book(person, event, 1).await.expect(201);
    }
    let path = format!("/events/{event}/cancel");
    let cancel = |token: &str| server.call("POST", &path).bearer(token);
    cancel(&people[0].token).send().await.refused(403, "forbidden");
    let reason = json!({"reason": "The band is ill"});
    let off = cancel(&organizer.person.token).json(reason).send().await.expect(200);
    assert_eq!(
        (&off.body["status"], &off.body["cancel_reason"]),
        (&json!("cancelled"), &json!("The band is ill"))
    );
    cancel(&organizer.person.token).send().await.expect(200);
    server.book(&people[0], event, 1).await.refused(409, "event_not_open");
    server.publish(&organizer, event).await.refused(409, "event_not_open");
    let change = server.patch(&organizer, event, json!({"title": "x"})).await;
    change.refused(409, "event_not_open");
    crate::support::eventually(std::time::Duration::from_secs(10), || async {
        let left = "SELECT count(*) FROM bookings WHERE status <> 'cancelled'";
        match server.count(left).await {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    })
    .await;
    server.check().await;
    for person in &people {
        assert!(server.inbox(person).await.contains(&"event_cancelled".to_owned()));
    }
    let seen = server.seen(&people[0], event).await;
    assert_eq!((&seen["confirmed_seats"], &seen["waitlist_length"]), (&json!(0), &json!(0)));
    server.finish().await;
}

/// More bookings than one step cancels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cascade_that_was_cut_off_goes_on() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 30_000})).await;
    let ana = server.person().await;
    server.book(&ana, event, 1).await.expect(201);
    let many = format!(
        "WITH made AS (INSERT INTO bookings
            (id, event_id, user_id, status, seats, created_at, updated_at)
         SELECT gen_random_uuid(), '{event}', '{}', 'confirmed', 1, now(), now()
         FROM generate_series(1, 12000) RETURNING id),
         told AS (INSERT INTO outbox (id, aggregate_id, type, payload, correlation_id, created_at,
            sent_at) SELECT gen_random_uuid(), id, 'booking_confirmed',
            json_build_object('bookingId', id), '', now(), now() FROM made)
         UPDATE events SET confirmed_seats = 12001, available_slots = 17999",
        ana.id
    );
    server.pg().batch_execute(&many).await.unwrap();
    let path = format!("/events/{event}/cancel");
    let cancel = server.call("POST", &path).bearer(&organizer.person.token).send();
    cancel.await.expect(200);
    let left = "SELECT count(*) FROM bookings WHERE status <> 'cancelled'";
    let mut before = server.count(left).await;
    assert_eq!(before, 12_001, "cancelling itself does not wait for all of them");
    let mut steps = 0;
    while before > 0 {
        // Each step by another actor, as after a crash.
        EventCascade { app: server.app().clone() }.step().await.unwrap();
        let after = server.count(left).await;
        assert!(after < before, "a step makes progress");
        crate::support::truth::invariants(server.pg()).await;
        (before, steps) = (after, steps + 1);
    }
    assert!(steps > 1, "it took several steps");
    while server.count("SELECT count(*) FROM events WHERE cascade_done_at IS NULL").await > 0 {
        EventCascade { app: server.app().clone() }.step().await.unwrap();
    }
    let told = "SELECT count(*) FROM outbox WHERE type = 'event_cancelled'";
    assert_eq!(server.count(told).await, 12_001);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_filter_and_search() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let other = server.organizer().await;
    let jazz = json!({"title": "Jazz by the river", "category": "music",
        "starts_at": in_days(server.clock(), 3)});
    let jazz = server.event(&organizer, jazz).await;
    let play = json!({"title": "A play", "description": "Set beside a river", "category": "stage",
        "starts_at": in_days(server.clock(), 5)});
    let play = server.event(&organizer, play).await;
    let draft = server.draft(&organizer, json!({"title": "River draft"})).await;
    let theirs = server.event(&other, json!({"title": "Elsewhere", "category": "music"})).await;
    let gone = server.event(&other, json!({"title": "Gone"})).await;
    let cancel = format!("/events/{gone}/cancel");
    server.call("POST", &cancel).bearer(&other.person.token).send().await.expect(200);
    let list = async |query: &str, token: Option<&str>| {
        let mut ask = server.call("GET", &format!("/events?{query}"));
        if let Some(token) = token {
            ask = ask.bearer(token);
        }
        let ids = ask.send().await.expect(200);
        let ids = ids.items().iter().map(|one| one["id"].as_str().unwrap().parse().unwrap());
        ids.collect::<Vec<Uuid>>()
    };
    let mine = Some(organizer.person.token.as_str());
    let of = format!("organization_id={}", organizer.organization);
    let (at3, at4) = (in_days(server.clock(), 2), in_days(server.clock(), 4));
    for (query, token, wanted) in [
        ("", None, vec![jazz, play, theirs]),
        ("", mine, vec![jazz, play, theirs]),
        ("query=river", None, vec![jazz, play]),
        ("query=riv", None, vec![jazz, play]),
        ("query=RIVER%20jazz", None, vec![jazz]),
        ("query=%27%29%3B--", None, vec![]),
        ("category=music", None, vec![jazz, theirs]),
        ("category=Music", None, vec![]),
        (&format!("from={at4}"), None, vec![play, theirs]),
        (&format!("from={at3}&to={at4}"), None, vec![jazz]),
        (&of, None, vec![jazz, play]),
        (&of, mine, vec![jazz, play, draft]),
        (&format!("{of}&status=draft"), mine, vec![draft]),
        (&format!("{of}&status=draft"), Some(&other.person.token), vec![]),
        ("status=draft", None, vec![]),
        ("status=cancelled", None, vec![gone]),
        (&format!("{of}&category=stage&query=play"), None, vec![play]),
    ] {
        assert_eq!(list(query, token).await, wanted, "{query}");
    }
    let bad = "/events?status=king&from=tomorrow&organization_id=x&limit=0&cursor=x";
    let bad = server.call("GET", bad).send().await;
    bad.invalid(&["/status", "/from", "/organization_id", "/limit", "/cursor"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_stable_while_events_are_added() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let mut wanted = Vec::new();
    for day in [10, 12, 12, 14, 16] {
        let start = json!({"starts_at": in_days(server.clock(), day)});
        wanted.push(server.event(&organizer, start).await);
    }
    let before: BTreeSet<Uuid> = wanted.iter().copied().collect();
    let (mut seen, mut path) = (Vec::new(), "/events?limit=2".to_owned());
    loop {
        let page = server.call("GET", &path).send().await.expect(200);
        let ids = page.items().iter().map(|one| one["id"].as_str().unwrap().parse().unwrap());
        seen.extend(ids.collect::<Vec<Uuid>>());
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        // One before everything, one after everything.
        server.event(&organizer, json!({"starts_at": in_days(server.clock(), 5)})).await;
        path = format!("/events?limit=2&cursor={cursor}");
    }
    let old: Vec<Uuid> = seen.iter().copied().filter(|id| before.contains(id)).collect();
    let unique: BTreeSet<Uuid> = seen.iter().copied().collect();
    assert_eq!(unique.len(), seen.len(), "nothing is seen twice");
    assert_eq!(old.iter().copied().collect::<BTreeSet<_>>(), before, "nothing is left out");
    assert_eq!(seen.len(), 5, "what is put before the page stays there");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_map_has_every_seat_once() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let map = |numbers: &[i64]| {
        let seats: Vec<Value> = numbers.iter().map(|n| json!({"number": n, "x": 1.5})).collect();
        json!({"sections": [{"name": "Stalls", "rows": [{"name": "A", "seats": seats}]}]})
    };
    let numbered = |map: Value| json!({"seating": "numbered", "capacity": 3, "seat_map": map});
    let event = server.event(&organizer, numbered(map(&[1, 2, 3]))).await;
    let path = format!("/organizations/{}/events", organizer.organization);
    let bad = [
        numbered(map(&[1, 2])),
        numbered(map(&[1, 2, 2])),
        numbered(map(&[1, 2, 4])),
        numbered(map(&[0, 1, 2])),
        json!({"seat_map": map(&[1, 2, 3]), "capacity": 3}),
    ];
    let state = server.state().await;
    for more in bad {
        let body = over(server.usual_event(), more);
        let ask = server.call("POST", &path).bearer(&organizer.person.token).json(body.clone());
        let refused = ask.send().await.refused(422, "invalid");
        let pointer = refused.body["errors"][0]["pointer"].as_str().unwrap();
        assert!(pointer.starts_with("/seat_map"), "{}", refused.text);
    }
    assert_eq!(server.state().await, state);
    for path in [format!("/events/{event}"), format!("/events/{event}/seats")] {
        let bare = server.call("GET", &path).send().await.expect(200);
        assert!(bare.body.get("seat_map").is_none());
        let with = server.call("GET", &format!("{path}?include=map")).send().await.expect(200);
        assert_eq!(with.body["seat_map"], map(&[1, 2, 3]));
        let path = format!("{path}?include=all");
        server.call("GET", &path).send().await.invalid(&["/include"]);
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_is_told_of_every_change() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"seating": "numbered"})).await;
    let mut stream = tokio::net::TcpStream::connect(server.client().address()).await.unwrap();
    let path = format!("/api/v1/events/{event}/availability/stream");
    let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut until = async |wanted: &str| {
        let mut bytes = [0; 4096];
        while !text.contains(wanted) {
            let read = stream.read(&mut bytes);
            let read = tokio::time::timeout(std::time::Duration::from_secs(10), read).await;
            let read = read.unwrap_or_else(|_| panic!("{wanted} in {text}")).unwrap();
            assert!(read > 0, "{wanted} in {text}");
            text += &String::from_utf8_lossy(&bytes[..read]);
        }
    };
    until("content-type: text/event-stream").await;
    until("\"taken\":[]").await;
    let ana = server.person().await;
    let booked = server.take(&ana, event, &[4, 7]).await.expect(201);
    until("\"taken\":[4,7]").await;
    server.cancel(&ana, &booked.body["id"], json!({"seats": 1})).await.expect(200);
    until("\"taken\":[4],").await;
    server.finish().await;
}

/// The page of an event that nobody may know of says so, also by its status; its organiser's
/// browser still gets a page that can show them their draft.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_events_that_are_not_there_are_404() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let draft = server.draft(&organizer, json!({})).await;
    let event = server.event(&organizer, json!({})).await;
    let there = server.root("GET", &format!("/events/{event}")).send().await.expect(200);
    for id in [draft.to_string(), Uuid::nil().to_string(), "nonsense".to_owned()] {
        let page = server.root("GET", &format!("/events/{id}")).send().await;
        assert_eq!((page.status, &page.text), (404, &there.text), "{id}");
        assert!(page.header("content-type").starts_with("text/html"));
        assert_eq!(page.header("cache-control"), "no-store");
    }
    server.publish(&organizer, draft).await.expect(200);
    server.root("GET", &format!("/events/{draft}")).send().await.expect(200);
    server.finish().await;
}
