//! A server to measure: this same binary as a process of its own, with a fresh database, a queue
//! of its own and people to book, on the services that the bench was given.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use lapin::options::QueueDeleteOptions;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::sleep;
use uuid::Uuid;

use super::machine::free_port;
use crate::app::accounts::AccessTokens;
use crate::cli::hammer::api::Api;
use crate::cli::hammer::client::{self, Connection, Target};
use crate::cli::hammer::load::{self, Run};
use crate::cli::hammer::person::{Crowd, Person, Source};
use crate::cli::hammer::plan::{Limit, Plan};
use crate::cli::hammer::progress::Progress;
use crate::cli::hammer::stage::{self, Kind};
use crate::clock::{Clock, Ids};
use crate::config::Config;
use crate::postgres::{Db, migrate, rehearsal};
use crate::rabbit::connection::Link;
use crate::rabbit::topology::Topology;

/// What the names of our databases start with.
const PREFIX: &str = "happening_bench_";
/// How long a server may take to become ready.
const READY: Duration = Duration::from_secs(20);
/// How long the messages of a short run may take.
const DRAINED: Duration = Duration::from_secs(40);
/// Bounds on our own statements, which may insert a million rows.
const STATEMENT_TIMEOUT_MS: u64 = 180_000;

/// Variables that the settings are read with: the bench needs no secret from anybody.
pub fn settings() -> Vec<(&'static str, String)> {
    vec![("HAPPENING__AUTH__SIGNING_SECRET", Ids.secret())]
}

/// The services that were given, and what we made on them.
pub struct Services {
    pub config: Config,
    admin: Arc<Db>,
    databases: Mutex<Vec<String>>,
}

impl Services {
    /// Checks PostgreSQL and removes what a bench that was cut short has left.
    ///
    /// # Errors
    /// When PostgreSQL is away or does not let us make databases.
    pub async fn connect(mut config: Config) -> anyhow::Result<Self> {
        config.postgres.statement_timeout_ms = STATEMENT_TIMEOUT_MS;
        let admin = Db::new(&config.postgres, 1)?;
        let conn = admin.get().await.context("cannot reach PostgreSQL (DATABASE_URL)")?;
        for name in rehearsal::forgotten_databases(&conn, PREFIX).await? {
            rehearsal::drop_database(&conn, &name).await.ok();
        }
        drop(conn);
        Ok(Self { config, admin: Arc::new(admin), databases: Mutex::default() })
    }

    /// Makes a database and gives its name and URL.
    ///
    /// # Errors
    /// When PostgreSQL does not allow it.
    pub async fn create_database(&self, what: &str) -> anyhow::Result<(String, String)> {
        let name = format!("{PREFIX}{what}_{:08x}", Ids.jitter(1 << 32));
        let url = with_database(self.config.postgres.url.expose_secret(), &name)?;
        let conn = self.admin.get().await?;
        rehearsal::create_database(&conn, &name).await.context("cannot make a database")?;
        if let Ok(mut databases) = self.databases.lock() {
            databases.push(name.clone());
        }
        Ok((name, url))
    }

    /// A pool for one of them.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub fn db(&self, url: &str, size: usize) -> anyhow::Result<Db> {
        let mut config = self.config.postgres.clone();
        config.url = SecretString::from(url);
        Db::new(&config, size)
    }

    /// Writes out what earlier runs left dirty.
    pub async fn checkpoint(&self) {
        if let Ok(conn) = self.admin.get().await {
            rehearsal::checkpoint(&conn).await;
        }
    }

    /// Removes every database that was made.
    pub async fn clean_up(&self) {
        let names = self.databases.lock().map(|names| names.clone()).unwrap_or_default();
        for name in names {
            self.drop_database(&name).await;
        }
    }

    async fn drop_database(&self, name: &str) {
        if let Ok(conn) = self.admin.get().await {
            rehearsal::drop_database(&conn, name).await.ok();
        }
    }
}

