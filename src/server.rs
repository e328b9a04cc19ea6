//! Composition root: the only file that knows every room.
//!
//! `furnish` makes the handles, `roster` starts the actors, `Server` opens the doors and, at the
//! end, closes everything in the order in which work flows: doors, consumers, relay, pools.

mod roster;

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpServer;
use actix_web::dev::{Extensions, ServerHandle};
use anyhow::{Context as _, anyhow};
use futures_util::FutureExt as _;
use lapin::{Connection, ConnectionProperties};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret as _;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::actors::supervisor::Supervisor;
use crate::app::accounts::{AccessTokens, Passwords, Revocations};
use crate::app::alarms::signals::Signals;
use crate::app::bookings::desk::{Desk, Intake};
use crate::app::events::board::Board;
use crate::app::holds::Houses;
use crate::app::messages::handle;
use crate::app::messages::parcels::Parcels;
use crate::app::messages::registry::Registry;
use crate::app::messages::seal::Keyring;
use crate::app::seat_rooms::Rooms;
use crate::app::{App, vitals};
use crate::bus::{self, Status};
use crate::clock::{Clock, Ids};
use crate::config::{Config, Role};
use crate::http::Door;
use crate::http::health::{self, Probe, Readiness};
use crate::postgres::Db;
use crate::redis::Redis;
use crate::telemetry::metrics;
use crate::telemetry::spans::{self, Spans};
use crate::wake::{Pulse, Wakes};
use crate::ws::plain;
use crate::ws::socketio::{Stage, door};

/// Connections that wait in the kernel for a worker.
const BACKLOG: u32 = 4096;
/// Most threads that serve requests.
const WORKERS_MAX: usize = 512;
/// How long a peer may take nothing of what was written for it.
const UNTAKEN: Duration = Duration::from_secs(20);
/// How long the pools may take to close.
const CLOSE: Duration = Duration::from_millis(500);

/// A running process, seen from inside.
pub struct Server {
    app: App,
    supervisor: Arc<Supervisor>,
    stopping: CancellationToken,
    doors: Vec<Listener>,
}

/// An open door.
struct Listener {
    face: Face,
    address: SocketAddr,
    shutter: Shutter,
}

/// What shuts it.
enum Shutter {
    Api(ServerHandle),
    /// Sockets are ended at once; the other fires when they are.
    Sockets(CancellationToken, CancellationToken),
}

/// Which door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    /// `BE_PORT`: the API, its documentation, health, metrics and plain WebSockets.
    Api,
    /// `SOCKET_PORT`: Socket.IO, and health.
    Sockets,
}

