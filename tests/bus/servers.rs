//! A broker of one's own for each case: it can be killed, paused and started again on its port.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use happening::clock::Ids;
use tokio::net::TcpStream;

/// How long anything may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Which program.
#[derive(Clone, Copy)]
pub enum Kind {
    Redis,
    Nats,
}

/// A running broker.
pub struct Server {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts one and waits until it can be connected to.
    pub async fn start(kind: Kind) -> Self {
        let folder = std::env::temp_dir().join(format!("bus-{}", Ids.uuid().simple()));
        std::fs::create_dir_all(&folder).expect("a folder");
        for _ in 0..10 {
            let mut server = Self { kind, port: free_port(), folder: folder.clone(), child: None };
            if server.start_again().await {
                return server;
            }
            // Somebody else was quicker to take the port.
            server.folder = PathBuf::new();
        }
        panic!("the broker does not start");
    }

    pub fn url(&self) -> String {
        let scheme = match self.kind {
            Kind::Redis => "redis",
            Kind::Nats => "nats",
        };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Starts it with what it had kept. False if it ended at once.
    pub async fn start_again(&mut self) -> bool {
        self.child = Some(command(self.kind, self.port, &self.folder));
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            let child = self.child.as_mut().expect("just started");
            if child.try_wait().expect("a child of ours").is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the broker does not answer");
    }

    /// As `kill -9` does it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// It stands still, and its connections with it.
    pub fn pause(&self) {
        self.signal("-STOP");
        let pid = self.child.as_ref().expect("it runs").id();
        let until = Instant::now() + DEADLINE;
        while !stands_still(pid) {
            assert!(Instant::now() < until, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().expect("kill is there");
        assert!(done.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if !self.folder.as_os_str().is_empty() {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// Whether none of its threads runs: the signal reaches them one by one.
fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // After the name, which is in parentheses.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}

fn command(kind: Kind, port: u16, folder: &Path) -> Child {
    let port = port.to_string();
    let mut command = match kind {
        Kind::Redis => {
            let mut command = Command::new(program("REDIS_SERVER"));
            command.args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "yes", "--daemonize", "no", "--dir"]).arg(folder);
            command
        }
        Kind::Nats => {
            // Others may send longer messages than we do.
            let settings = folder.join("nats.conf");
            std::fs::write(&settings, "max_payload: 16777216\nmax_pending: 67108864\n").unwrap();
            let mut command = Command::new(program("NATS_SERVER"));
            command.args(["-a", "127.0.0.1", "-p", &port, "-js", "-sd"]).arg(folder);
            command.arg("-c").arg(settings);
            command
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the broker can be started")
}

#[expect(clippy::disallowed_methods, reason = "tests are told where the programs are")]
fn program(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests run with ./dev test"))
}

/// A port that nobody has, below those that the kernel gives to outgoing connections: it stays
/// free while the broker is down.
fn free_port() -> u16 {
    loop {
        let port = u16::try_from(20_000 + Ids.jitter(12_000)).expect("it fits");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
