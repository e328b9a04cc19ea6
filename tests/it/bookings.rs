//! Booking and cancelling: general and numbered seats, in whole and in part, and what is refused.

use serde_json::{Value, json};

use crate::harness::{TestServer, in_days};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seats_are_sold_until_there_are_none() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 3})).await;
    let people = server.people(3).await;
    let first = server.book(&people[0], event, 2).await.expect(201);
    assert_eq!(first.header("location"), format!("/api/v1/bookings/{}", first.str("id")));
    let expected = json!({"id": first.body["id"], "event_id": event, "user_id": people[0].id,
        "status": "confirmed", "seats": 2, "seat_numbers": [], "waiting_number": null,
        "cancelled_seats": 0, "created_at": first.body["created_at"]});
    assert_eq!(first.body, expected);
    // One seat is left; it is kept for the party of two that asked before.
    let second = server.book(&people[1], event, 2).await.expect(201);
    assert_eq!(
        (&second.body["status"], &second.body["waiting_number"]),
        (&json!("waitlisted"), &json!(1))
    );
    let third = server.book(&people[2], event, 1).await.expect(201);
    assert_eq!(
        (&third.body["status"], &third.body["waiting_number"]),
        (&json!("waitlisted"), &json!(2))
    );
    let body = json!({"event_id": event, "seats": 1, "waitlist": false});
    server.booking(&people[2], body).send().await.refused(409, "sold_out");
    let seen = server.seen(&people[0], event).await;
    assert_eq!((&seen["available_slots"], &seen["confirmed_seats"]), (&json!(0), &json!(2)));
    assert_eq!((&seen["reserved_seats"], &seen["waitlist_length"]), (&json!(1), &json!(2)));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookings_are_their_owners_affair() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, eve) = (server.person().await, server.person().await);
    let booked = server.book(&ana, event, 1).await.expect(201);
    let path = format!("/bookings/{}", booked.str("id"));
    let get = |token: &str| server.call("GET", &path).bearer(token).send();
    assert_eq!(get(&ana.token).await.expect(200).body, booked.body);
    get(&eve.token).await.refused(404, "not_found");
    server.call("GET", &path).send().await.refused(401, "unauthenticated");
    let cancel = format!("{path}/cancel");
    server.call("POST", &cancel).bearer(&eve.token).send().await.refused(404, "not_found");
    let waitlist = format!("{path}/waitlist");
    server.call("GET", &waitlist).bearer(&eve.token).send().await.refused(404, "not_found");
    let list = server.call("GET", "/me/bookings").bearer(&ana.token).send().await.expect(200);
    assert_eq!(list.body, json!({"items": [booked.body], "next_cursor": null}));
    let none = server.call("GET", "/me/bookings").bearer(&eve.token).send().await.expect(200);
    assert_eq!(none.items().len(), 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ones_bookings_have_pages() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let ana = server.person().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(server.book(&ana, event, 1).await.expect(201).str("id"));
    }
    let cancelled = server.cancel(&ana, &json!(ids[0]), Value::Null).await.expect(200);
    ids.reverse();
    let (mut seen, mut path) = (Vec::new(), "/me/bookings?limit=2".to_owned());
    loop {
        let page = server.call("GET", &path).bearer(&ana.token).send().await.expect(200);
        seen.extend(page.items().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        // What is new comes before what was seen.
        server.book(&ana, event, 1).await.expect(201);
        path = format!("/me/bookings?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ids);
    let path = "/me/bookings?status=cancelled";
    let only = server.call("GET", path).bearer(&ana.token).send().await.expect(200);
    assert_eq!(only.items(), &[cancelled.body]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbered_seats_are_chosen_or_given() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"seating": "numbered", "capacity": 6})).await;
    let people = server.people(4).await;
    let chosen = server.take(&people[0], event, &[5, 2]).await.expect(201);
    assert_eq!(chosen.body["seat_numbers"], json!([2, 5]));
    assert_eq!(chosen.body["seats"], 2);
    let given = server.book(&people[1], event, 3).await.expect(201);
    assert_eq!(given.body["seat_numbers"], json!([1, 3, 4]));
    // All or nothing: of two wanted seats one is gone.
    let state = server.state().await;
    let refused = server.take(&people[2], event, &[5, 6]).await.refused(409, "seats_unavailable");
    assert_eq!(refused.body["unavailable"], json!([5]));
    assert_eq!(server.state().await, state);
    server.take(&people[2], event, &[6]).await.expect(201);
    let path = format!("/events/{event}/seats");
    let seats = server.call("GET", &path).send().await.expect(200).body;
    assert_eq!(seats["taken"], json!([1, 2, 3, 4, 5, 6]));
    assert_eq!((&seats["total"], &seats["available"]), (&json!(6), &json!(0)));
    // What is given back can be taken again.
    let part = json!({"seat_numbers": [3]});
    let less = server.cancel(&people[1], &given.body["id"], part).await.expect(200);
    assert_eq!((&less.body["seat_numbers"], &less.body["seats"]), (&json!([1, 4]), &json!(2)));
    assert_eq!(less.body["cancelled_seats"], 1);
    server.take(&people[3], event, &[3]).await.expect(201);
    let more = server.call("GET", &path).send().await.expect(200).body;
    assert!(more["version"].as_i64() > seats["version"].as_i64());
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_for_the_event_is_refused() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let general = server.event(&organizer, json!({"max_seats_per_booking": 4})).await;
    let numbered = server.event(&organizer, json!({"seating": "numbered"})).await;
    let draft = server.draft(&organizer, json!({})).await;
    let (soon, late) = (in_days(server.clock(), 1), in_days(server.clock(), 2));
    let early = json!({"sales_open_at": soon, "sales_close_at": late});
    let early = server.event(&organizer, early).await;
    let over = server.event(&organizer, json!({})).await;
    let ended =
        format!("UPDATE events SET sales_close_at = now() - interval '1 s' WHERE id = '{over}'");
    server.pg().execute(&ended, &[]).await.unwrap();
    let ana = server.person().await;
    let state = server.state().await;
    server.book(&ana, general, 5).await.invalid(&["/seats"]);
    server.take(&ana, general, &[1]).await.invalid(&["/seat_numbers"]);
    server.take(&ana, numbered, &[11]).await.invalid(&["/seat_numbers"]);
    server.take(&ana, numbered, &(1..=11).collect::<Vec<_>>()).await.invalid(&["/seat_numbers"]);
    server.book(&ana, draft, 1).await.refused(404, "not_found");
    server.book(&ana, ana.id, 1).await.refused(404, "not_found");
    server.book(&ana, early, 1).await.refused(409, "sales_closed");
    server.book(&ana, over, 1).await.refused(409, "sales_closed");
    let hold = json!({"event_id": numbered, "seat_numbers": [1], "hold_token": "nobody's"});
    server.booking(&ana, hold).send().await.refused(409, "hold_expired");
    assert_eq!(server.state().await, state);
    server.finish().await;
}

