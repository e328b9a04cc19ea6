//! Composition root: the only file that knows every room.
//!
//! `furnish` makes the handles, `roster` starts the actors, `Server` opens the doors and, at the
//! end, closes everything in the order in which work flows: doors, consumers, relay, pools.

mod roster;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpServer;
use actix_web::dev::ServerHandle;
use anyhow::{Context as _, anyhow};
use futures_util::FutureExt as _;
use lapin::{Connection, ConnectionProperties};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret as _;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::actors::supervisor::Supervisor;
use crate::app::accounts::{AccessTokens, Passwords, Revocations};
use crate::app::bookings::desk::{Desk, Intake};
use crate::app::events::board::Board;
use crate::app::holds::Houses;
use crate::app::{App, vitals};
use crate::clock::{Clock, Ids};
use crate::config::{Config, Role};
use crate::http::health::{Probe, Readiness};
use crate::http::{Door, Face};
use crate::postgres::Db;
use crate::redis::Redis;
use crate::telemetry;
use crate::wake::{Pulse, Wakes};

/// Connections that wait in the kernel for a worker.
const BACKLOG: u32 = 4096;
/// Most threads that serve requests.
const WORKERS_MAX: usize = 512;
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
    handle: ServerHandle,
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
        let recorder = telemetry::metrics()?;
        let Furniture { app, supervisor, lanes } = furnish(config, clock)?;
        let stopping = CancellationToken::new();
        let mut server =
            Self { app, supervisor: Arc::new(supervisor), stopping, doors: Vec::new() };
        roster::start(&server.supervisor, &server.app, lanes, &recorder)?;
        if server.app.config.plays(Role::Api)
            && let Err(error) = server.open(recorder)
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
        self.address(Face::Socket)
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

    /// Unready; doors shut and emptied; consumers, relay, pools. Each with its deadline.
    async fn stop(&mut self) {
        self.stopping.cancel();
        self.app.board.close();
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

    fn open(&mut self, recorder: PrometheusHandle) -> anyhow::Result<()> {
        let readiness = Readiness::new(probes(&self.app), self.stopping.clone());
        let door = Door::new(self.app.clone(), readiness, recorder)?;
        let (api, socket) = (self.app.config.http.be_port, self.app.config.http.socket_port);
        self.listen(&door, Face::Api, api).context("http.be_port (BE_PORT)")?;
        self.listen(&door, Face::Socket, socket).context("http.socket_port (SOCKET_PORT)")
    }

    /// Opens one listener. Its threads belong to actix; what they share is in `door`.
    fn listen(&mut self, door: &Door, face: Face, port: u16) -> anyhow::Result<()> {
        let config = &self.app.config;
        let threads = match config.http.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        let threads = threads.clamp(1, WORKERS_MAX);
        let door = door.clone();
        let server = HttpServer::new(move || door.service(face))
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
        tracing::info!(?face, %address, "listening");
        self.doors.push(Listener { face, address, handle });
        Ok(())
    }
}

/// Stops accepting and lets what was begun be answered, until the deadline.
async fn shut(door: &Listener, drain: Duration, force: &CancellationToken) {
    tokio::select! {
        () = door.handle.stop(true) => return,
        () = sleep(drain) => {}
        () = force.cancelled() => {}
    }
    tracing::warn!(face = ?door.face, "connections were cut off");
    timeout(CLOSE, door.handle.stop(false)).await.ok();
}

/// The handles alone, for commands that look or mend and go: nothing runs behind them, and the
/// desk is closed.
///
/// # Errors
/// When the settings cannot be used.
pub fn handles(config: Config) -> anyhow::Result<App> {
    Ok(furnish(config, Clock::default())?.app)
}

/// What `furnish` makes: the handles, and the other ends of those that lead to actors.
struct Furniture {
    app: App,
    supervisor: Supervisor,
    lanes: Vec<Intake>,
}

/// Makes the handles. Nothing connects yet, nothing runs yet.
fn furnish(config: Config, clock: Clock) -> anyhow::Result<Furniture> {
    let (ids, pulse) = (Ids, Pulse::default());
    let supervisor = Supervisor::new(clock.clone(), ids, pulse.clone());
    let timeout = Duration::from_millis(config.booking.answer_timeout_ms);
    let (desk, lanes) = Desk::new(config.booking.lanes, config.booking.queue_max, timeout);
    let app = App {
        db: Db::new(&config.postgres, config.postgres.pool_size)?,
        redis: Redis::new(&config.redis)?,
        desk,
        board: Board::default(),
        houses: Houses::default(),
        wakes: Wakes::default(),
        background: supervisor.background(),
        passwords: Passwords::new(&config.auth),
        tokens: AccessTokens::new(&config.auth, clock.clone()),
        revocations: Revocations::default(),
        clock,
        ids,
        pulse,
        config: Arc::new(config),
    };
    Ok(Furniture { app, supervisor, lanes })
}

/// What `/health/ready` asks.
fn probes(app: &App) -> Vec<Probe> {
    let (db, redis) = (app.clone(), app.redis.clone());
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
