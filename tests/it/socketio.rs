//! Socket.IO, by the unmodified `socket.io-client` of npm: its default way (polling, then upgrade)
//! and WebSocket alone see what everybody sees.

use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::harness::people::{Person, over};
use crate::harness::wire::ticket;
use crate::harness::{TestServer, Wishes};
use crate::sockets::hall;
use crate::support::client::Client;
use crate::support::eventually;

const PATIENCE: Duration = Duration::from_secs(20);
/// How an `id` of a test's socket is called.
type Id = &'static str;

/// The client of npm, and what it told that nobody asked for yet.
struct Node {
    _child: Child,
    stdin: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
    kept: Vec<Value>,
    acks: u64,
}

impl Node {
    fn start() -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/socketio");
        let there = std::path::Path::new(folder).join("node_modules/socket.io-client").exists();
        assert!(there, "socket.io-client is missing: ./dev test installs it");
        let mut child = Command::new("node")
            .arg("client.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node can be started");
        let stdin = child.stdin.take().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, stdin, told, kept: Vec::new(), acks: 0 }
    }

    async fn tell(&mut self, command: Value) {
        let line = format!("{command}\n");
        self.stdin.write_all(line.as_bytes()).await.expect("node reads");
    }

    async fn open(&mut self, id: Id, server: &TestServer, options: Value) {
        let url = format!("http://{}", server.sockets());
        self.tell(json!({"do": "open", "id": id, "url": url, "options": options})).await;
    }

    async fn connect(&mut self, id: Id, server: &TestServer, options: Value) -> Value {
        self.open(id, server, options).await;
        self.hear(id, "connect").await[0].clone()
    }

    /// Emits, and waits for the acknowledgement.
    async fn ask(&mut self, id: Id, event: &str, data: Value) -> Value {
        self.acks += 1;
        let ack = self.acks;
        let command = json!({"do": "emit", "id": id, "event": event, "args": [data], "ack": ack});
        self.tell(command).await;
        let answer =
            self.find(|told| told["id"] == id && told["event"] == "ack" && told["args"][0] == ack);
        answer.await["args"][1].clone()
    }

    /// Emits without a callback.
    async fn say(&mut self, id: Id, event: &str, args: Value) {
        self.tell(json!({"do": "emit", "id": id, "event": event, "args": args})).await;
    }

    /// The arguments of the next such event.
    async fn hear(&mut self, id: Id, event: &str) -> Value {
        self.find(|told| told["id"] == id && told["event"] == event).await["args"].clone()
    }

    /// Waits until somebody was told that exactly these seats are held.
    async fn held(&mut self, id: Id, event: Uuid, seats: Value) {
        let wanted = json!([{"eventId": event, "heldSeats": seats}]);
        self.find(|told| {
            told["id"] == id && told["event"] == "event:holds:update" && told["args"] == wanted
        })
        .await;
    }

    async fn find(&mut self, meant: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.kept.iter().position(&meant) {
            return self.kept.remove(at);
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let line = timeout_at(until, self.told.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("not among {:#?}", self.kept));
            let line = line.unwrap().expect("node goes on");
            let told: Value = serde_json::from_str(&line).expect("JSON lines");
            if meant(&told) {
                return told;
            }
            self.kept.push(told);
        }
    }
}

