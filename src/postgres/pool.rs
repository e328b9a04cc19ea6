//! Connections to PostgreSQL: pooled, bounded in number and in every kind of waiting.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
pub use deadpool_postgres::Object;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use secrecy::ExposeSecret as _;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{DbError, Tx};
use crate::config;

/// A pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
}

/// For statements that look rows up by key, many at a time: planned once, by index. PostgreSQL
/// would plan for arrays anew with each call, and a plan made while a table was empty would read
/// all of it when it is not.
const BY_KEY: &str = " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off \
                      -c enable_hashjoin=off -c enable_mergejoin=off -c enable_bitmapscan=off";

impl Db {
    /// A pool of at most `size` connections. Connects when first used.
    ///
    /// # Errors
    /// When the URL cannot be understood.
    pub fn new(config: &config::Postgres, size: usize) -> anyhow::Result<Self> {
        Self::with_options(config, size, "")
    }

    /// A pool for those who look up and write by key, in batches: the desk and the message plane.
    ///
    /// # Errors
    /// When the URL cannot be understood.
    pub fn by_key(config: &config::Postgres, size: usize) -> anyhow::Result<Self> {
        Self::with_options(config, size, BY_KEY)
    }

    /// No statement here runs long enough to be worth compiling (`jit`): that took 0.4 s for each
    /// claim of a large backlog.
    fn with_options(config: &config::Postgres, size: usize, more: &str) -> anyhow::Result<Self> {
        let mut pg = tokio_postgres::Config::from_str(config.url.expose_secret())
            .map_err(|_| anyhow!("postgres.url (DATABASE_URL) is not a connection string"))?;
        let bounds = format!(
            "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={} \
             -c timezone=UTC -c synchronous_commit=on -c client_min_messages=warning \
             -c jit=off{more}",
            config.statement_timeout_ms,
            config.lock_timeout_ms,
            config.idle_in_transaction_timeout_ms
        );
        let options = match pg.get_options() {
            Some(own) => format!("{bounds} {own}"),
            None => bounds,
        };
        pg.options(&options);
        pg.application_name("happening");
        pg.connect_timeout(Duration::from_millis(config.connect_timeout_ms));
        pg.keepalives_idle(Duration::from_secs(15));
        pg.tcp_user_timeout(Duration::from_millis(config.statement_timeout_ms + 5000));
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = if pg.get_ssl_mode() == SslMode::Disable || is_local(&pg) {
            Manager::from_config(pg, NoTls, recycling)
        } else {
            Manager::from_config(pg, tls()?, recycling)
        };
        let wait = Duration::from_millis(config.acquire_timeout_ms);
        let pool = Pool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(wait))
            .create_timeout(Some(wait))
            .recycle_timeout(Some(wait))
            .runtime(Runtime::Tokio1)
            .build()
            .context("the PostgreSQL pool cannot be built")?;
        Ok(Self { pool })
    }

    /// A connection for statements that need no transaction.
    pub async fn get(&self) -> Result<Object, DbError> {
        self.pool.get().await.map_err(|error| DbError::Unavailable(error.into()))
    }

    /// A transaction. A connection that died in the pool is replaced once.
    pub async fn begin(&self) -> Result<Tx, DbError> {
        match Tx::begin(self.get().await?).await {
            Err(DbError::Unavailable(_)) => Tx::begin(self.get().await?).await,
            begun => begun,
        }
    }

    /// Connections in use, open, and allowed, for metrics.
    pub fn usage(&self) -> (usize, usize, usize) {
        let status = self.pool.status();
        (status.size.saturating_sub(status.available), status.size, status.max_size)
    }

    /// Closes it: waiting callers get an error.
    pub fn close(&self) {
        self.pool.close();
    }
}

fn is_local(pg: &tokio_postgres::Config) -> bool {
    use tokio_postgres::config::Host;
    pg.get_ssl_mode() == SslMode::Prefer
        && pg.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => name == "localhost" || name.starts_with("127.") || name == "::1",
            Host::Unix(_) => true,
        })
}

fn tls() -> anyhow::Result<MakeRustlsConnect> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        roots.add(certificate).ok();
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
