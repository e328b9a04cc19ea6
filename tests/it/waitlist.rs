//! Waiting and being promoted: order, policies, reasons, and what organizers see of it.

use serde_json::{Value, json};

use crate::harness::{TestServer, Wishes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_parks_seats_for_the_head_of_the_queue() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 4})).await;
    let people = server.people(4).await;
    let holder = server.book(&people[0], event, 4).await.expect(201);
    let three = server.book(&people[1], event, 3).await.expect(201);
    let one = server.book(&people[2], event, 1).await.expect(201);
    let standing = server.standing(&people[2], &one.body["id"]).await;
    assert_eq!((&standing["position"], &standing["parties_ahead"]), (&json!(2), &json!(1)));
    assert_eq!(standing["seats_ahead"], 3);
    assert!(standing["reason"].as_str().unwrap().contains("1 party before it"), "{standing}");
    // Two seats come back: too few for the head, and the party of one must not pass it.
    server.cancel(&people[0], &holder.body["id"], json!({"seats": 2})).await.expect(200);
    let standing = server.standing(&people[1], &three.body["id"]).await;
    assert_eq!(standing["position"], 1);
    let history: Vec<&str> = standing["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["what"].as_str().unwrap())
        .collect();
    assert_eq!(history, ["joined", "parked"], "{standing}");
    // Newcomers do not jump the queue either.
    let late = server.book(&people[3], event, 1).await.expect(201);
    assert_eq!(late.body["status"], "waitlisted");
    // One more is enough for the head; the one behind it goes on waiting.
    server.cancel(&people[0], &holder.body["id"], json!({"seats": 1})).await.expect(200);
    let get = async |who: usize, booking: &Value| {
        let path = format!("/bookings/{}", booking["id"].as_str().unwrap());
        server.call("GET", &path).bearer(&people[who].token).send().await.expect(200).body
    };
    let promoted = get(1, &three.body).await;
    assert_eq!(
        (&promoted["status"], &promoted["waiting_number"]),
        (&json!("confirmed"), &json!(1))
    );
    assert_eq!(get(2, &one.body).await["status"], "waitlisted");
    let after = server.standing(&people[1], &three.body["id"]).await;
    assert_eq!(
        (&after["position"], &after["history"][2]["what"]),
        (&Value::Null, &json!("promoted"))
    );
    assert!(after["history"][2]["why"].as_str().is_some_and(|why| !why.is_empty()));
    server.cancel(&people[0], &holder.body["id"], Value::Null).await.expect(200);
    assert_eq!(get(2, &one.body).await["status"], "confirmed");
    server.check().await;
    assert_eq!(server.inbox(&people[2]).await, ["booking_waitlisted", "waitlist_promoted"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bypass_lets_who_fits_pass_but_not_for_ever() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let policy = json!({"capacity": 6, "waitlist": {"policy": "bypass", "max_bypass": 2}});
    let event = server.event(&organizer, policy).await;
    let people = server.people(6).await;
    let holder = server.book(&people[0], event, 6).await.expect(201);
    let big = server.book(&people[1], event, 4).await.expect(201);
    let mut small = Vec::new();
    for person in &people[2..5] {
        small.push(server.book(person, event, 1).await.expect(201).body["id"].clone());
    }
    let status = async |who: usize, id: &Value| {
        let path = format!("/bookings/{}", id.as_str().unwrap());
        server.call("GET", &path).bearer(&people[who].token).send().await.expect(200).str("status")
    };
    for (index, id) in small.iter().enumerate().take(2) {
        server.cancel(&people[0], &holder.body["id"], json!({"seats": 1})).await.expect(200);
        assert_eq!(status(index + 2, id).await, "confirmed", "it fits and may pass");
    }
    server.cancel(&people[0], &holder.body["id"], json!({"seats": 1})).await.expect(200);
    assert_eq!(status(4, &small[2]).await, "waitlisted", "the head was passed twice already");
    let standing = server.standing(&people[1], &big.body["id"]).await;
    let bypassed = standing["history"].as_array().unwrap().iter();
    assert_eq!(bypassed.filter(|line| line["what"] == "bypassed").count(), 2, "{standing}");
    server.cancel(&people[0], &holder.body["id"], Value::Null).await.expect(200);
    assert_eq!(status(1, &big.body["id"]).await, "confirmed");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_is_in_the_transaction_of_what_freed_the_seats() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1, "seating": "numbered"})).await;
    let people = server.people(2).await;
    let holder = server.take(&people[0], event, &[1]).await.expect(201);
    let waits = server.book(&people[1], event, 1).await.expect(201);
    server.cancel(&people[0], &holder.body["id"], Value::Null).await.expect(200);
    // Rows carry the transaction that wrote them last.
    let both = "SELECT count(DISTINCT xmin::text) FROM bookings";
    assert_eq!(server.count(both).await, 1, "cancelled and promoted by one transaction");
    let told = "SELECT count(DISTINCT correlation_id) FROM outbox
        WHERE type IN ('booking_cancelled', 'waitlist_promoted')";
    assert_eq!(server.count(told).await, 1, "one request caused both");
    let path = format!("/bookings/{}", waits.str("id"));
    let now = server.call("GET", &path).bearer(&people[1].token).send().await.expect(200).body;
    assert_eq!((&now["status"], &now["seat_numbers"]), (&json!("confirmed"), &json!([1])));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_queue_or_asks_for_less_changes_it_for_all() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 3})).await;
    let people = server.people(4).await;
    server.book(&people[0], event, 1).await.expect(201);
    let three = server.book(&people[1], event, 3).await.expect(201);
    let four = server.book(&people[2], event, 3).await.expect(201);
    let one = server.book(&people[3], event, 1).await.expect(201);
    // The head asks for two instead of three: they are there.
    let less = server.cancel(&people[1], &three.body["id"], json!({"seats": 1})).await.expect(200);
    assert_eq!((&less.body["seats"], &less.body["cancelled_seats"]), (&json!(2), &json!(1)));
    let path = format!("/bookings/{}", three.str("id"));
    let now = server.call("GET", &path).bearer(&people[1].token).send().await.expect(200);
    assert_eq!(now.body["status"], "confirmed");
    // The next one leaves; then it is the last one's turn when a seat comes back.
    let left = server.cancel(&people[2], &four.body["id"], Value::Null).await.expect(200);
    assert_eq!(left.body["status"], "cancelled");
    let standing = server.standing(&people[3], &one.body["id"]).await;
    assert_eq!(standing["position"], 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn organizers_see_who_comes_and_who_waits() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 2})).await;
    let people = server.people(4).await;
    let evil = "=HYPERLINK(\"http://evil\",\"x\")";
    let rename = "UPDATE users SET name = $1 WHERE id = $2";
    server.pg().execute(rename, &[&evil, &people[0].id]).await.unwrap();
    for person in &people {
        server.book(person, event, 1).await.expect(201);
    }
    let get = |path: &str, token: &str| server.call("GET", path).bearer(token);
    let owner = &organizer.person.token;
    let path = format!("/events/{event}/bookings");
    let all = get(&path, owner).send().await.expect(200);
    assert_eq!(all.items().len(), 4);
    assert_eq!(all.items()[0]["user_name"], evil);
    let waiting = format!("{path}?status=waitlisted&limit=1");
    let page = get(&waiting, owner).send().await.expect(200);
    assert_eq!(page.items()[0]["user_id"], json!(people[2].id));
    let next = format!("{waiting}&cursor={}", page.str("next_cursor"));
    let page = get(&next, owner).send().await.expect(200);
    assert_eq!(
        (page.items()[0]["user_id"].clone(), page.body["next_cursor"].clone()),
        (json!(people[3].id), Value::Null)
    );
    let queue = format!("/events/{event}/waitlist");
    let page = get(&queue, owner).send().await.expect(200);
    let places: Vec<_> = page.items().iter().map(|one| one["position"].as_i64()).collect();
    assert_eq!(places, [Some(1), Some(2)]);
    for path in [&path, &queue] {
        // Everybody may see the event, not who comes.
        get(path, &people[0].token).send().await.refused(403, "forbidden");
        server.call("GET", path).send().await.refused(401, "unauthenticated");
    }
    let csv = get(&path, owner).header("accept", "text/csv").send().await.expect(200);
    assert!(csv.header("content-type").starts_with("text/csv"), "{:?}", csv.headers);
    assert!(csv.header("content-disposition").starts_with("attachment"));
    let lines: Vec<&str> = csv.text.split("\r\n").filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 5, "{}", csv.text);
    assert!(csv.text.contains("\"'=HYPERLINK(\"\"http://evil\"\",\"\"x\"\")\""), "{}", csv.text);
    let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let risky = |cell: &String| cell.starts_with(['=', '+', '@', '-']);
    assert!(!lines[2..].iter().any(|line| cells(line).iter().any(risky)), "{}", csv.text);
    let csv = get(&queue, owner).header("accept", "text/csv").send().await.expect(200);
    assert!(csv.text.starts_with("position,booking_id,") && csv.text.contains("\r\n2,"));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growth_serves_the_queue_and_shrinking_keeps_what_is_sold() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 2})).await;
    let people = server.people(4).await;
    let first = server.book(&people[0], event, 2).await.expect(201);
    for person in &people[1..] {
        server.book(person, event, 2).await.expect(201);
    }
    let grown = server.patch(&organizer, event, json!({"capacity": 5})).await.expect(200).body;
    assert_eq!((&grown["confirmed_seats"], &grown["reserved_seats"]), (&json!(4), &json!(1)));
    assert_eq!((&grown["available_slots"], &grown["waitlist_length"]), (&json!(0), &json!(2)));
    let refused = server.patch(&organizer, event, json!({"capacity": 3})).await;
    refused.refused(409, "capacity_below_confirmed");
    let shrunk = server.patch(&organizer, event, json!({"capacity": 4})).await.expect(200).body;
    assert_eq!((&shrunk["confirmed_seats"], &shrunk["reserved_seats"]), (&json!(4), &json!(0)));
    // A party that is larger than the event is passed over, with the reason in its history.
    server.cancel(&people[0], &first.body["id"], json!({"seats": 1})).await.expect(200);
    let tiny = server.patch(&organizer, event, json!({"capacity": 3})).await.expect(200).body;
    assert_eq!(tiny["waitlist_length"], 2);
    server.finish().await;
}

