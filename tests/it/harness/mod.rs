//! A whole server for one test: own database, own Redis, own queues, real RabbitMQ, actors
//! running; people and events to play with; and at the end the truth.

pub mod cli;
pub mod interactions;
pub mod logs;
pub mod people;
pub mod queue;
pub mod scribe;
pub mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use happening::app::App;
use happening::clock::{Clock, Ids};
use happening::config::Config;
use happening::server::Server;
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::logs::Logs;
use self::queue::Queue;
use crate::support::client::{Ask, Client};
use crate::support::database::Database;
use crate::support::redis_server::RedisServer;
use crate::support::{environment, truth};

/// Signs tokens in tests.
pub const SECRET: &str = "an-unguessable-secret-for-tests-0123456789";
/// How long messages may take to reach everybody.
const TOLD: Duration = Duration::from_secs(30);
/// How long a stop may take.
const STOPPED: Duration = Duration::from_secs(15);

/// What a test wants different from the usual.
#[derive(Default)]
pub struct Wishes {
    settings: Vec<(String, String)>,
    clock: Clock,
    no_loops: bool,
}

impl Wishes {
    /// A key of the configuration, as an environment variable.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A clock that stands until the test moves it.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Neither relay nor consumers, reconciler, sweeper or cascade: the test takes their steps.
    pub fn without_loops(mut self) -> Self {
        self.no_loops = true;
        self.set("HAPPENING__ROLES", "api")
    }

    /// Starts it.
    pub async fn start(self) -> TestServer {
        TestServer::with(self).await
    }
}

/// What several processes share.
struct Services {
    database: Database,
    redis: RedisServer,
    queue: Queue,
}

/// A running server and everything around it.
pub struct TestServer {
    client: Client,
    config: Config,
    environment: HashMap<String, String>,
    clock: Clock,
    app: App,
    sockets: SocketAddr,
    pg: tokio_postgres::Client,
    redis: redis::aio::MultiplexedConnection,
    running: Vec<Running>,
    no_loops: bool,
    logs: Logs,
    services: Services,
}