async fn auth(client: &Client, person: &Person) -> Value {
    json!({"auth": {"ticket": ticket(client, person).await}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_client_and_websockets_alone_see_the_same() {
    let server = TestServer::start().await;
    let event = hall(&server, 10, json!({})).await;
    let (ana, ben) = (server.person().await, server.person().await);
    let mut node = Node::start();
    // Polling first, then the upgrade; WebSocket from the beginning; polling for ever.
    let options = auth(server.client(), &ana).await;
    assert_eq!(node.connect("ana", &server, options).await, "polling");
    assert_eq!(node.hear("ana", "upgrade").await[0], "websocket");
    let options = json!({"transports": ["websocket"], "auth": {"token": ben.token}});
    assert_eq!(node.connect("ben", &server, options).await, "websocket");
    let options = json!({"transports": ["polling"]});
    assert_eq!(node.connect("poll", &server, options).await, "polling");
    let mut plain = server.watcher().await;
    plain.join(event).await;
    for id in ["ana", "ben", "poll"] {
        let joined = node.ask(id, "event:join", json!({"eventId": event})).await;
        assert_eq!((&joined["eventId"], &joined["mine"]), (&json!(event), &Value::Null));
        node.held(id, event, json!([])).await;
    }
    let wish = json!({"eventId": event, "seats": [2, 1]});
    let granted = node.ask("ana", "event:holds:set", wish).await;
    assert_eq!((&granted["allowedSeats"], &granted["conflicts"]), (&json!([1, 2]), &json!([])));
    let response = node.hear("ana", "event:holds:response").await;
    let expected = json!([{"eventId": event, "requestedSeats": [1, 2], "allowedSeats": [1, 2],
                           "conflicts": []}]);
    assert_eq!(response, expected);
    for id in ["ana", "ben", "poll"] {
        node.held(id, event, json!([1, 2])).await;
    }
    plain.map_until(|map| map.held == [1, 2].into()).await;
    let wish = json!({"eventId": event, "seats": [2, 3]});
    let refused = node.ask("ben", "event:holds:set", wish).await;
    assert_eq!((&refused["allowedSeats"], &refused["conflicts"]), (&json!([]), &json!([2])));
    let renewed = node.ask("ana", "event:holds:heartbeat", json!({"eventId": event})).await;
    assert_eq!(renewed["allowedSeats"], json!([1, 2]));
    let synced = node.ask("ana", "event:holds:sync", json!({"eventId": event})).await;
    assert_eq!(synced["holdToken"], granted["holdToken"]);

    let body = json!({"event_id": event, "seat_numbers": [1, 2],
                      "hold_token": granted["holdToken"]});
    let booked = server.booking(&ana, body).send().await.expect(201);
    for id in ["ana", "ben", "poll"] {
        node.held(id, event, json!([])).await;
        assert_eq!(node.hear(id, "event:bookings:update").await, json!([{"eventId": event}]));
    }
    server.cancel(&ana, &booked.body["id"], json!({"seat_numbers": [2]})).await.expect(200);
    for id in ["ana", "ben", "poll"] {
        let freed = node.hear(id, "event:seats:freed").await;
        assert_eq!(freed, json!([{"eventId": event, "seats": [2]}]));
    }
    // A hold of the plain face is seen here, and let go of here it is seen there.
    let mut hers = server.socket(&ana).await;
    hers.hold(event, &[5]).await;
    node.held("poll", event, json!([5])).await;
    hers.say(json!({"type": "release"})).await;
    node.held("poll", event, json!([])).await;
    node.ask("ben", "event:holds:set", json!({"eventId": event, "seats": [7]})).await;
    plain.map_until(|map| map.held == [7].into()).await;
    node.ask("ben", "event:holds:clear", json!({"eventId": event})).await;
    plain.map_until(|map| map.held.is_empty()).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_back_by_themselves_and_keep_their_holds() {
    let server = TestServer::start().await;
    let event = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    let mut node = Node::start();
    let options = json!({"transports": ["websocket"], "auth": {"token": ana.token}});
    node.connect("ana", &server, options).await;
    node.ask("ana", "event:join", json!({"eventId": event})).await;
    let wish = json!({"eventId": event, "seats": [4]});
    let granted = node.ask("ana", "event:holds:set", wish).await;
    node.tell(json!({"do": "cut", "id": "ana"})).await;
    node.hear("ana", "disconnect").await;
    node.hear("ana", "connect").await;
    let again = json!({"eventId": event, "holdToken": granted["holdToken"]});
    let joined = node.ask("ana", "event:join", again).await;
    assert_eq!((&joined["mine"], &joined["heldSeats"]), (&json!([4]), &json!([4])));
    node.tell(json!({"do": "close", "id": "ana"})).await;
    eventually(PATIENCE, || async {
        match server.app().rooms.open() {
            0 => Ok(()),
            open => Err(format!("{open} are open")),
        }
    })
    .await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_nonsense_are_refused_with_a_code() {
    let server = Wishes::default().set("HAPPENING__HOLDS__GRACE_MS", "500").start().await;
    let event = hall(&server, 10, json!({})).await;
    let ana = server.person().await;
    let mut node = Node::start();
    let used = auth(server.client(), &ana).await;
    node.connect("ana", &server, used.clone()).await;
    for (id, auth) in [
        ("used", used["auth"].clone()),
        ("token", json!({"token": "nonsense"})),
        ("shape", json!({"ticket": 7})),
    ] {
        node.open(id, &server, json!({"auth": auth, "reconnection": false})).await;
        assert_eq!(node.hear(id, "connect_error").await[0], "unauthenticated", "{id}");
    }
    let foreign = json!({"extraHeaders": {"Origin": "https://evil.example"},
                         "reconnection": false});
    for transport in ["polling", "websocket"] {
        node.open(transport, &server, over(foreign.clone(), json!({"transports": [transport]})))
            .await;
        node.hear(transport, "connect_error").await;
    }
    // Nobody in particular may watch, but not hold.
    node.connect("nobody", &server, json!({})).await;
    node.ask("nobody", "event:join", json!({"eventId": event})).await;
    let wish = json!({"eventId": event, "seats": [1]});
    let refused = node.ask("nobody", "event:holds:set", wish).await;
    assert_eq!(refused["code"], "unauthenticated");
    assert_eq!(node.hear("nobody", "event:error").await[0]["code"], "unauthenticated");
    for (name, data, code) in [
        ("event:join", json!({"eventId": Uuid::nil()}), "not_found"),
        ("event:join", json!(null), "malformed"),
        ("event:join", json!({"eventId": "x"}), "malformed"),
        ("event:holds:set", json!({"eventId": event}), "invalid"),
        ("event:holds:heartbeat", json!({"eventId": event}), "hold_expired"),
        ("event:dance", json!({}), "unknown_type"),
    ] {
        assert_eq!(node.ask("ana", name, data).await["code"], code, "{name}");
    }
    node.say("ana", "event:join", json!([])).await;
    node.say("ana", "event:join", json!([[[[1]]], {"a": 1}, "b"])).await;
    node.ask("ana", "event:join", json!({"eventId": event})).await;
    // What is too large ends the one who sent it, and nobody else.
    node.connect("large", &server, json!({"transports": ["websocket"]})).await;
    node.say("large", "event:join", json!([{"eventId": "x".repeat(1 << 20)}])).await;
    node.hear("large", "disconnect").await;
    for _ in 0..400 {
        node.say("nobody", "event:holds:sync", json!([{"eventId": event}])).await;
    }
    assert_eq!(node.hear("nobody", "bye").await[0]["code"], "too_many_frames");
    node.hear("nobody", "disconnect").await;
    let wish = json!({"eventId": event, "seats": [3]});
    let granted = node.ask("ana", "event:holds:set", wish).await;
    assert_eq!(granted["allowedSeats"], json!([3]));
    node.held("ana", event, json!([3])).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_our_own_host_may_poll_and_health_is_answered() {
    let server = TestServer::start().await;
    let client = Client::new(server.sockets());
    let origin = format!("http://127.0.0.1:{}", server.client().address().port());
    let path = "/socket.io/?EIO=4&transport=polling";
    let opened = client.root("GET", path).header("origin", &origin).send().await.expect(200);
    assert_eq!(opened.header("access-control-allow-origin"), origin);
    let asked = client.root("OPTIONS", path).header("origin", &origin).send().await.expect(204);
    assert!(asked.header("access-control-allow-methods").contains("POST"));
    let foreign = client.root("GET", path).header("origin", "https://evil.example");
    foreign.send().await.refused(403, "forbidden");
    assert_eq!(client.root("GET", "/health").send().await.expect(200).body["status"], "ok");
    assert_eq!(
        client.root("GET", "/health/ready").send().await.expect(200).body["service"],
        "happening"
    );
    for path in ["/", "/socket.io", "/health/nonsense", "/health?service=x", "/api/v1/events"] {
        let reply = client.root("GET", path).send().await;
        assert!([400, 404].contains(&reply.status), "{path}: {}", reply.status);
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_says_goodbye_and_clients_look_for_the_next() {
    let server = TestServer::start().await;
    let event = hall(&server, 5, json!({})).await;
    let mut node = Node::start();
    node.connect("ws", &server, json!({"transports": ["websocket"]})).await;
    node.connect("poll", &server, json!({"transports": ["polling"]})).await;
    node.ask("ws", "event:join", json!({"eventId": event})).await;
    let begun = std::time::Instant::now();
    server.finish().await;
    assert!(begun.elapsed() < Duration::from_secs(25));
    let bye = node.hear("ws", "bye").await;
    assert_eq!(bye[0]["code"], "shutting_down");
    // Not `io server disconnect`, after which clients stay away.
    for id in ["ws", "poll"] {
        let reason = node.hear(id, "disconnect").await;
        assert_ne!(reason[0], "io server disconnect", "{id}");
        node.hear(id, "connect_error").await;
    }
}

/// Somebody quick: what is said the moment that CONNECT is answered is heard and acknowledged.
/// (Before that the protocol lets nobody speak: who does is cut off.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_at_once_is_heard() {
    let server = TestServer::start().await;
    let event = hall(&server, 5, json!({})).await;
    let join = format!(r#"427["event:join",{{"eventId":"{event}"}}]"#);
    let once = async || {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.sockets());
        let stream = tokio::net::TcpStream::connect(server.sockets()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        while let Some(Ok(Message::Text(text))) = socket.next().await {
            if text.starts_with("0{") {
                socket.send(Message::text("40")).await.unwrap();
            } else if text.starts_with("40{") {
                socket.send(Message::text(join.clone())).await.unwrap();
            } else if let Some(ack) = text.strip_prefix("437") {
                return serde_json::from_str::<Value>(ack).unwrap();
            }
        }
        panic!("the socket was closed");
    };
    for round in 0..20 {
        let all = (0..10).map(|_| tokio::time::timeout(PATIENCE, once()));
        for heard in futures_util::future::join_all(all).await {
            let heard = heard.unwrap_or_else(|_| panic!("nobody heard it in round {round}"));
            assert_eq!(heard[0]["eventId"], json!(event), "{heard}");
        }
    }
    server.finish().await;
}