/// The URL with another database in its path.
fn with_database(url: &str, name: &str) -> anyhow::Result<String> {
    let (scheme, rest) = url.split_once("://").context("DATABASE_URL is not a URL")?;
    let (before, options) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b)));
    let host = before.split_once('/').map_or(before, |(host, _)| host);
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    Ok(format!("{scheme}://{host}/{name}{options}"))
}

/// A server that runs.
pub struct Rig {
    server: Child,
    /// Its database.
    pub db: Db,
    database: String,
    queue: String,
    /// Where its API and its plain sockets are.
    pub port: u16,
    /// Where its Socket.IO is.
    pub socket_port: u16,
    target: Arc<Target>,
    crowd: Crowd,
    silent: Progress,
    /// Which run comes next: keys must not repeat.
    runs: u64,
}

impl Rig {
    /// Starts a server with `buyers` people.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn raise(services: &Services, buyers: u64) -> anyhow::Result<Self> {
        let (database, url) = services.create_database("server").await?;
        let db = services.db(&url, 2)?;
        migrate::migrate(&db).await?;
        let queue = format!("bench.{database}");
        let (port, socket_port) = (free_port()?, free_port()?);
        let server = start(services, &url, &queue, (port, socket_port))?;
        let target = Arc::new(Target::parse(&format!("http://127.0.0.1:{port}"))?);
        let tokens = AccessTokens::new(&services.config.auth, Clock::default());
        let silent = Progress::silent();
        let source = Source::Database(db.clone(), tokens);
        let crowd = Crowd::make(source, &database, buyers, &silent).await?;
        let mut rig =
            Self { server, db, database, queue, port, socket_port, target, crowd, silent, runs: 0 };
        rig.ready().await?;
        Ok(rig)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut request = self.target.root_head("GET", "/health/ready", None);
        client::finish(&mut request, None, None);
        let mut connection = Connection::new(Arc::clone(&self.target));
        loop {
            if let Some(status) = self.server.try_wait()? {
                bail!("the server ended with {status}: see {}", log_path());
            }
            let seen = match connection.exchange(&request).await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => String::from_utf8_lossy(answer.body).into_owned(),
                Err(trouble) => trouble.to_string(),
            };
            if started.elapsed() > READY {
                bail!("the server is not ready after {READY:?}: {seen}; see {}", log_path());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Which process it is.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// For calls that are not measured.
    pub fn api(&self) -> Api {
        Api::new(Arc::clone(&self.target))
    }

    /// Who books.
    pub fn buyers(&self) -> &[Person] {
        self.crowd.buyers()
    }

    /// The sum of a counter's values with that name; none is 0.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn counter(&self, name: &str) -> anyhow::Result<f64> {
        let mut request = self.target.root_head("GET", "/metrics", None);
        client::finish(&mut request, None, None);
        let mut connection = Connection::new(Arc::clone(&self.target));
        let answer = connection.exchange(&request).await?;
        ensure!(answer.status == 200, "the metrics were refused with {}", answer.status);
        let text = String::from_utf8_lossy(answer.body);
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Puts events on sale.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open(&mut self, kind: &Kind, count: usize) -> anyhow::Result<Vec<Uuid>> {
        self.runs += 1;
        let run = format!("{:08x}-{}", Ids.jitter(1 << 32), self.runs);
        self.crowd.refresh().await?;
        let organizer = self.crowd.organizer()?;
        stage::open(&self.target, organizer, &run, kind, count, &self.silent).await
    }

    /// Books one seat after the other at those events.
    ///
    /// # Errors
    /// When a load thread dies.
    pub async fn load(
        &mut self,
        events: Vec<Uuid>,
        connections: u16,
        limit: Limit,
        how: How,
    ) -> anyhow::Result<Run> {
        self.crowd.refresh().await?;
        self.runs += 1;
        let buyers = self.crowd.buyers().to_vec();
        let plan = Plan {
            run: format!("{:08x}-{}", Ids.jitter(1 << 32), self.runs),
            seed: self.runs,
            events,
            capacity: 1,
            people: u64::try_from(buyers.len()).unwrap_or(u64::MAX),
            parties: 1..=1,
            cancel_percent: 0,
            duplicate_percent: 0,
            numbered: false,
            waitlist: how.waitlist,
            keys: how.keys,
            limit,
        };
        load::run(plan, buyers, &self.target, usize::from(connections), 1, &self.silent).await
    }

    /// How far the messages have got.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn progress(&self) -> anyhow::Result<rehearsal::Progress> {
        Ok(rehearsal::progress(&*self.db.get().await?).await?)
    }