struct Running {
    sockets: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl TestServer {
    /// Everything as usual.
    pub async fn start() -> Self {
        Self::with(Wishes::default()).await
    }

    async fn with(wishes: Wishes) -> Self {
        let logs = Logs::capture();
        let (database, redis) = tokio::join!(Database::create(), RedisServer::start());
        let queue = Queue::new(format!("it-{}", Ids.uuid().simple()));
        let services = Services { database, redis, queue };
        let environment = environment_of(&services, &wishes.settings);
        let config =
            Config::from_sources(None, environment.clone()).expect("the settings are good");
        let (app, client, running) = run(&config, &wishes.clock).await;
        Self {
            client,
            app,
            sockets: running.sockets,
            pg: services.database.connect().await,
            redis: services.redis.connect().await,
            running: vec![running],
            config,
            environment,
            clock: wishes.clock,
            no_loops: wishes.no_loops,
            logs,
            services,
        }
    }

    /// A second process on the same services: its client and its handles.
    pub async fn another(&mut self) -> (Client, App) {
        let (app, client, running) = run(&self.config, &self.clock).await;
        self.running.push(running);
        (client, app)
    }

    /// A call of the API.
    pub fn call(&self, method: &str, path: &str) -> Ask {
        self.client.call(method, path)
    }

    /// A call of what stands at the root.
    pub fn root(&self, method: &str, path: &str) -> Ask {
        self.client.root(method, path)
    }

    /// The client, to be moved into tasks.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The handles that verbs work with.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Where its Socket.IO is.
    pub fn sockets(&self) -> SocketAddr {
        self.sockets
    }

    /// Ends the process that was started last, in an orderly way.
    pub async fn stop_last(&mut self) {
        let Running { stop, ended, .. } = self.running.pop().expect("it runs");
        stop.cancel();
        let ended = tokio::time::timeout(STOPPED, ended).await.expect("it stops in time");
        ended.expect("it does not panic").expect("it ends well");
    }

    /// The settings it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The test's own connection to the database.
    pub fn pg(&self) -> &tokio_postgres::Client {
        &self.pg
    }

    /// The test's own connection to Redis.
    pub fn redis(&self) -> redis::aio::MultiplexedConnection {
        self.redis.clone()
    }

    /// Its queues.
    pub fn queue(&self) -> &Queue {
        &self.services.queue
    }

    /// Rows of the database.
    pub async fn sql(&self, statement: &str) -> Vec<tokio_postgres::Row> {
        self.pg.query(statement, &[]).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"))
    }

    /// One number out of the database.
    pub async fn count(&self, statement: &str) -> i64 {
        self.sql(statement).await[0].get(0)
    }

    /// What requests change in the database, a line a table: the same as long as they changed
    /// nothing. What the message plane and Redis go on doing by themselves is left out.
    pub async fn state(&self) -> Vec<String> {
        let tables = "SELECT table_name::text FROM information_schema.tables
            WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
              AND table_name NOT IN ('notifications', 'processed_events', 'redis_epoch',
                                     'stream_leases', 'bus_relay', 'bus_stragglers',
                                     'bus_publications')
              AND table_name NOT LIKE 'message_log%'
            ORDER BY 1";
        let mut state = Vec::new();
        for row in self.sql(tables).await {
            let table: String = row.get(0);
            let what = if table == "outbox" { "t.id" } else { "t" };
            let digest = format!(
                "SELECT count(*) || ' ' || md5(coalesce(string_agg({what}::text, '|'
                    ORDER BY {what}::text), '')) FROM {table} t"
            );
            let digest: String = self.sql(&digest).await[0].get(0);
            state.push(format!("{table} {digest}"));
        }
        state
    }

    /// What holds after every test: PostgreSQL's invariants, Redis equal to it, everybody told
    /// once, only documented answers, no error logged.
    pub async fn check(&self) {
        truth::invariants(&self.pg).await;
        if !self.no_loops {
            truth::redis_agrees(&self.pg, &self.redis).await;
            truth::everybody_was_told(&self.pg, TOLD).await;
        }
        self.check_answers().await;
        self.logs.check();
    }

    /// Every answer that was given is documented for its operation.
    async fn check_answers(&self) {
        let seen = self.client.seen();
        let document = self.root("GET", "/openapi.json").send().await.expect(200).body;
        for (method, path, status, media) in seen {
            let Some(answers) = documented(&document, &method, &path) else {
                assert!(
                    matches!(status, 404 | 405) || !path.starts_with("/api/"),
                    "{method} {path} is not documented and answered {status}"
                );
                continue;
            };
            let answer = &answers[status.to_string()];
            assert!(answer.is_object(), "{method} {path} answered {status}: not documented");
            let reference = answer["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
            let answer = reference.map_or(answer, |to| document.pointer(to).expect(to));
            let medias = answer["content"].as_object();
            let essence = media.split(';').next().unwrap_or_default().trim();
            let known = medias.is_none_or(|medias| medias.contains_key(essence));
            assert!(known || essence.is_empty(), "{method} {path} {status}: {media} undocumented");
        }
    }

    /// What the test itself has brought about may have been logged as an error.
    pub fn forgive(&self, what: &str) {
        self.logs.forgive(what);
    }

    /// The end of a test: the truth, then an orderly stop.
    pub async fn finish(mut self) {
        self.check().await;
        while !self.running.is_empty() {
            self.stop_last().await;
        }
        self.services.queue.delete(&self.config.inbox.retry_delays_ms).await;
    }
}

impl AsRef<Client> for TestServer {
    fn as_ref(&self) -> &Client {
        &self.client
    }
}

