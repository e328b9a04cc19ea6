//! People who watch an event over plain WebSockets and keep a map of its seats as the document
//! says: by snapshot and deltas, with a new look when there is a gap, and coming back whenever the
//! socket ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::support::seat_map::Map;

/// How long somebody waits who could not connect.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a handshake may take; then the next one is tried.
const HANDSHAKE: Duration = Duration::from_mins(1);

/// A plain WebSocket.
pub type Socket = WebSocketStream<TcpStream>;

/// Where the servers are at the moment. Cheap to clone.
#[derive(Clone)]
pub struct Doors(Arc<Mutex<Vec<SocketAddr>>>);

impl Doors {
    pub fn new(doors: &[SocketAddr]) -> Self {
        Self(Arc::new(Mutex::new(doors.to_vec())))
    }

    pub fn set(&self, doors: &[SocketAddr]) {
        *self.0.lock().unwrap() = doors.to_vec();
    }

    pub fn all(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap().clone()
    }

    /// One of them.
    pub fn pick(&self, which: usize) -> SocketAddr {
        let doors = self.0.lock().unwrap();
        doors[which % doors.len()]
    }
}

/// An open socket, if there is a server.
pub async fn open(at: SocketAddr, path: &str) -> Option<Socket> {
    let opening = async {
        let stream = TcpStream::connect(at).await.ok()?;
        let request = format!("ws://{at}{path}");
        Some(tokio_tungstenite::client_async(request, stream).await.ok()?.0)
    };
    timeout(HANDSHAKE, opening).await.ok()?
}

/// Somebody who watches.
pub struct Watcher {
    map: Arc<Mutex<Map>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Watches through one of the doors, at first the one of that number.
    pub fn start(doors: &Doors, first: usize, event: Uuid, cut: watch::Receiver<u32>) -> Self {
        let map = Arc::new(Mutex::new(Map::default()));
        let (kept, doors) = (Arc::clone(&map), doors.clone());
        let task = tokio::spawn(async move {
            let (mut door, mut cut) = (first, cut);
            loop {
                if let Some(mut socket) = open(doors.pick(door), "/ws").await {
                    cut.mark_unchanged();
                    tokio::select! {
                        _ = watch_by(&mut socket, event, &kept) => {}
                        _ = cut.changed() => {}
                    }
                }
                door += 1;
                sleep(PAUSE).await;
            }
        });
        Self { map, task }
    }

    /// What it sees.
    pub fn map(&self) -> Map {
        self.map.lock().unwrap().clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Joins, from the version that is known on, and keeps the map until the socket ends.
async fn watch_by(socket: &mut Socket, event: Uuid, map: &Mutex<Map>) -> Option<()> {
    let known = map.lock().unwrap().version;
    join(socket, event, Some(known)).await?;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
        // Busy: that is no answer to stay with.
        if frame["code"] == "unavailable" {
            sleep(PAUSE).await;
            join(socket, event, None).await?;
        }
        let fits = map.lock().unwrap().follow(&frame);
        if !fits {
            join(socket, event, None).await?;
        }
    }
    None
}

async fn join(socket: &mut Socket, event: Uuid, since: Option<i64>) -> Option<()> {
    let mut join = json!({"type": "join", "event_id": event});
    if let Some(known) = since.filter(|known| *known > 0) {
        join["since"] = json!(known);
    }
    socket.send(Message::text(join.to_string())).await.ok()
}
