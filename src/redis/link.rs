//! The one shared connection of the hot path. Each new connection asks Redis for its run id: a
//! server that restarted, perhaps from an old dump, is another one, and nothing in it is believed
//! until the reconciler has begun a new epoch (research/reliability.md, "Redis restart").

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};

use super::Away;
use crate::config;

/// After a failure, callers go on without Redis for this long before one tries again.
const PAUSE: Duration = Duration::from_millis(300);

/// The incarnation of Redis that is believed, and as which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The server's run id.
    pub run_id: String,
    /// The epoch that everything written into it carries.
    pub epoch: i64,
}

struct Live {
    connection: MultiplexedConnection,
    run_id: String,
}

struct Inner {
    client: Client,
    response_timeout: Duration,
    connect_timeout: Duration,
    live: ArcSwapOption<Live>,
    trust: ArcSwapOption<Trust>,
    connecting: tokio::sync::Mutex<()>,
    down_until: Mutex<Option<Instant>>,
}

/// A handle of the shared connection.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

impl Link {
    pub(super) fn new(client: Client, config: &config::Redis) -> Self {
        Self(Arc::new(Inner {
            client,
            response_timeout: Duration::from_millis(config.response_timeout_ms),
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
            live: ArcSwapOption::empty(),
            trust: ArcSwapOption::empty(),
            connecting: tokio::sync::Mutex::new(()),
            down_until: Mutex::new(None),
        }))
    }

    /// Believes what this incarnation holds under this epoch.
    pub fn trust(&self, trust: Trust) {
        self.0.trust.store(Some(Arc::new(trust)));
    }

    /// What is believed now.
    pub fn trusted(&self) -> Option<Trust> {
        self.0.trust.load().as_deref().cloned()
    }

    /// The run id of the server at the other end.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn run_id(&self) -> Result<String, Away> {
        Ok(self.live().await?.run_id.clone())
    }

    /// The connection and the epoch to work in; `None` while the incarnation is not believed.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn believed(&self) -> Result<Option<(MultiplexedConnection, i64)>, Away> {
        let live = self.live().await?;
        let trust = self.0.trust.load();
        Ok(trust
            .as_deref()
            .filter(|trust| trust.run_id == live.run_id)
            .map(|trust| (live.connection.clone(), trust.epoch)))
    }

    /// The connection, whatever is at its other end.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn connection(&self) -> Result<MultiplexedConnection, Away> {
        Ok(self.live().await?.connection.clone())
    }

    /// Notes that a command failed: a broken or slow connection is given up, and callers go on
    /// without Redis for a moment. Whether the command was carried out is unknown.
    pub fn failed(&self, error: RedisError) -> Away {
        let answered = error.code().is_some() && !error.is_connection_dropped();
        if !answered {
            self.0.live.store(None);
            self.pause();
        }
        error.into()
    }

    fn pause(&self) {
        if let Ok(mut down_until) = self.0.down_until.lock() {
            *down_until = Some(Instant::now() + PAUSE);
        }
    }

    fn not_paused(&self) -> Result<(), Away> {
        let paused = self.0.down_until.lock();
        if paused.is_ok_and(|until| until.is_some_and(|until| Instant::now() < until)) {
            return Err(Away(anyhow!("it failed a moment ago")));
        }
        Ok(())
    }

    async fn live(&self) -> Result<Arc<Live>, Away> {
        if let Some(live) = self.0.live.load_full() {
            return Ok(live);
        }
        self.not_paused()?;
        let _one_at_a_time = self.0.connecting.lock().await;
        if let Some(live) = self.0.live.load_full() {
            return Ok(live);
        }
        // Whoever waited for one that failed does not try it all again.
        self.not_paused()?;
        match self.connect().await {
            Ok(live) => {
                let live = Arc::new(live);
                self.0.live.store(Some(Arc::clone(&live)));
                Ok(live)
            }
            Err(error) => {
                self.pause();
                Err(Away(error))
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<Live> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.0.connect_timeout))
            .set_response_timeout(Some(self.0.response_timeout));
        let mut connection =
            self.0.client.get_multiplexed_async_connection_with_config(&config).await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let run_id = info
            .lines()
            .find_map(|line| line.strip_prefix("run_id:"))
            .context("INFO server has no run_id")?
            .trim()
            .to_owned();
        Ok(Live { connection, run_id })
    }
}