impl Server {
    /// Makes everything and opens the doors. Whatever is away now may come later: `/health/ready`
    /// tells.
    ///
    /// # Errors
    /// When the settings cannot be used or a port is taken.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_at(config, Clock::default()).await
    }

    /// The same by a given clock, which tests set by hand.
    ///
    /// # Errors
    /// When the settings cannot be used or a port is taken.
    pub async fn start_at(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let recorder = metrics::recorder()?;
        let Furniture { app, supervisor, lanes, spans } = furnish(config, clock)?;
        let stopping = CancellationToken::new();
        let mut server =
            Self { app, supervisor: Arc::new(supervisor), stopping, doors: Vec::new() };
        roster::start(&server.supervisor, &server.app, lanes, spans, &recorder)?;
        if server.app.config.plays(Role::Api)
            && let Err(error) = server.open(recorder).await
        {
            server.stop().await;
            return Err(error);
        }
        Ok(server)
    }

    /// The handles that verbs work with.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Where the API listens; `None` without the role `api`.
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.address(Face::Api)
    }

    /// Where the sockets listen; `None` without the role `api`.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.address(Face::Sockets)
    }

    /// Cuts the orderly stop short when it fires: the second signal.
    pub fn force(&self) -> CancellationToken {
        self.supervisor.force()
    }

    /// Serves until `stop` fires or something essential ends, then stops in order.
    ///
    /// # Errors
    /// What ended the process, if it was not `stop`.
    pub async fn run_until(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = stop.cancelled() => tracing::info!("stopping"),
            () = self.supervisor.failed() => tracing::error!("something essential has ended"),
        }
        self.stop().await;
        self.supervisor.failure().map_or(Ok(()), Err)
    }

    /// Unready; goodbye to sockets; doors shut and emptied; consumers, relay, spans, pools. Each
    /// with its deadline.
    async fn stop(&mut self) {
        self.stopping.cancel();
        self.app.board.close();
        self.app.rooms.close();
        let deadlines = &self.app.config.stop;
        let drain = Duration::from_millis(deadlines.drain_ms);
        let force = self.supervisor.force();
        // The desk works on until everybody who was let in has an answer.
        let doors = std::mem::take(&mut self.doors);
        let shut = doors.iter().map(|door| shut(door, drain, &force));
        futures_util::future::join_all(shut).await;
        self.supervisor.stop(deadlines).await;
        timeout(CLOSE, async { self.app.db.close() }).await.ok();
        tracing::info!("stopped");
    }

    fn address(&self, face: Face) -> Option<SocketAddr> {
        self.doors.iter().find(|door| door.face == face).map(|door| door.address)
    }

    async fn open(&mut self, recorder: PrometheusHandle) -> anyhow::Result<()> {
        let readiness = Arc::new(Readiness::new(probes(&self.app), self.stopping.clone()));
        let door = Door::new(self.app.clone(), Arc::clone(&readiness), recorder, plain::routes)?;
        let (api, sockets) = (self.app.config.http.be_port, self.app.config.http.socket_port);
        self.listen(&door, api).context("http.be_port (BE_PORT)")?;
        self.stage(readiness, sockets).await.context("http.socket_port (SOCKET_PORT)")
    }

    /// Opens the door of Socket.IO.
    async fn stage(&mut self, readiness: Arc<Readiness>, port: u16) -> anyhow::Result<()> {
        let host = self.app.config.http.host.as_str();
        let listener = TcpListener::bind((host, port)).await;
        let listener = listener.with_context(|| format!("cannot listen on {host}:{port}"))?;
        let address = listener.local_addr().context("a listener has no address")?;
        let app = self.app.clone();
        let health: door::Health = Arc::new(move |target| {
            let (app, readiness) = (app.clone(), Arc::clone(&readiness));
            async move { health::report(&app, &readiness, &target).await }.boxed()
        });
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let serving = door::serve(listener, Stage::new(self.app.clone()), health, stop.clone());
        let (supervisor, stopping) = (Arc::clone(&self.supervisor), self.stopping.clone());
        let done = ended.clone().drop_guard();
        self.supervisor.adopt(async move {
            let ended = serving.await;
            if !stopping.is_cancelled() {
                supervisor.fail(anyhow!("the listener on {address} ended: {ended:?}"));
            }
            drop(done);
        });
        tracing::info!(face = ?Face::Sockets, %address, "listening");
        let shutter = Shutter::Sockets(stop, ended);
        self.doors.push(Listener { face: Face::Sockets, address, shutter });
        Ok(())
    }

    /// Opens the door of the API. Its threads belong to actix; what they share is in `door`.
    fn listen(&mut self, door: &Door, port: u16) -> anyhow::Result<()> {
        let config = &self.app.config;
        let threads = match config.http.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        let threads = threads.clamp(1, WORKERS_MAX);
        let door = door.clone();
        let server = HttpServer::new(move || door.service())
            .on_connect(bound_writes)
            .workers(threads)
            .max_connections(config.http.max_connections.div_ceil(threads))
            .backlog(BACKLOG)
            .client_request_timeout(Duration::from_millis(config.http.request_timeout_ms))
            .keep_alive(Duration::from_millis(config.http.keep_alive_ms))
            .shutdown_timeout(config.stop.drain_ms.div_ceil(1000))
            .disable_signals()
            .bind((config.http.host.as_str(), port))
            .with_context(|| format!("cannot listen on {}:{port}", config.http.host))?;
        let address = server.addrs().first().copied().context("a listener has no address")?;
        let running = server.run();
        let handle = running.handle();
        let (supervisor, stopping) = (Arc::clone(&self.supervisor), self.stopping.clone());
        self.supervisor.adopt(async move {
            let ended = running.await;
            if !stopping.is_cancelled() {
                supervisor.fail(anyhow!("the listener on {address} ended: {ended:?}"));
            }
        });
        tracing::info!(face = ?Face::Api, %address, "listening");
        self.doors.push(Listener { face: Face::Api, address, shutter: Shutter::Api(handle) });
        Ok(())
    }
}