/// In one batch somebody joins a queue that was empty before, and a seat is given back: nobody
/// else comes by, and there is no sweeper that would find it later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_while_a_seat_is_given_back_gets_it() {
    let server = Wishes::default().without_loops().start().await;
    let organizer = server.organizer().await;
    let people = server.people(2).await;
    let (ana, ben) = (&people[0], &people[1]);
    let mut booked = Vec::new();
    for turn in 0..40 {
        let seating = if turn % 2 == 0 { "general" } else { "numbered" };
        let event = server.event(&organizer, json!({"capacity": 1, "seating": seating})).await;
        let booking = server.book(ana, event, 1).await.expect(201).body["id"].clone();
        booked.push((event, booking));
    }
    let asks = booked.iter().map(|(event, booking)| async {
        let wish = server.book(ben, *event, 1);
        tokio::join!(wish, server.cancel(ana, booking, Value::Null))
    });
    for (wish, cancelled) in futures_util::future::join_all(asks).await {
        cancelled.expect(200);
        wish.expect(201);
    }
    let left = "SELECT count(*) FROM bookings b JOIN events e ON e.id = b.event_id
        WHERE b.status = 'waitlisted' AND e.reserved_seats >= b.seats";
    assert_eq!(server.count(left).await, 0, "they wait though seats are kept for them");
    server.finish().await;
}

/// The view of the queue in Redis has people in it, not parties: who left has to be the right one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_person_may_wait_twice_and_leave_once() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 1})).await;
    let people = server.people(2).await;
    let (ana, ben) = (&people[0], &people[1]);
    server.book(ben, event, 1).await.expect(201);
    server.book(ana, event, 1).await.expect(201);
    server.book(ben, event, 1).await.expect(201);
    let later = server.book(ana, event, 1).await.expect(201);
    server.cancel(ana, &later.body["id"], Value::Null).await.expect(200);
    // Redis shows ana before ben, as PostgreSQL does.
    server.finish().await;
}
