//! Who may open sockets, what they may send, and how long: strangers, floods, nonsense and silence
//! are ended, with a code, and harm nobody else.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::harness::people::Person;
use crate::harness::wire::{Wire, ticket};
use crate::harness::{TestServer, Wishes, spawn};
use crate::sockets::{SOON, agrees, hall};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_kept_out_and_everybody_sees_only_what_they_may() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let draft = server.draft(&organizer, json!({})).await;
    let event = server.event(&organizer, json!({})).await;
    let ana = server.person().await;
    let at = server.client().address();
    let origin = |origin| {
        let headers = [("origin", origin)];
        async move { Wire::open(at, "/ws", &headers).await.err() }
    };
    assert_eq!(origin("https://evil.example").await, Some(403));
    assert_eq!(origin("null").await, Some(403));
    assert_eq!(origin("http://127.0.0.1:9").await, None, "our own pages, whatever their port");
    // A ticket is good once.
    let path = format!("/ws?ticket={}", ticket(server.client(), &ana).await);
    Wire::open(at, &path, &[]).await.expect("once");
    for path in [path.as_str(), "/ws?ticket=", "/ws?ticket=nonsense"] {
        assert_eq!(Wire::open(at, path, &[]).await.err(), Some(401), "{path}");
    }
    assert_eq!(Wire::open(at, "/ws", &[("authorization", "Bearer x")]).await.err(), Some(401));
    let bearer = format!("Bearer {}", ana.token);
    Wire::open(at, "/ws", &[("authorization", &bearer)]).await.expect("programs send tokens");
    server.root("GET", "/ws").send().await.refused(400, "malformed");

    let mut watcher = server.watcher().await;
    for (event, code) in [(draft, "not_found"), (Uuid::nil(), "not_found")] {
        watcher.say(json!({"type": "join", "event_id": event, "ref": 1})).await;
        assert_eq!(watcher.find(|frame| frame["ref"] == 1).await["code"], code);
    }
    let refused = watcher.hold(event, &[1]).await;
    assert_eq!(refused["code"], "unauthenticated");
    let mut hers = server.socket(&organizer.person).await;
    assert_eq!(hers.join(draft).await["total"], 10);
    // General seats cannot be held.
    let refused = hers.hold(event, &[1]).await;
    assert_eq!(refused["type"], "error");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_with_a_code_and_harms_nobody() {
    let server = TestServer::start().await;
    let event = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    let mut watcher = server.watcher().await;
    watcher.join(event).await;
    let mut bad = server.socket(&ana).await;
    bad.join(event).await;
    for (frame, code) in [
        ("", "malformed"),
        ("{", "malformed"),
        ("[1]", "malformed"),
        ("{\"type\":\"join\"}", "invalid"),
        ("{\"type\":\"dance\"}", "unknown_type"),
        ("{\"type\":\"ping\",\"x\":1}", "malformed"),
    ] {
        bad.send(Message::text(frame)).await;
        assert_eq!(bad.next().await.unwrap()["code"], code, "{frame}");
    }
    bad.send(Message::binary(vec![0, 159, 146, 150])).await;
    assert_eq!(bad.next().await.unwrap()["code"], "binary_not_supported");
    for seats in [json!([11]), json!([4_000_000_000_u32]), json!((1..=200).collect::<Vec<_>>())] {
        bad.say(json!({"type": "hold", "event_id": event, "seat_numbers": seats, "ref": 1})).await;
        let answer = bad.find(|frame| frame["ref"] == 1).await;
        assert!(answer["type"] == "error" || answer["granted"] == json!([]), "{answer}");
    }
    for kind in ["renew", "leave"] {
        bad.say(json!({"type": kind, "event_id": Uuid::nil(), "ref": 2})).await;
        assert_eq!(bad.find(|frame| frame["ref"] == 2).await["type"], "error");
    }
    bad.say(json!({"type": "ping", "ref": "still here"})).await;
    assert_eq!(bad.until("pong").await["ref"], "still here");

    // What breaks the protocol ends the socket, with the code that the protocol has for it.
    let frames: [(&[u8], u16); 5] = [
        (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe], 1007),
        (&[0x81, 0xff, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0], 1009),
        (&[0x81, 0x02, b'{', b'}'], 1002),
        (&[0x80, 0x80, 0, 0, 0, 0], 1002),
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),
    ];
    for (bytes, code) in frames {
        let mut broken = server.watcher().await;
        broken.raw().write_all(bytes).await.unwrap();
        assert_eq!(broken.end().await.1.code, code, "{bytes:?}");
    }
    // A message of many small parts is as large as all of them.
    let mut parts = server.watcher().await;
    parts.raw().write_all(&[0x01, 0x80, 0, 0, 0, 0]).await.unwrap();
    for _ in 0..20 {
        let mut part = vec![0x00, 0xfe, 0x04, 0x00, 0, 0, 0, 0];
        part.resize(8 + 1024, b' ');
        parts.raw().write_all(&part).await.unwrap();
    }
    assert_eq!(parts.end().await.1.code, 1009);

    server.take(&ana, event, &[5]).await.expect(201);
    watcher.map_until(|map| map.taken == [5].into()).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_half_frames_and_silence_are_ended() {
    let server = Wishes::default()
        .set("HAPPENING__SOCKETS__PING_MS", "300")
        .set("HAPPENING__SOCKETS__IDLE_MS", "900")
        .start()
        .await;
    let mut flood = server.watcher().await;
    for _ in 0..400 {
        flood.say(json!({"type": "ping"})).await;
    }
    let (frames, closed) = flood.end().await;
    let count = |kind: &str| frames.iter().filter(|frame| frame["type"] == kind).count();
    assert!(count("pong") >= 60 && count("error") >= 100, "{} {}", count("pong"), count("error"));
    assert_eq!(frames.last().unwrap()["code"], "too_many_frames");
    assert_eq!((frames.last().unwrap()["type"].as_str(), closed.code), (Some("bye"), 1008));
    // Half a frame, then nothing; it does not even answer pings.
    let mut half = server.watcher().await;
    half.raw().write_all(&[0x81, 0x90, 1, 2, 3, 4, 5]).await.unwrap();
    let open = server.app().rooms.open();
    assert_eq!(open, 1);
    eventually(SOON, || async {
        match server.app().rooms.open() {
            0 => Ok(()),
            open => Err(format!("{open} are open")),
        }
    })
    .await;
    // Who answers pings may be silent.
    let mut quiet = server.watcher().await;
    let reading = spawn(async move { quiet.end().await });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(server.app().rooms.open(), 1, "still there");
    server.finish().await;
    let (frames, closed) = reading.await.unwrap();
    assert_eq!((frames.len(), &frames[0]["type"], closed.code), (1, &json!("bye"), 1001));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_dropped_and_delays_nobody() {
    let server = Wishes::default()
        .set("HAPPENING__SOCKETS__WRITE_TIMEOUT_MS", "500")
        .set("HAPPENING__SOCKETS__FRAMES_PER_SECOND", "100000")
        .set("HAPPENING__SOCKETS__FRAMES_BURST", "100000")
        .start()
        .await;
    // Large snapshots, which nobody reads.
    let event = hall(&server, 5_000, json!({"max_seats_per_booking": 100})).await;
    let ana = server.person().await;
    let mut watcher = server.watcher().await;
    watcher.join(event).await;
    let mut slow = server.watcher().await;
    let stuck = spawn(async move {
        for _ in 0..200_000 {
            slow.say(json!({"type": "join", "event_id": event})).await;
        }
        slow
    });
    for seat in 1..=20 {
        server.take(&ana, event, &[seat]).await.expect(201);
    }
    watcher.map_until(|map| map.taken.len() == 20).await;
    eventually(Duration::from_secs(20), || async {
        match server.app().rooms.open() {
            1 => Ok(()),
            open => Err(format!("{open} are open")),
        }
    })
    .await;
    stuck.abort();
    agrees(&server, &mut watcher, event).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_limited() {
    let server = Wishes::default()
        .set("HAPPENING__SOCKETS__MAX_TOTAL", "5")
        .set("HAPPENING__SOCKETS__MAX_PER_USER", "2")
        .set("HAPPENING__SOCKETS__MAX_PER_ADDRESS", "1")
        .set("HAPPENING__SOCKETS__ROOMS_PER_SOCKET", "1")
        .start()
        .await;
    let at = server.client().address();
    let bearer = async |person: &Person| {
        let bearer = format!("Bearer {}", person.token);
        Wire::open(at, "/ws", &[("authorization", &bearer)]).await
    };
    let (ana, ben) = (server.person().await, server.person().await);
    let mut first = bearer(&ana).await.unwrap();
    let second = bearer(&ana).await.unwrap();
    assert_eq!(bearer(&ana).await.err(), Some(429));
    let _nobody = server.watcher().await;
    assert_eq!(Wire::open(at, "/ws", &[]).await.err(), Some(429));
    let _third = bearer(&ben).await.unwrap();
    let _fourth = bearer(&ben).await.unwrap();
    let cas = server.person().await;
    assert_eq!(bearer(&cas).await.err(), Some(503), "the house is full");
    drop(second);
    eventually(SOON, || async { bearer(&cas).await.map_err(|status| format!("{status}")) }).await;
    let (one, two) = (hall(&server, 5, json!({})).await, hall(&server, 5, json!({})).await);
    first.join(one).await;
    first.say(json!({"type": "join", "event_id": two, "ref": 1})).await;
    assert_eq!(first.find(|frame| frame["ref"] == 1).await["code"], "too_many_rooms");
    first.say(json!({"type": "leave", "ref": 2})).await;
    assert_eq!(first.find(|frame| frame["ref"] == 2).await["type"], "left");
    first.join(two).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_follow_what_becomes_of_their_owners() {
    let server = Wishes::default().set("HAPPENING__SOCKETS__RECHECK_MS", "200").start().await;
    let organizer = server.organizer().await;
    let draft = server.draft(&organizer, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let mut hers = server.socket(&ana).await;
    server.call("DELETE", "/me").bearer(&ana.token).send().await.expect(204);
    let (frames, closed) = hers.end().await;
    assert_eq!((&frames[0]["code"], closed.code), (&json!("credentials_revoked"), 1008));
    // Banned behind everybody's back.
    let mut his = server.socket(&ben).await;
    let ban = "UPDATE users SET deactivated_at = now() - interval '1 day' WHERE id =";
    server.sql(&format!("{ban} '{}'", ben.id)).await;
    assert_eq!(his.end().await.1.code, 1008);
    // An operator sees drafts, as long as they are one.
    let admin = server.admin().await;
    let mut theirs = server.socket(&admin).await;
    theirs.join(draft).await;
    server.sql(&format!("UPDATE users SET role = 'user' WHERE id = '{}'", admin.id)).await;
    let barred = theirs.until("error").await;
    assert_eq!((&barred["code"], &barred["event_id"]), (&json!("not_found"), &json!(draft)));
    server.sql(&format!("UPDATE users SET deactivated_at = NULL WHERE id = '{}'", ben.id)).await;
    server.finish().await;
}
