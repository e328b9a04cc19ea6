//! Private services that a test may kill: PostgreSQL and Redis on Unix sockets behind proxies, so
//! that they can be restarted without anybody taking their port meanwhile, and RabbitMQ.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::process::{Dir, Process, Program, binary, children, is_root, until, var};
use crate::proxy::{Proxy, Upstream};

/// How long a service may take to start, on a busy machine.
const START: Duration = Duration::from_mins(1);
/// What the connections of the booking desk say and no others.
const DESK: &str = "UPDATE events e SET capacity = u.capacity";

/// A private PostgreSQL with the schema in it.
pub struct Postgres {
    dir: PathBuf,
    running: Option<Process>,
    log: PathBuf,
    /// Servers under test connect here. Its traps are for the connections of booking desks.
    pub proxy: Proxy,
}

impl Postgres {
    pub async fn start(home: &Dir) -> Self {
        let (dir, log) = (home.join("pg"), home.join("postgres.log"));
        copy(&template(), &dir);
        let proxy = Proxy::start(Upstream::Unix(socket(&dir)), DESK).await;
        let mut postgres = Self { dir, running: None, log, proxy };
        postgres.start_again().await;
        postgres
    }

    pub fn url(&self) -> String {
        format!("postgres://happening@{}/happening", self.proxy.address())
    }

    /// As after a crash of the machine, but for what the page cache saves: nobody is asked.
    pub fn kill(&mut self) {
        let Some(mut postmaster) = self.running.take() else { return };
        let backends = children(postmaster.pid());
        postmaster.kill();
        for pid in backends {
            std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).output().ok();
        }
    }

    pub async fn start_again(&mut self) {
        until("the end of the backends", START, async || nobody_in(&self.dir).then_some(())).await;
        fs::remove_file(self.dir.join("postmaster.pid")).ok();
        let mut process = postgres(&self.dir).start(&self.log);
        until("PostgreSQL answers", START, async || {
            process.must_live();
            connect(&self.dir, "happening").await
        })
        .await;
        self.running = Some(process);
    }

    /// A connection of the test's own, past the proxy.
    pub async fn client(&self) -> Client {
        connect(&self.dir, "happening").await.expect("PostgreSQL answers")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Without fsync: what is killed here is processes, never the machine. What was acknowledged is
/// with the kernel all the same, because commits are synchronous.
fn postgres(dir: &Path) -> Program {
    let sockets = dir.display();
    Program::new(Path::new(&var("PG_BIN")).join("postgres"))
        .run_as_postgres()
        .args(["-D".to_owned(), sockets.to_string()])
        .args([
            "--listen_addresses=".to_owned(),
            format!("--unix_socket_directories={sockets}"),
            "--fsync=off".to_owned(),
            "--synchronous_commit=on".to_owned(),
            "--full_page_writes=off".to_owned(),
            "--max_connections=150".to_owned(),
            "--shared_buffers=32MB".to_owned(),
            "--timezone=UTC".to_owned(),
        ])
}

fn socket(dir: &Path) -> PathBuf {
    dir.join(".s.PGSQL.5432")
}

async fn connect(dir: &Path, database: &str) -> Option<Client> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(dir).user("happening").dbname(database);
    let (client, connection) = config.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Whether no process is attached to the shared memory of the server that was killed.
fn nobody_in(dir: &Path) -> bool {
    let lock = fs::read_to_string(dir.join("postmaster.pid")).unwrap_or_default();
    let id = lock.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
    let Some(id) = id else { return true };
    let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    !segments.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.nth(1) == Some(id) && words.nth(4) != Some("0")
    })
}

/// A data directory with the schema, made once for each state of the migrations.
fn template() -> PathBuf {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<PathBuf> =
        fs::read_dir(migrations).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    hash.update(var("PG_BIN"));
    for file in files {
        hash.update(fs::read(file).unwrap());
    }
    let first: [u8; 8] = hash.finalize()[..8].try_into().unwrap();
    let name = format!("{:016x}", u64::from_be_bytes(first));
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = tmp.join(format!("faults-pg-{name}"));
    // Tests run as processes side by side: one makes it, the others wait.
    let lock = fs::File::create(tmp.join("faults-pg.lock")).unwrap();
    lock.lock().unwrap();
    if !made.exists() {
        make_template(&made);
    }
    made
}

fn make_template(made: &Path) {
    let home = Dir::new();
    let (dir, log) = (home.join("pg"), home.join("log"));
    own(&dir);
    Program::new(Path::new(&var("PG_BIN")).join("initdb"))
        .run_as_postgres()
        .args(["-D".to_owned(), dir.display().to_string()])
        .args(["-U", "happening", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
        .args(["--wal-segsize=1"])
        .run(&log);
    // A thread has a runtime of its own, and the children of a thread end with it.
    std::thread::scope(|scope| {
        scope.spawn(|| migrate(&dir, &log)).join().expect("a template with the schema");
    });
    let unfinished = made.with_extension("new");
    fs::remove_dir_all(&unfinished).ok();
    copy(&dir, &unfinished);
    fs::rename(&unfinished, made).unwrap();
}

fn migrate(dir: &Path, log: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut server = postgres(dir).start(log);
    runtime.block_on(async {
        let client = until("PostgreSQL answers", START, async || {
            server.must_live();
            connect(dir, "postgres").await
        })
        .await;
        client.batch_execute("CREATE DATABASE happening").await.unwrap();
        let proxy = Proxy::start(Upstream::Unix(socket(dir)), DESK).await;
        Program::new(binary())
            .args(["migrate"])
            .envs([("HAPPENING__AUTH__SIGNING_SECRET", crate::server::SECRET)])
            .envs([("DATABASE_URL", format!("postgres://happening@{}/happening", proxy.address()))])
            .run(log);
    });
    server.signal("INT");
    runtime.block_on(server.wait(START));
}

/// An empty directory that PostgreSQL may use.
fn own(dir: &Path) {
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    if is_root() {
        let done = std::process::Command::new("chown").arg("postgres:").arg(dir).status();
        assert!(done.is_ok_and(|done| done.success()), "chown postgres: {}", dir.display());
    }
}

fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.is_ok_and(|done| done.success()), "cp -a {}", from.display());
}