/// A server whose clock stands at ten o'clock on the first of March 2026.
pub async fn at_ten() -> TestServer {
    let clock = Clock::manual("2026-03-01T10:00:00Z".parse().expect("a time"));
    Wishes::default().clock(&clock).start().await
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let finished = self.running.is_empty() || std::thread::panicking();
        assert!(finished, "end the test with server.finish().await");
    }
}

/// The documented answers of an operation.
pub fn documented<'a>(document: &'a Value, method: &str, path: &str) -> Option<&'a Value> {
    let fits = |template: &str| {
        let (mut wanted, mut given) = (template.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(wanted), Some(given)) if wanted == given || wanted.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    let paths = document["paths"].as_object().expect("paths");
    // What is spelled out goes before what is a parameter.
    let mut fitting: Vec<_> = paths.iter().filter(|(template, _)| fits(template)).collect();
    fitting.sort_by_key(|(template, _)| template.matches('{').count());
    let operation = &fitting.first()?.1[method.to_ascii_lowercase()];
    operation.is_object().then(|| &operation["responses"])
}

async fn run(config: &Config, clock: &Clock) -> (App, Client, Running) {
    let server = Server::start_at(config.clone(), clock.clone()).await.expect("the server starts");
    let client = Client::new(server.api_address().expect("an address"));
    let (app, stop) = (server.app().clone(), CancellationToken::new());
    let sockets = server.socket_address().expect("an address");
    let ended = spawn(server.run_until(stop.clone()));
    (app, client, Running { sockets, stop, ended })
}

/// Runs beside the test.
#[expect(clippy::disallowed_methods, reason = "tests have no supervisor")]
pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// What the processes of a test are told.
fn environment_of(services: &Services, more: &[(String, String)]) -> HashMap<String, String> {
    let mut environment: HashMap<String, String> = [
        ("BE_PORT", "0".to_owned()),
        ("SOCKET_PORT", "0".to_owned()),
        ("DATABASE_URL", services.database.url().to_owned()),
        ("REDIS_URL", services.redis.url()),
        ("RABBITMQ_URL", environment("RABBITMQ_URL")),
        ("NOTIFICATIONS_QUEUE", services.queue.name().to_owned()),
        ("HAPPENING__AUTH__SIGNING_SECRET", SECRET.to_owned()),
        ("HAPPENING__HTTP__WORKERS", "2".to_owned()),
        ("HAPPENING__POSTGRES__POOL_SIZE", "8".to_owned()),
        // All callers of a test come from one address; what limits do has tests of its own.
        ("HAPPENING__LIMITS__EXEMPT_LOOPBACK", "true".to_owned()),
        ("HAPPENING__LIMITS__ACCOUNT_PER_SECOND", "100000".to_owned()),
        ("HAPPENING__LIMITS__ACCOUNT_BURST", "100000".to_owned()),
        ("HAPPENING__LIMITS__SIGN_IN_PER_MINUTE", "100000".to_owned()),
        ("HAPPENING__RABBITMQ__CONSUMERS", "2".to_owned()),
        // Who breaks something does not want to be told of it; alarms have tests of their own.
        ("HAPPENING__ALARMS__TICK_MS", "60000".to_owned()),
        ("HAPPENING__INBOX__RETRY_DELAYS_MS", "50,100,200".to_owned()),
        ("HAPPENING__RELAY__RETRY_DELAY_MS", "50".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    environment.extend(more.iter().cloned());
    environment
}

/// An instant that is far enough ahead for anything to be on sale until then.
pub fn in_days(clock: &Clock, days: i64) -> String {
    let at = clock.now() + jiff::SignedDuration::from_hours(24 * days);
    at.to_string()
}

/// What an API time says.
pub fn time(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap_or_else(|| panic!("a time: {value}"));
    assert!(text.ends_with('Z') && text.len() == 24, "UTC with milliseconds: {text}");
    text.parse().expect("a time")
}

/// What an API id says.
pub fn id(value: &Value) -> Uuid {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("an id: {value}"))
}
