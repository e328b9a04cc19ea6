//! SPEED. What is fast and may be lost: all of it can be rebuilt from PostgreSQL.
//!
//! `link` is the one shared connection of the hot path, which knows which incarnation of Redis it
//! talks to; `pool` serves everything that is not hot. Scripts live in `lua/`, keys in `keys`.

pub mod feed;
pub mod gate;
pub mod holds;
pub mod keys;
pub mod link;
pub mod scripts;
pub mod stock;
pub mod tickets;

use std::time::Duration;

use anyhow::Context as _;
use deadpool_redis::{Connection, Manager, Pool, PoolConfig, Runtime, Timeouts};
use secrecy::ExposeSecret as _;

pub use self::link::{Link, Trust};
use crate::config;

/// Why Redis did not answer. Nobody needs to know more than that it is away: what follows is the
/// same, going on without it.
#[derive(Debug, thiserror::Error)]
#[error("Redis is unavailable")]
pub struct Away(#[source] pub anyhow::Error);

impl From<redis::RedisError> for Away {
    fn from(error: redis::RedisError) -> Self {
        Self(error.into())
    }
}

/// The connections to Redis. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    /// The shared connection of the hot path.
    pub link: Link,
    pool: Pool,
    client: redis::Client,
    connect_timeout: Duration,
}

impl Redis {
    /// Prepares connections; connects when first used (S4.15).
    ///
    /// # Errors
    /// When the URL cannot be understood.
    pub fn new(config: &config::Redis) -> anyhow::Result<Self> {
        let url = config.url.expose_secret();
        let client =
            redis::Client::open(url).context("redis.url (REDIS_URL) is not a Redis URL")?;
        let wait = Duration::from_millis(config.connect_timeout_ms);
        let timeouts = Timeouts { wait: Some(wait), create: Some(wait), recycle: Some(wait) };
        let pool = Pool::builder(Manager::new(url).context("redis.url (REDIS_URL)")?)
            .config(PoolConfig { max_size: config.pool_size, timeouts, ..Default::default() })
            .runtime(Runtime::Tokio1)
            .build()
            .context("the Redis pool cannot be built")?;
        Ok(Self { link: Link::new(client.clone(), config), pool, client, connect_timeout: wait })
    }

    /// A pooled connection, for what is not hot.
    pub async fn get(&self) -> Result<Connection, Away> {
        self.pool.get().await.map_err(|error| Away(error.into()))
    }

    /// Connections in use, open, and allowed, for metrics.
    pub fn usage(&self) -> (usize, usize, usize) {
        let status = self.pool.status();
        (status.size.saturating_sub(status.available), status.size, status.max_size)
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), Away> {
        let mut connection = self.get().await?;
        redis::cmd("PING").exec_async(&mut connection).await?;
        Ok(())
    }
}
