//! Plain WebSockets: everybody sees the same seats, whatever is lost on the way, and who holds is
//! told of their holds.

use std::time::Duration;

use happening::domain::ids::EventId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::people::over;
use crate::harness::wire::{Map, Wire, socket};
use crate::harness::{TestServer, Wishes, spawn};
use crate::support::eventually;

/// How soon what has to happen happens.
pub const SOON: Duration = Duration::from_secs(10);

/// An event with so many numbered seats.
pub async fn hall(server: &TestServer, capacity: u32, more: Value) -> Uuid {
    let organizer = server.organizer().await;
    let base = json!({"seating": "numbered", "capacity": capacity});
    server.event(&organizer, over(base, more)).await
}

/// The watcher's map becomes what the API says.
pub async fn agrees(server: &TestServer, wire: &mut Wire, event: Uuid) -> Map {
    let truth = server.map(event).await;
    let map = wire.map_until(|map| map.version >= truth.version).await;
    assert_eq!(map, truth);
    assert!(!wire.gap, "no gap is left open");
    map
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_every_change_on_every_process() {
    let mut server = TestServer::start().await;
    let (other, _) = server.another().await;
    let event = hall(&server, 10, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let mut watcher = server.watcher().await;
    let first = watcher.join(event).await;
    assert_eq!(
        (&first["total"], &first["taken"], &first["held"]),
        (&json!(10), &json!([]), &json!([]))
    );
    assert_eq!((&first["mine"], &first["expires_at"]), (&json!([]), &Value::Null));
    let (mut hers, mut his) = (server.socket(&ana).await, socket(&other, &ben).await);
    hers.join(event).await;
    his.join(event).await;

    let granted = hers.hold(event, &[3, 4]).await;
    assert_eq!(granted["type"], "hold_result");
    assert_eq!((&granted["granted"], &granted["conflicts"]), (&json!([3, 4]), &json!([])));
    let token = granted["hold_token"].as_str().unwrap().to_owned();
    for wire in [&mut watcher, &mut his] {
        let map = wire.map_until(|map| map.held.len() == 2).await;
        assert_eq!((map.available, map.held.contains(&3)), (8, true));
    }
    let refused = his.hold(event, &[4, 5]).await;
    assert_eq!((&refused["granted"], &refused["conflicts"]), (&json!([]), &json!([4])));
    // The wanted set is the whole set.
    let moved = hers.hold(event, &[4, 6]).await;
    assert_eq!((&moved["granted"], &moved["hold_token"]), (&json!([4, 6]), &json!(token)));
    his.map_until(|map| map.held == [4, 6].into()).await;

    let body = json!({"event_id": event, "seat_numbers": [4, 6], "hold_token": token});
    let booked = server.booking(&ana, body).send().await.expect(201);
    for wire in [&mut watcher, &mut his] {
        wire.map_until(|map| map.taken == [4, 6].into() && map.held.is_empty()).await;
        agrees(&server, wire, event).await;
    }
    server.cancel(&ana, &booked.body["id"], json!({"seat_numbers": [6]})).await.expect(200);
    for wire in [&mut watcher, &mut hers, &mut his] {
        wire.map_until(|map| map.taken == [4].into() && map.available == 9).await;
        agrees(&server, wire, event).await;
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_parties_are_promoted_before_everybodys_eyes() {
    let server = TestServer::start().await;
    let event = hall(&server, 2, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let both = server.take(&ana, event, &[1, 2]).await.expect(201);
    let mut watcher = server.watcher().await;
    watcher.join(event).await;
    assert_eq!((watcher.map.available, watcher.map.taken.len()), (0, 2));
    server.book(&ben, event, 1).await.expect(201);
    server.cancel(&ana, &both.body["id"], json!({"seat_numbers": [2]})).await.expect(200);
    eventually(SOON, || async {
        let told = server.inbox(&ben).await;
        if told.iter().any(|kind| kind == "waitlist_promoted") {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await;
    let map = agrees(&server, &mut watcher, event).await;
    assert_eq!((map.available, map.taken.len()), (0, 2));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_goes_on_from_where_they_were() {
    let server = TestServer::start().await;
    let event = hall(&server, 20, json!({})).await;
    let ana = server.person().await;
    let mut hers = server.socket(&ana).await;
    hers.join(event).await;
    let mut watcher = server.watcher().await;
    watcher.join(event).await;
    let since = watcher.map.clone();
    for seat in 1..=3 {
        hers.hold(event, &[seat]).await;
        watcher.map_until(|map| map.held == [u64::from(seat)].into()).await;
    }
    let mut back = server.watcher().await;
    back.map = since.clone();
    let again = json!({"type": "join", "event_id": event, "since": since.version, "ref": "r"});
    back.say(again).await;
    let joined = back.next().await.unwrap();
    assert_eq!((&joined["type"], &joined["ref"]), (&json!("joined"), &json!("r")));
    assert_eq!(joined["version"], since.version);
    back.map_until(|map| map.version == watcher.map.version).await;
    assert_eq!((&back.map, back.gap), (&watcher.map, false));
    // From another time: the seats afresh.
    for since in [since.version - 1_000_000, since.version + 1_000_000] {
        back.say(json!({"type": "join", "event_id": event, "since": since, "ref": "s"})).await;
        let afresh = back.find(|frame| frame["ref"] == "s").await;
        assert_eq!(afresh["type"], "snapshot");
    }
    assert_eq!(back.map, watcher.map);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_outlive_a_socket_for_the_grace_and_no_longer() {
    let server = Wishes::default().set("HAPPENING__HOLDS__GRACE_MS", "1500").start().await;
    let event = hall(&server, 10, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let mut watcher = server.watcher().await;
    watcher.join(event).await;
    let mut hers = server.socket(&ana).await;
    hers.join(event).await;
    let granted = hers.hold(event, &[1, 2]).await;
    let token = granted["hold_token"].clone();
    watcher.map_until(|map| map.held == [1, 2].into()).await;
    drop(hers);
    // Back in time.
    let mut hers = server.socket(&ana).await;
    hers.say(json!({"type": "join", "event_id": event, "hold_token": token, "ref": 1})).await;
    let back = hers.find(|frame| frame["ref"] == 1).await;
    assert_eq!((&back["mine"], &back["hold_token"]), (&json!([1, 2]), &token));
    assert_eq!(back["renewals_left"], granted["renewals_left"]);
    // The token is hers: nobody else has her seats with it.
    let mut his = server.socket(&ben).await;
    his.say(json!({"type": "join", "event_id": event, "hold_token": token, "ref": 1})).await;
    assert_eq!(his.find(|frame| frame["ref"] == 1).await["mine"], json!([]));
    hers.say(json!({"type": "renew", "ref": 2})).await;
    let renewed = hers.find(|frame| frame["ref"] == 2).await;
    assert_eq!((&renewed["type"], &renewed["granted"]), (&json!("hold_result"), &json!([1, 2])));
    // Gone for good: the seats are free again without anybody's doing.
    drop(hers);
    watcher.map_until(|map| map.held.is_empty()).await;
    agrees(&server, &mut watcher, event).await;
    let granted = his.hold(event, &[1, 2]).await;
    assert_eq!(granted["granted"], json!([1, 2]));
    his.say(json!({"type": "release", "ref": 3})).await;
    let released = his.find(|frame| frame["ref"] == 3).await;
    assert_eq!((&released["granted"], &released["hold_token"]), (&json!([]), &Value::Null));
    watcher.map_until(|map| map.held.is_empty()).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_is_warned_and_told_of_the_end() {
    let server = Wishes::default()
        .set("HAPPENING__HOLDS__TTL_MS", "1500")
        .set("HAPPENING__HOLDS__AGE_MAX_MS", "6000")
        .set("HAPPENING__SOCKETS__WARN_MS", "1000")
        .start()
        .await;
    let event = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    let mut hers = server.socket(&ana).await;
    let mut watcher = server.watcher().await;
    watcher.join(event).await;
    let granted = hers.hold(event, &[7]).await;
    assert_eq!(granted["granted"], json!([7]));
    watcher.map_until(|map| map.held == [7].into()).await;
    let warning = hers.until("hold_expiring").await;
    assert_eq!(
        (&warning["seat_numbers"], &warning["expires_at"]),
        (&json!([7]), &granted["expires_at"])
    );
    let ended = hers.until("hold_expired").await;
    assert_eq!((&ended["event_id"], &ended["seat_numbers"]), (&json!(event), &json!([7])));
    watcher.map_until(|map| map.held.is_empty()).await;
    hers.say(json!({"type": "renew", "ref": 1})).await;
    assert_eq!(hers.find(|frame| frame["ref"] == 1).await["code"], "hold_expired");
    agrees(&server, &mut watcher, event).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_on_the_way_is_found() {
    let server = TestServer::start().await;
    let event = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    let mut watcher = server.watcher().await;
    watcher.join(event).await;
    let mut redis = server.redis();
    // The subscription dies, again and again, while things happen.
    for seat in 1..=5 {
        let killed: i64 = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "pubsub"])
            .query_async(&mut redis)
            .await
            .unwrap();
        assert!(killed <= 1);
        server.take(&ana, event, &[seat]).await.expect(201);
    }
    watcher.map_until(|map| map.taken.len() == 5).await;
    agrees(&server, &mut watcher, event).await;
    // A delta that nobody ever heard: only the version tells of it.
    let key = format!("event:{{{event}}}:state");
    redis::cmd("HINCRBY").arg(&key).arg("seq").arg(3).exec_async(&mut redis).await.unwrap();
    let lost = watcher.map.version + 3;
    watcher.map_until(|map| map.version == lost).await;
    agrees(&server, &mut watcher, event).await;
    // One that was heard after one that was not, and one that nobody can read.
    let channel = format!("event:{{{event}}}:deltas");
    redis::cmd("HINCRBY").arg(&key).arg("seq").arg(2).exec_async(&mut redis).await.unwrap();
    let gap = json!({"v": lost + 2, "held": [9], "available": 4}).to_string();
    for message in [gap.as_str(), "{", "\u{0}"] {
        redis::cmd("PUBLISH").arg(&channel).arg(message).exec_async(&mut redis).await.unwrap();
    }
    watcher.map_until(|map| map.version == lost + 2).await;
    let map = agrees(&server, &mut watcher, event).await;
    assert!(map.held.is_empty(), "what was read is believed, not what was said: {map:?}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_of_redis_voids_holds_and_everybody_learns_it() {
    let server = TestServer::start().await;
    let event = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    server.take(&ana, event, &[1]).await.expect(201);
    let mut hers = server.socket(&ana).await;
    hers.join(event).await;
    hers.hold(event, &[2, 3]).await;
    hers.map_until(|map| map.held.len() == 2).await;
    redis::cmd("FLUSHALL").exec_async(&mut server.redis()).await.unwrap();
    let ended = hers.until("hold_expired").await;
    assert_eq!(ended["seat_numbers"], json!([2, 3]));
    eventually(SOON, || async {
        let truth = server.map(event).await;
        let free = truth.held.is_empty() && truth.taken == [1].into();
        if free && truth.version > 1 << 32 { Ok(()) } else { Err(format!("{truth:?}")) }
    })
    .await;
    agrees(&server, &mut hers, event).await;
    let granted = hers.hold(event, &[2]).await;
    assert_eq!(granted["granted"], json!([2]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inbox_fills_before_its_owners_eyes() {
    let mut server = TestServer::start().await;
    let (other, _) = server.another().await;
    let event = hall(&server, 5, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let (mut here, mut there) = (server.socket(&ana).await, socket(&other, &ana).await);
    let mut his = server.socket(&ben).await;
    let booked = server.take(&ana, event, &[1]).await.expect(201);
    let (one, two) = (here.until("notification").await, there.until("notification").await);
    assert_eq!(one, two);
    let inbox = server.call("GET", "/me/notifications").bearer(&ana.token).send().await;
    assert_eq!(one["notification"], inbox.expect(200).items()[0]);
    assert_eq!(one["notification"]["booking_id"], booked.body["id"]);
    his.say(json!({"type": "ping"})).await;
    assert_eq!(his.next().await.unwrap()["type"], "pong", "others are told nothing");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_says_goodbye_and_does_not_wait() {
    let mut server = TestServer::start().await;
    let event = hall(&server, 5, json!({})).await;
    let ana = server.person().await;
    let (other, _) = server.another().await;
    let mut wire = socket(&other, &ana).await;
    wire.join(event).await;
    let granted = wire.hold(event, &[1]).await;
    let begun = std::time::Instant::now();
    server.stop_last().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let (frames, closed) = wire.end().await;
    let bye = frames.iter().find(|frame| frame["type"] == "bye").expect("a goodbye");
    assert_eq!((&bye["code"], closed.code), (&json!("shutting_down"), 1001));
    assert!(bye["retry_after_ms"].as_u64().unwrap() < 5_000);
    // On to the next process, with what was held.
    let mut wire = server.socket(&ana).await;
    let token = &granted["hold_token"];
    wire.say(json!({"type": "join", "event_id": event, "hold_token": token, "ref": 1})).await;
    assert_eq!(wire.find(|frame| frame["ref"] == 1).await["mine"], json!([1]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_drawn_together_and_ends_exact() {
    let server = Wishes::default()
        .set("HAPPENING__SOCKETS__MAX_PER_ADDRESS", "1000")
        .set("HAPPENING__SOCKETS__FRAMES_PER_SECOND", "10000")
        .set("HAPPENING__SOCKETS__FRAMES_BURST", "10000")
        .start()
        .await;
    let event = hall(&server, 200, json!({})).await;
    let mut watchers = Vec::new();
    for _ in 0..100 {
        let mut watcher = server.watcher().await;
        watcher.join(event).await;
        watchers.push(watcher);
    }
    let people = server.people(8).await;
    let mut holders = Vec::new();
    for (index, person) in (0..8).zip(&people) {
        let mut wire = server.socket(person).await;
        holders.push(spawn(async move {
            wire.join(event).await;
            for round in 0..100_u32 {
                wire.hold(event, &[index * 20 + round % 20 + 1]).await;
            }
            wire
        }));
    }
    let mut kept = Vec::new();
    for holder in holders {
        kept.push(holder.await.unwrap());
    }
    let truth = server.map(event).await;
    assert_eq!(truth.held.len(), 8);
    for watcher in &mut watchers {
        let map = watcher.map_until(|map| map.version >= truth.version).await;
        assert_eq!((map, watcher.gap), (truth.clone(), false));
    }
    let room = server.app().rooms.find(EventId(event)).expect("people are in it");
    assert_eq!(room.watchers(), 108);
    drop((watchers, kept));
    eventually(SOON, || async {
        match (server.app().rooms.open(), server.app().rooms.find(EventId(event)).is_some()) {
            (0, false) => Ok(()),
            left => Err(format!("left: {left:?}")),
        }
    })
    .await;
    server.finish().await;
}

/// After a stop all who watched come back at once. PostgreSQL is slow just then, and somebody else
/// needs a connection too: each of the crowd waits, and none is sent away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_gets_in_by_one_question() {
    let server = Wishes::default()
        .set("HAPPENING__POSTGRES__POOL_SIZE", "2")
        .set("HAPPENING__POSTGRES__ACQUIRE_TIMEOUT_MS", "300")
        .set("HAPPENING__POSTGRES__LOCK_TIMEOUT_MS", "60000")
        .set("HAPPENING__POSTGRES__STATEMENT_TIMEOUT_MS", "60000")
        .start()
        .await;
    let event = hall(&server, 10, json!({})).await;
    let mut crowd = Vec::new();
    for _ in 0..30 {
        crowd.push(server.watcher().await);
    }
    server.pg().batch_execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for wire in &mut crowd {
        wire.say(json!({"type": "join", "event_id": event, "ref": "join"})).await;
    }
    // The other connection waits for the lock by now, and whoever comes waits in vain for one.
    let path = format!("/events/{event}");
    let ask = || spawn(server.call("GET", &path).send());
    let (first, second) = (ask(), ask());
    eventually(SOON, || async {
        if first.is_finished() || second.is_finished() {
            Ok(())
        } else {
            Err("both wait".to_owned())
        }
    })
    .await;
    server.pg().batch_execute("COMMIT").await.unwrap();
    for wire in &mut crowd {
        let answer = wire.find(|frame| frame["ref"] == "join").await;
        assert_eq!(answer["type"], "snapshot", "{answer}");
    }
    for answer in [first, second] {
        let answer = answer.await.unwrap();
        assert!([200, 503].contains(&answer.status), "{}", answer.status);
    }
    server.finish().await;
}
