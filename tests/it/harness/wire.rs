//! A plain WebSocket client that keeps the map of seats as the document says clients should.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use super::TestServer;
use super::people::Person;
use crate::support::client::Client;
pub use crate::support::seat_map::Map;

/// Nobody waits longer for a frame.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The closing code; 0 if there was no closing frame.
    pub code: u16,
}

/// An open socket.
pub struct Wire {
    stream: WebSocketStream<TcpStream>,
    /// The map, of the event whose frames came last.
    pub map: Map,
    /// A delta came that did not fit.
    pub gap: bool,
}

impl Wire {
    /// Opens one; the status of the refusal if it is refused.
    pub async fn open(at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{at}{path}").into_client_request().expect("a request");
        for (name, value) in headers {
            let name = tokio_tungstenite::tungstenite::http::HeaderName::try_from(*name);
            let value = value.parse().expect("a value");
            request.headers_mut().insert(name.expect("a name"), value);
        }
        let stream = TcpStream::connect(at).await.expect("it listens");
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((stream, _)) => Ok(Self { stream, map: Map::default(), gap: false }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no socket: {error}"),
        }
    }

    /// Says something.
    pub async fn say(&mut self, frame: Value) {
        self.send(Message::text(frame.to_string())).await;
    }

    /// Sends anything; a socket that was closed meanwhile is no failure.
    pub async fn send(&mut self, message: Message) {
        self.stream.send(message).await.ok();
    }

    /// What lies below, to break the protocol with.
    pub fn raw(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    /// The next frame.
    pub async fn next(&mut self) -> Result<Value, Closed> {
        loop {
            let message = timeout(PATIENCE, self.stream.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                    if frame["type"] == "snapshot" {
                        self.gap = false;
                    }
                    self.gap |= !self.map.follow(&frame);
                    return Ok(frame);
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(Closed { code: frame.map_or(1005, |frame| frame.code.into()) });
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Closed { code: 0 }),
            }
        }
    }

    /// The next frame of that type; others are passed over.
    pub async fn until(&mut self, kind: &str) -> Value {
        self.find(|frame| frame["type"] == kind).await
    }

    /// The next frame that is meant.
    pub async fn find(&mut self, meant: impl Fn(&Value) -> bool) -> Value {
        let mut passed = Vec::new();
        for _ in 0..10_000 {
            match self.next().await {
                Ok(frame) if meant(&frame) => return frame,
                Ok(frame) => passed.push(frame),
                Err(closed) => panic!("{closed:?} after {passed:?}"),
            }
        }
        panic!("not among {passed:?}");
    }

    /// Reads until the map is as wanted.
    pub async fn map_until(&mut self, wanted: impl Fn(&Map) -> bool) -> Map {
        while !wanted(&self.map) {
            if let Err(closed) = self.next().await {
                panic!("{closed:?} at {:?}", self.map);
            }
        }
        self.map.clone()
    }

    /// Reads until the end.
    pub async fn end(&mut self) -> (Vec<Value>, Closed) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Ok(frame) => frames.push(frame),
                Err(closed) => return (frames, closed),
            }
        }
    }

    /// Watches an event; the snapshot.
    pub async fn join(&mut self, event: Uuid) -> Value {
        self.say(json!({"type": "join", "event_id": event, "ref": "join"})).await;
        self.find(|frame| frame["type"] == "snapshot" && frame["ref"] == "join").await
    }

    /// Asks for seats; the answer.
    pub async fn hold(&mut self, event: Uuid, seats: &[u32]) -> Value {
        let wish = json!({"type": "hold", "event_id": event, "seat_numbers": seats, "ref": 7});
        self.say(wish).await;
        self.find(|frame| frame["ref"] == 7).await
    }
}

/// A ticket.
pub async fn ticket(client: &Client, person: &Person) -> String {
    let ask = client.call("POST", "/ws-tickets").bearer(&person.token);
    ask.send().await.expect(201).str("ticket")
}

impl TestServer {
    /// A socket of somebody.
    pub async fn socket(&self, person: &Person) -> Wire {
        socket(self.client(), person).await
    }

    /// A socket of nobody in particular.
    pub async fn watcher(&self) -> Wire {
        Wire::open(self.client().address(), "/ws", &[]).await.expect("anybody may watch")
    }

    /// What the API says of an event's seats.
    pub async fn map(&self, event: Uuid) -> Map {
        let seats = self.call("GET", &format!("/events/{event}/seats")).send().await.expect(200);
        let list = |name: &str| {
            let seats = seats.body[name].as_array().expect("a list").iter();
            seats.map(|seat| seat.as_u64().expect("a seat")).collect()
        };
        Map {
            version: seats.body["version"].as_i64().expect("a version"),
            available: seats.body["available"].as_u64().expect("a number"),
            taken: list("taken"),
            held: list("held"),
        }
    }
}

/// A socket of somebody at one of several servers.
pub async fn socket(client: &Client, person: &Person) -> Wire {
    let ticket = ticket(client, person).await;
    let path = format!("/ws?ticket={ticket}");
    Wire::open(client.address(), &path, &[]).await.expect("a ticket lets in")
}