/// A private Redis.
pub struct Redis {
    dir: PathBuf,
    running: Option<Process>,
    log: PathBuf,
    /// Servers under test connect here.
    pub proxy: Proxy,
}

impl Redis {
    pub async fn start(home: &Dir) -> Self {
        let (dir, log) = (home.join("redis"), home.join("redis.log"));
        fs::create_dir(&dir).unwrap();
        let proxy = Proxy::start(Upstream::Unix(dir.join("socket")), "").await;
        let mut redis = Self { dir, running: None, log, proxy };
        redis.start_again().await;
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.proxy.address())
    }

    /// Where it keeps what `SAVE` wrote.
    pub fn dump(&self) -> PathBuf {
        self.dir.join("dump.rdb")
    }

    pub fn kill(&mut self) {
        self.running = None;
    }

    pub fn signal(&self, name: &str) {
        self.running.as_ref().expect("Redis runs").signal(name);
    }

    pub async fn start_again(&mut self) {
        fs::remove_file(self.dir.join("socket")).ok();
        let mut process = Program::new(var("REDIS_SERVER"))
            .args(["--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no"])
            .args(["--maxmemory-policy", "noeviction", "--dir"])
            .args([self.dir.display().to_string()])
            .start(&self.log);
        until("Redis answers", START, async || {
            process.must_live();
            let mut connection = self.try_client().await?;
            redis::cmd("PING").exec_async(&mut connection).await.ok()
        })
        .await;
        self.running = Some(process);
    }

    /// A connection of the test's own, past the proxy.
    pub async fn client(&self) -> redis::aio::MultiplexedConnection {
        self.try_client().await.expect("Redis answers")
    }

    async fn try_client(&self) -> Option<redis::aio::MultiplexedConnection> {
        let url = format!("unix://{}", self.dir.join("socket").display());
        let client = redis::Client::open(url).expect("the URL of a Redis socket");
        client.get_multiplexed_async_connection().await.ok()
    }
}

/// A private RabbitMQ, for tests that kill it: five seconds to start.
pub struct Rabbit {
    env: Vec<(String, String)>,
    port: u16,
    running: Option<Process>,
    _epmd: Process,
    log: PathBuf,
}

impl Rabbit {
    pub async fn start(home: &Dir) -> Self {
        let (dir, log) = (home.join("rabbit"), home.join("rabbit.log"));
        for part in ["", "home", "log", "mnesia"] {
            fs::create_dir(dir.join(part)).unwrap();
        }
        let [port, dist, epmd] = [free_port(), free_port(), free_port()];
        fs::write(dir.join("plugins"), "[].\n").unwrap();
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\ndefault_user = happening\n\
             default_pass = happening\nvm_memory_high_watermark.absolute = 512MB\n\
             disk_free_limit.absolute = 50MB\nlog.console = true\n\
             log.console.level = warning\nlog.file = false\n"
        );
        fs::write(dir.join("rabbitmq.conf"), settings).unwrap();
        let path = |name: &str| dir.join(name).display().to_string();
        let erlang = "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}".to_owned();
        let env = [
            ("HOME", path("home")),
            ("RABBITMQ_NODENAME", format!("faults-{port}@localhost")),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODE_PORT", port.to_string()),
            ("RABBITMQ_DIST_PORT", dist.to_string()),
            ("ERL_EPMD_PORT", epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_MNESIA_BASE", path("mnesia")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_PID_FILE", path("pid")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang),
            // The script becomes the node instead of guarding it, so our pid is it.
            ("RUNNING_UNDER_SYSTEMD", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let names = Program::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &epmd.to_string()])
            .start(&log);
        let mut rabbit = Self { env, port, running: None, _epmd: names, log };
        rabbit.start_again().await;
        rabbit
    }

    pub fn url(&self) -> String {
        format!("amqp://happening:happening@127.0.0.1:{}", self.port)
    }

    pub fn kill(&mut self) {
        self.running = None;
    }

    pub async fn start_again(&mut self) {
        let mut process =
            Program::new(var("RABBITMQ_SERVER")).envs(self.env.clone()).start(&self.log);
        until("RabbitMQ answers", START, async || {
            process.must_live();
            broker(&self.url()).await.map(drop)
        })
        .await;
        self.running = Some(process);
    }
}

/// A connection to a broker.
pub async fn broker(url: &str) -> Option<lapin::Connection> {
    let connecting = lapin::Connection::connect(url, lapin::ConnectionProperties::default());
    tokio::time::timeout(Duration::from_secs(5), connecting).await.ok()?.ok()
}

/// One that nobody listens on, below those that the kernel gives to outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let [.., high, low] = Uuid::now_v7().into_bytes();
        let dice = u16::from_be_bytes([high, low]) % 12_000;
        let port = 12_000 + (dice + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
            return port;
        }
    }
}
