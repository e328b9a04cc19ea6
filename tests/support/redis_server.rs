//! A Redis for one test: it can be flushed, stopped and killed without disturbing anybody.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use happening::clock::Ids;

use super::{environment, eventually};

/// A redis-server of one's own.
pub struct RedisServer {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        for _ in 0..5 {
            let mut server = Self::spawn(free_port());
            if server.answers().await {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of the test's own.
    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a Redis URL");
        client.get_multiplexed_async_connection().await.expect("Redis answers")
    }

    fn spawn(port: u16) -> Self {
        let folder = std::env::temp_dir().join(format!("it-redis-{}", Ids.uuid().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for Redis");
        let child = Command::new(environment("REDIS_SERVER"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--daemonize", "no", "--dir"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("REDIS_SERVER can be started");
        Self { child, port, folder }
    }

    /// False if it ended: somebody else was quicker to take the port.
    async fn answers(&mut self) -> bool {
        let url = self.url();
        let child = &mut self.child;
        eventually(Duration::from_secs(10), || {
            let ended = child.try_wait().expect("a child of ours").is_some();
            let url = url.clone();
            async move {
                if ended {
                    return Ok(false);
                }
                let client = redis::Client::open(url).expect("a Redis URL");
                let connected = client.get_multiplexed_async_connection().await;
                let mut connection = connected.map_err(|error| error.to_string())?;
                let pong = redis::cmd("PING").exec_async(&mut connection).await;
                pong.map(|()| true).map_err(|error| error.to_string())
            }
        })
        .await
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