/// Other programs may hold seats by the documented keys (S4.10).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seats_that_somebody_holds_by_the_documented_key_are_theirs() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"seating": "numbered"})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    for seat in [3, 4] {
        let key = format!("event:{{{event}}}:hold:{seat}");
        let mut set = redis::cmd("SET");
        set.arg(key).arg("token-of-ana").arg("EX").arg(60);
        set.exec_async(&mut server.redis()).await.unwrap();
    }
    let refused = server.take(&ben, event, &[4, 5]).await.refused(409, "seats_unavailable");
    assert_eq!(refused.body["unavailable"], json!([4]));
    let other = json!({"event_id": event, "seat_numbers": [3], "hold_token": "another"});
    server.booking(&ben, other).send().await.refused(409, "hold_expired");
    let own = json!({"event_id": event, "seat_numbers": [3, 4], "hold_token": "token-of-ana"});
    server.booking(&ana, own).send().await.expect(201);
    server.finish().await;
}

/// Chosen seats leave the cursor behind; without Redis PostgreSQL looks as far as it has to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lowest_free_seats_are_found_however_far_they_are() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"seating": "numbered", "capacity": 400})).await;
    let ana = server.person().await;
    for tens in 0..30 {
        let chosen: Vec<u32> = (tens * 10 + 1..=tens * 10 + 10).collect();
        server.take(&ana, event, &chosen).await.expect(201);
    }
    let mut forget = redis::cmd("DEL");
    for part in ["state", "slots", "taken"] {
        forget.arg(format!("event:{{{event}}}:{part}"));
    }
    forget.exec_async(&mut server.redis()).await.unwrap();
    let next = server.book(&ana, event, 3).await.expect(201);
    assert_eq!(next.body["seat_numbers"], json!([301, 302, 303]));
    server.check().await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_gives_seats_back_once() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let ana = server.person().await;
    let booked = server.book(&ana, event, 5).await.expect(201);
    let id = &booked.body["id"];
    let less = server.cancel(&ana, id, json!({"seats": 2})).await.expect(200).body;
    assert_eq!((&less["seats"], &less["cancelled_seats"]), (&json!(3), &json!(2)));
    assert_eq!(less["status"], "confirmed");
    for part in [json!({"seats": 4}), json!({"seats": 0})] {
        server.cancel(&ana, id, part).await.invalid(&["/seats"]);
    }
    server.cancel(&ana, id, json!({"seat_numbers": [1]})).await.invalid(&["/seat_numbers"]);
    let seen = server.seen(&ana, event).await;
    assert_eq!((&seen["available_slots"], &seen["confirmed_seats"]), (&json!(7), &json!(3)));
    let gone = server.cancel(&ana, id, Value::Null).await.expect(200).body;
    assert_eq!(gone["status"], "cancelled");
    let again = server.cancel(&ana, id, json!({})).await.expect(200).body;
    assert_eq!(again, gone);
    server.cancel(&ana, id, json!({"seats": 1})).await.refused(409, "booking_cancelled");
    let seen = server.seen(&ana, event).await;
    assert_eq!((&seen["available_slots"], &seen["confirmed_seats"]), (&json!(10), &json!(0)));
    server.check().await;
    let told = ["booking_confirmed", "booking_cancelled", "booking_cancelled"];
    assert_eq!(server.inbox(&ana).await, told);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_numbers_go_first_when_a_part_is_only_counted() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"seating": "numbered"})).await;
    let ana = server.person().await;
    let booked = server.take(&ana, event, &[2, 7, 9]).await.expect(201);
    let id = &booked.body["id"];
    server.cancel(&ana, id, json!({"seat_numbers": [7, 8]})).await.invalid(&["/seat_numbers"]);
    let both = json!({"seats": 1, "seat_numbers": [7]});
    server.cancel(&ana, id, both).await.invalid(&["/seat_numbers"]);
    let less = server.cancel(&ana, id, json!({"seats": 2})).await.expect(200).body;
    assert_eq!(less["seat_numbers"], json!([2]));
    let none = server.cancel(&ana, id, json!({"seat_numbers": [2]})).await.expect(200).body;
    assert_eq!((&none["status"], &none["seat_numbers"]), (&json!("cancelled"), &json!([])));
    server.finish().await;
}
