//! A private NATS with `JetStream`, on files, that a test may kill.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::{Dir, Process, Program, until, var};
use crate::services::free_port;

const START: Duration = Duration::from_mins(1);

/// A private NATS.
pub struct Nats {
    dir: PathBuf,
    port: u16,
    running: Option<Process>,
    log: PathBuf,
}

impl Nats {
    pub async fn start(home: &Dir) -> Self {
        let (dir, log) = (home.join("nats"), home.join("nats.log"));
        fs::create_dir(&dir).unwrap();
        let mut nats = Self { dir, port: free_port(), running: None, log };
        nats.start_again().await;
        nats
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn kill(&mut self) {
        self.running = None;
    }

    pub fn signal(&self, name: &str) {
        self.running.as_ref().expect("NATS runs").signal(name);
    }

    pub async fn start_again(&mut self) {
        let mut process = Program::new(var("NATS_SERVER"))
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"])
            .args([self.dir.display().to_string()])
            .start(&self.log);
        until("NATS answers", START, async || {
            process.must_live();
            self.client().await.map(drop)
        })
        .await;
        self.running = Some(process);
    }

    /// A connection of the test's own.
    pub async fn client(&self) -> Option<async_nats::Client> {
        async_nats::ConnectOptions::new()
            .connection_timeout(Duration::from_secs(2))
            .connect(self.url())
            .await
            .ok()
    }

    /// Deletes a stream, or all of them.
    pub async fn delete(&self, name: Option<&str>) {
        let Some(client) = self.client().await else { return };
        let names = if let Some(name) = name {
            vec![name.to_owned()]
        } else {
            let told = client.request("$JS.API.STREAM.NAMES", "".into()).await;
            let body = told.map(|told| told.payload).unwrap_or_default();
            let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let names = told["streams"].as_array().cloned().unwrap_or_default();
            names.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
        };
        for name in names {
            client.request(format!("$JS.API.STREAM.DELETE.{name}"), "".into()).await.ok();
        }
    }
}