    /// Waits until every message has arrived, for a while.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn drained(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let progress = self.progress().await?;
            if progress.notified >= progress.written || started.elapsed() > DRAINED {
                return Ok(());
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// Ends the server and removes what it used. Nothing of it is needed any more, so it is not
    /// asked to finish.
    pub async fn raze(mut self, services: &Services) {
        self.server.kill().ok();
        self.server.wait().ok();
        let config = &services.config;
        let topology = Topology::new(&self.queue, &config.inbox.retry_delays_ms);
        let retries = config.inbox.retry_delays_ms.iter().map(|ms| topology.retry_queue(*ms));
        let queues = [self.queue.clone(), topology.dead_queue()].into_iter().chain(retries);
        if let Ok(link) = Link::open(&config.rabbitmq.url, "bench").await
            && let Ok(channel) = link.channel().await
        {
            for queue in queues {
                let options = QueueDeleteOptions::default();
                channel.queue_delete(queue.into(), options).await.ok();
            }
            link.close().await.ok();
        }
        self.db.close();
        services.drop_database(&self.database).await;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// How bookings are asked for.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// With an `Idempotency-Key`.
    pub keys: bool,
    /// Ready to wait.
    pub waitlist: bool,
}

/// What the server says goes here.
fn log_path() -> String {
    std::env::temp_dir().join("happening-bench-server.log").to_string_lossy().into_owned()
}

fn start(
    services: &Services,
    url: &str,
    queue: &str,
    (port, socket_port): (u16, u16),
) -> anyhow::Result<Child> {
    let log = File::create(log_path()).context("the server's log")?;
    let config = &services.config;
    let program = std::env::current_exe().context("where this program is")?;
    Command::new(program)
        .arg("serve")
        .env("BE_PORT", port.to_string())
        .env("SOCKET_PORT", socket_port.to_string())
        .env("DATABASE_URL", url)
        .env("REDIS_URL", config.redis.url.expose_secret())
        .env("RABBITMQ_URL", config.rabbitmq.url.expose_secret())
        .env("NOTIFICATIONS_QUEUE", queue)
        .env("HAPPENING__AUTH__SIGNING_SECRET", config.auth.signing_secret.expose_secret())
        .env("HAPPENING__HTTP__HOST", "127.0.0.1")
        .env("HAPPENING__ROLES", "api,workers")
        .env("HAPPENING__LIMITS__EXEMPT_LOOPBACK", "true")
        // The limits are counted as ever, but one machine plays a whole town here.
        .env("HAPPENING__LIMITS__ACCOUNT_PER_SECOND", "1000000")
        .env("HAPPENING__LIMITS__ACCOUNT_BURST", "1000000")
        .env("HAPPENING__SOCKETS__EXEMPT_LOOPBACK", "true")
        .env("HAPPENING__HOLDS__PER_ADDRESS_MAX", "10000")
        .env("HAPPENING__LOG__FILTER", "warn")
        .env("HAPPENING__LOG__FORMAT", "json")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("the server cannot be started")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        let replaced = |url| with_database(url, "x").unwrap();
        assert_eq!(replaced("postgres://u:p@h:1/old?sslmode=x"), "postgres://u:p@h:1/x?sslmode=x");
        assert_eq!(replaced("postgresql://h"), "postgresql://h/x");
        assert!(with_database("host=h", "x").is_err());
    }
}