/// Stops accepting and lets what was begun be answered, until the deadline.
async fn shut(door: &Listener, drain: Duration, force: &CancellationToken) {
    let emptied = async {
        match &door.shutter {
            Shutter::Api(handle) => handle.stop(true).await,
            Shutter::Sockets(stop, ended) => {
                stop.cancel();
                ended.cancelled().await;
            }
        }
    };
    tokio::select! {
        () = emptied => return,
        () = sleep(drain) => {}
        () = force.cancelled() => {}
    }
    tracing::warn!(face = ?door.face, "connections were cut off");
    if let Shutter::Api(handle) = &door.shutter {
        timeout(CLOSE, handle.stop(false)).await.ok();
    }
}

/// Has the kernel end connections whose peer takes nothing for long: nobody else would notice, and
/// what was written for them would be kept for ever.
fn bound_writes(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>()
        && let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(UNTAKEN))
    {
        tracing::debug!(%error, "a connection's writes are not bounded");
    }
}

/// The handles alone, for commands that look or mend and go: nothing runs behind them, and the
/// desk is closed.
///
/// # Errors
/// When the settings cannot be used.
pub fn handles(mut config: Config) -> anyhow::Result<App> {
    config.tracing.otlp_endpoint.clear();
    Ok(furnish(config, Clock::default())?.app)
}

/// What `furnish` makes: the handles, and the other ends of those that lead to actors.
struct Furniture {
    app: App,
    supervisor: Supervisor,
    lanes: Vec<Intake>,
    spans: Option<spans::Intake>,
}

/// Makes the handles. Nothing connects yet, nothing runs yet.
fn furnish(config: Config, clock: Clock) -> anyhow::Result<Furniture> {
    let (ids, pulse) = (Ids, Pulse::default());
    let supervisor = Supervisor::new(clock.clone(), ids, pulse.clone());
    let timeout = Duration::from_millis(config.booking.answer_timeout_ms);
    let (desk, lanes) = Desk::new(config.booking.lanes, config.booking.queue_max, timeout);
    let (spans, written) = Spans::open(&config.tracing, ids);
    let registry = Registry::new(Keyring::new(&config.seal, &config.auth, ids)?)?;
    let app = App {
        bus: bus::open(&config, &clock)?,
        parcels: Parcels::new(registry.clone(), &handle::all(ids)),
        db: Db::new(&config.postgres, config.postgres.pool_size)?,
        redis: Redis::new(&config.redis)?,
        desk,
        board: Board::default(),
        houses: Houses::default(),
        wakes: Wakes::default(),
        signals: Signals::default(),
        background: supervisor.background(),
        passwords: Passwords::new(&config.auth),
        tokens: AccessTokens::new(&config.auth, clock.clone()),
        revocations: Revocations::default(),
        rooms: Rooms::new(config.sockets.clone()),
        registry,
        clock,
        ids,
        pulse,
        spans,
        config: Arc::new(config),
    };
    Ok(Furniture { app, supervisor, lanes, spans: written })
}

/// What `/health/ready` asks.
fn probes(app: &App) -> Vec<Probe> {
    let (db, redis, bus) = (app.clone(), app.redis.clone(), Arc::clone(&app.bus));
    let amqp = app.config.rabbitmq.url.clone();
    vec![
        Probe {
            name: "postgres",
            required: true,
            check: Box::new(move || {
                let app = db.clone();
                async move { vitals::ping(&app).await.map_err(anyhow::Error::from) }.boxed()
            }),
        },
        Probe {
            name: "redis",
            required: false,
            check: Box::new(move || {
                let redis = redis.clone();
                async move { Ok(redis.ping().await?) }.boxed()
            }),
        },
        Probe {
            name: "bus",
            required: false,
            check: Box::new(move || {
                let bus = Arc::clone(&bus);
                async move {
                    let health = bus.health().await;
                    let reason = health.reason.unwrap_or_default();
                    anyhow::ensure!(health.status == Status::Up, "{reason}");
                    Ok(())
                }
                .boxed()
            }),
        },
        Probe {
            name: "rabbitmq",
            required: false,
            check: Box::new(move || {
                let url = amqp.clone();
                async move {
                    let options = ConnectionProperties::default();
                    let connection = Connection::connect(url.expose_secret(), options).await?;
                    Ok(connection.close(200, "probed".into()).await?)
                }
                .boxed()
            }),
        },
    ]
}

#[cfg(test)]
mod tests;
