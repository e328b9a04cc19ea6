//! Socket.IO (v4 clients, polling and WebSocket): another face of the same rooms, on a port of its
//! own. `door` is its HTTP side, `session` one connected socket, `payload` what is said.

pub mod door;
pub mod payload;
pub mod session;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::handler::ConnectHandler as _;
use socketioxide::{SocketIo, service::SocketIoService};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::session::Session;
use crate::app::accounts::{authenticate, tickets};
use crate::app::seat_rooms::Face;
use crate::app::seat_rooms::visit::Visit;
use crate::app::{App, Error, Result};
use crate::domain::account::Caller;
use crate::domain::refusal::Refusal;
use crate::http::problem::Problem;

/// What a socket reads into; clients say little, and a longer frame makes it grow.
const READ_BUFFER: usize = 512;
/// Packets that may wait for one client.
const BUFFER: usize = 64;
/// How long the goodbyes may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a client that is connected may take to say to what.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// The Socket.IO server of a process.
#[derive(Clone)]
pub struct Stage {
    app: App,
    io: SocketIo,
    service: SocketIoService<door::Nothing>,
    sessions: TaskTracker,
}

impl Stage {
    /// Sets it up; `door` lets people in.
    pub fn new(app: App) -> Self {
        let sockets = &app.config.sockets;
        let limit = u64::try_from(sockets.frame_limit_bytes).unwrap_or(u64::MAX);
        let (service, io) = SocketIo::builder()
            .ping_interval(Duration::from_millis(sockets.ping_ms))
            .ping_timeout(Duration::from_millis(sockets.idle_ms.saturating_sub(sockets.ping_ms)))
            .max_payload(limit)
            .ws_read_buffer_size(READ_BUFFER)
            .ws_max_message_size(sockets.frame_limit_bytes)
            .ws_max_frame_size(sockets.frame_limit_bytes)
            .max_buffer_size(BUFFER)
            .connect_timeout(CONNECT)
            .build_with_inner_svc(door::Nothing);
        let stage = Self { app, io, service, sessions: TaskTracker::new() };
        stage.open();
        stage
    }

    /// Ends all connections, once the sessions have said goodbye.
    pub async fn close(&self) {
        self.sessions.close();
        timeout(FAREWELL, self.sessions.wait()).await.ok();
        self.io.close().await;
        self.sessions.wait().await;
    }

    fn open(&self) {
        let (app, stage) = (self.app.clone(), self.clone());
        let admit = move |socket: SocketRef, TryData(auth): TryData<Value>| {
            let app = app.clone();
            async move { admit(&app, &socket, auth.ok()).await.map_err(refusal) }
        };
        let attend = move |socket: SocketRef| {
            let stage = stage.clone();
            async move { stage.attend(&socket) }
        };
        self.io.ns("/", attend.with(admit));
    }

    fn attend(&self, socket: &SocketRef) {
        // Put there by `admit`.
        let Some(session) = socket.extensions.get::<Arc<Session>>() else { return };
        let socket = socket.clone();
        self.sessions.spawn(async move { session.run(&socket).await });
    }
}

/// Has the session hear what the client says.
fn listen(socket: &SocketRef, session: &Arc<Session>) {
    for name in session::EVENTS {
        socket.on(name, {
            let session = Arc::clone(session);
            move |socket: SocketRef, TryData(data): TryData<Value>, ack: AckSender| {
                let session = Arc::clone(&session);
                async move { session.hear(&socket, name, data.ok(), ack).await }
            }
        });
    }
    socket.on_fallback({
        let session = Arc::clone(session);
        move |socket: SocketRef, ack: AckSender| {
            let session = Arc::clone(&session);
            async move { session.unknown(&socket, ack).await }
        }
    });
    socket.on_disconnect({
        let session = Arc::clone(session);
        move || {
            session.gone.cancel();
            std::future::ready(())
        }
    });
}

/// Lets a socket in, or says why not. Whoever brings a ticket or a token may hold seats.
async fn admit(app: &App, socket: &SocketRef, auth: Option<Value>) -> Result<()> {
    let caller = identify(app, auth).await?;
    let address = socket.req_parts().extensions.get::<Peer>();
    let address = address.ok_or(Refusal::Unauthenticated)?.0;
    let pass = app.rooms.enter(Face::SocketIo, caller, address)?;
    let session = Arc::new(Session::new(app.clone(), Visit::new(pass, address)));
    // Before the client is told that it is in: what a quick one says at once would be heard by
    // nobody, because the task that attends to it may begin later.
    listen(socket, &session);
    socket.extensions.insert(session);
    Ok(())
}

async fn identify(app: &App, auth: Option<Value>) -> Result<Option<Caller>> {
    let field = |name: &str| match auth.as_ref().and_then(|auth| auth.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Error::from(Refusal::Unauthenticated)),
    };
    if let Some(ticket) = field("ticket")? {
        return tickets::redeem(app, &ticket).await.map(|proof| Some(proof.into()));
    }
    match field("token")? {
        Some(token) => authenticate::bearer(app, &token).await.map(Some),
        None => Ok(None),
    }
}

/// The reason of a `connect_error`: the stable code.
fn refusal(error: Error) -> &'static str {
    Problem::from(error).code()
}
