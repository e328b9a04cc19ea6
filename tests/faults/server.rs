//! The server under test: the real binary as a child process, told everything by its environment.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use crate::http::{self, Reply};
use crate::process::{Process, Program, binary, tail, until};

/// Signs the tokens of all tests.
pub const SECRET: &str = "the-signing-secret-of-the-fault-tests-0123456789";
/// How long a server may take to be ready, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A running server.
pub struct Server {
    process: Process,
    /// Where its API listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub async fn start(settings: &HashMap<String, String>, log: &Path) -> Self {
        fs::remove_file(log).ok();
        let mut process = Program::new(binary())
            .args(["serve"])
            .envs(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .start(log);
        let address = until("the server listens", START, async || {
            process.must_live();
            listening(log)
        })
        .await;
        let mut server = Self { process, address };
        until("the server is ready", START, async || {
            server.process.must_live();
            server.ready().await.then_some(())
        })
        .await;
        server
    }

    /// What `/health/ready` says.
    pub async fn ready(&self) -> bool {
        self.get("/health/ready").await.is_ok_and(|reply| reply.status == 200)
    }

    pub async fn get(&self, path: &str) -> http::Result {
        http::send(self.address, "GET", path, &[], "").await
    }

    /// The sum of a counter's series whose line contains `labels`.
    pub async fn counter(&self, name: &str, labels: &str) -> f64 {
        let Ok(Reply { body, .. }) = self.get("/metrics").await else { return 0.0 };
        body.lines()
            .filter(|line| line.starts_with(name) && line.contains(labels))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// What of its memory is in use, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("VmRSS")
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    pub async fn wait(&mut self, within: Duration) -> ExitStatus {
        self.process.wait(within).await
    }

    /// Fails with what the server said last, if it ended.
    pub fn must_live(&mut self) {
        self.process.must_live();
    }

    /// Where it says it.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// What it said last.
    pub fn last_words(&self) -> String {
        tail(self.process.log())
    }
}

/// The address of the API, from the log line that says so.
fn listening(log: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(log).ok()?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "listening" && line["face"] == "Api")
        .find_map(|line| line["address"].as_str()?.parse().ok())
}
