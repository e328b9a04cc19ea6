//! The process's settings: read once, checked at once, all mistakes listed together. The only
//! reader of the environment. Keys, defaults and meanings: `config/default.toml`.

mod check;

use std::collections::HashMap;

use config::{Environment, File, FileFormat};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// The reference file, built in.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// Short environment names and the keys they stand for.
const SHORT_NAMES: [(&str, &str); 7] = [
    ("BE_PORT", "http.be_port"),
    ("SOCKET_PORT", "http.socket_port"),
    ("DATABASE_URL", "postgres.url"),
    ("REDIS_URL", "redis.url"),
    ("RABBITMQ_URL", "rabbitmq.url"),
    ("NATS_URL", "bus.nats_url"),
    ("NOTIFICATIONS_QUEUE", "rabbitmq.notifications_queue"),
];

/// Sign-ins per minute in demo mode, where many people share few accounts.
const DEMO_SIGN_INS: u32 = 60;
/// Signs tokens in demo mode, where everybody knows the passwords anyway.
const DEMO_SECRET: &str = "happening-demo-signing-secret-not-for-real-people";

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "each key is explained in config/default.toml")]
        pub struct $name { $(pub $field: $type),+ }
    };
}

section!(
    /// Everything.
    Config {
        roles: Vec<Role>,
        demo: bool,
        http: Http,
        auth: Auth,
        limits: Limits,
        postgres: Postgres,
        redis: Redis,
        rabbitmq: Rabbit,
        bus: Bus,
        booking: Booking,
        holds: Holds,
        relay: Relay,
        inbox: Inbox,
        reconciler: Reconciler,
        seal: Seal,
        audit: Audit,
        alarms: Alarms,
        interests: Interests,
        sockets: Sockets,
        stop: Stop,
        log: Log,
        tracing: Tracing,
    }
);

/// What a process does.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Serves HTTP.
    Api,
    /// Relays, consumes, reconciles and sweeps.
    Workers,
}

section!(
    /// The listeners.
    Http {
        host: String,
        be_port: u16,
        socket_port: u16,
        workers: usize,
        max_connections: usize,
        body_limit_bytes: usize,
        map_limit_bytes: usize,
        request_timeout_ms: u64,
        keep_alive_ms: u64,
        cors_origins: Vec<String>,
        trusted_proxies: Vec<String>,
    }
);
section!(
    /// Tokens and passwords.
    Auth {
        signing_secret: SecretString,
        access_token_seconds: u32,
        refresh_token_days: u32,
        hashing_concurrency: usize,
        hashing_queue: usize,
        invitation_days: u32,
    }
);
section!(
    /// Rate limits.
    Limits {
        account_per_second: u32,
        account_burst: u32,
        address_per_second: u32,
        address_burst: u32,
        sign_in_per_minute: u32,
        exempt_loopback: bool,
    }
);
section!(
    /// PostgreSQL.
    Postgres {
        url: SecretString,
        pool_size: usize,
        acquire_timeout_ms: u64,
        connect_timeout_ms: u64,
        statement_timeout_ms: u64,
        lock_timeout_ms: u64,
        idle_in_transaction_timeout_ms: u64,
    }
);
section!(
    /// Redis.
    Redis {
        url: SecretString,
        response_timeout_ms: u64,
        connect_timeout_ms: u64,
        pool_size: usize,
    }
);
section!(
    /// RabbitMQ.
    Rabbit {
        url: SecretString,
        notifications_queue: String,
        prefetch: u16,
        consumers: u16,
        confirm_timeout_ms: u64,
    }
);
/// A broker that can keep the streams.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Redis Streams.
    Redis,
    /// NATS `JetStream`.
    Nats,
    /// The process itself: for tests of handlers.
    Memory,
}

section!(
    /// Streams of messages.
    Bus {
        provider: Provider,
        nats_url: SecretString,
        prefix: String,
        message_limit_bytes: usize,
        read_max: usize,
        claim_idle_ms: u64,
        answer_timeout_ms: u64,
        also_publish_to: Option<Provider>,
        attempts_max: u32,
        retry_delay_ms: u64,
        retry_delay_max_ms: u64,
        stream_lease_ms: u64,
        max_length: u64,
    }
);
section!(
    /// The booking desk.
    Booking {
        lanes: usize,
        batch_max: usize,
        queue_max: usize,
        answer_timeout_ms: u64,
        lease_ms: u64,
    }
);
section!(
    /// Seats that are held while somebody decides.
    Holds {
        ttl_ms: u64,
        grace_ms: u64,
        renewals_max: u32,
        age_max_ms: u64,
        per_address_max: u32,
        per_event_percent: u32,
        ticket_seconds: u32,
    }
);
section!(
    /// The outbox relay.
    Relay {
        batch_max: u32,
        lease_ms: u64,
        attempts_max: u32,
        retry_delay_ms: u64,
        lost_after_ms: u64,
        busy_rate_per_second: u32,
        tick_ms: u64,
        retention_hours: u32,
    }
);
section!(
    /// The consumers' inbox.
    Inbox {
        lease_ms: u64,
        attempts_max: u32,
        retry_delays_ms: Vec<u64>,
        retention_days: u32,
    }
);
section!(
    /// Redis against PostgreSQL.
    Reconciler {
        tick_ms: u64,
        batch_max: u32,
    }
);
section!(
    /// The keys of fields that travel encrypted.
    Seal {
        keys: SecretString,
    }
);
section!(
    /// How long it is kept what became of messages, and who changed what.
    Audit {
        message_days: u32,
        change_days: u32,
    }
);
section!(
    /// When somebody is woken.
    Alarms {
        tick_ms: u64,
        backlog_seconds: u32,
        error_percent: u32,
        errors_min: u32,
        error_window_seconds: u32,
        dead_letters_max: u32,
        dead_letters_window_seconds: u32,
        open_after_seconds: u32,
        close_after_seconds: u32,
        remind_hours: u32,
        retention_days: u32,
    }
);
section!(
    /// What people say of events, and whom it is told.
    Interests {
        alert_days: u32,
    }
);
section!(
    /// Sockets, of both faces.
    Sockets {
        origins: Vec<String>,
        max_total: usize,
        max_per_user: usize,
        max_per_address: usize,
        exempt_loopback: bool,
        rooms_per_socket: usize,
        frame_limit_bytes: usize,
        frames_per_second: u32,
        frames_burst: u32,
        ping_ms: u64,
        idle_ms: u64,
        write_timeout_ms: u64,
        look_ms: u64,
        recheck_ms: u64,
        warn_ms: u64,
        farewell_spread_ms: u64,
    }
);
section!(
    /// The orderly stop.
    Stop {
        drain_ms: u64,
        workers_ms: u64,
        relay_ms: u64,
        spans_ms: u64,
    }
);
section!(
    /// Logging.
    Log {
        filter: String,
        format: String,
    }
);
section!(
    /// Spans for a collector of traces.
    Tracing {
        otlp_endpoint: String,
        otlp_headers: SecretString,
        service_name: String,
        sample_ratio: f64,
        trust_callers: bool,
        queue_max: usize,
        batch_max: usize,
        timeout_ms: u64,
    }
);

/// Settings that cannot be used, every mistake on a line of its own.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n{0}")]
pub struct ConfigError(String);

impl Config {
    /// Reads the defaults, the file that `HAPPENING_CONFIG` names, and the environment.
    ///
    /// # Errors
    /// Lists every mistake with its key.
    pub fn load() -> Result<Self, ConfigError> {
        Self::load_with(&[])
    }

    /// The same with demo mode switched on, whatever the sources say.
    ///
    /// # Errors
    /// Lists every mistake with its key.
    pub fn load_demo() -> Result<Self, ConfigError> {
        Self::load_with(&[("HAPPENING__DEMO", "true".to_owned())])
    }

    /// The same with some variables set as if the environment said so.
    ///
    /// # Errors
    /// Lists every mistake with its key.
    #[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
    pub fn load_with(variables: &[(&str, String)]) -> Result<Self, ConfigError> {
        let file = std::env::var("HAPPENING_CONFIG").ok();
        let mut environment: HashMap<_, _> = std::env::vars_os().filter_map(utf8_pair).collect();
        for (name, value) in variables {
            environment.insert((*name).to_owned(), value.clone());
        }
        Self::from_sources(file.as_deref(), environment)
    }

    /// The same from given sources, for tests.
    ///
    /// # Errors
    /// Lists every mistake with its key.
    pub fn from_sources(
        file: Option<&str>,
        environment: HashMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut builder =
            config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = file {
            builder = builder.add_source(File::new(path, FileFormat::Toml));
        }
        for (name, key) in SHORT_NAMES {
            if let Some(value) = environment.get(name) {
                builder = builder
                    .set_override(key, value.as_str())
                    .map_err(|error| ConfigError(format!("  {name}: {error}")))?;
            }
        }
        let built = builder
            .add_source(
                Environment::with_prefix("HAPPENING")
                    .separator("__")
                    .prefix_separator("__")
                    .try_parsing(true)
                    .list_separator(",")
                    .with_list_parse_key("roles")
                    .with_list_parse_key("http.cors_origins")
                    .with_list_parse_key("http.trusted_proxies")
                    .with_list_parse_key("sockets.origins")
                    .with_list_parse_key("inbox.retry_delays_ms")
                    .source(Some(environment)),
            )
            .build()
            .map_err(|error| ConfigError(format!("  {error}")))?;
        let mut config: Self =
            built.try_deserialize().map_err(|error| ConfigError(format!("  {error}")))?;
        config.complete();
        config.check()?;
        Ok(config)
    }

    /// Whether this process plays `role`.
    pub fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Fills in what follows from other keys.
    fn complete(&mut self) {
        if self.http.socket_port == 0 {
            self.http.socket_port = match self.http.be_port {
                0 => 0,
                port => port.saturating_add(1),
            };
        }
        if self.demo {
            self.limits.exempt_loopback = true;
            self.sockets.exempt_loopback = true;
            self.limits.sign_in_per_minute = self.limits.sign_in_per_minute.max(DEMO_SIGN_INS);
            if self.auth.signing_secret.expose_secret().is_empty() {
                self.auth.signing_secret = DEMO_SECRET.into();
            }
        }
    }
}

/// The path of a program: what the variable says, or else its own name.
#[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
pub fn program(variable: &str, name: &str) -> String {
    std::env::var(variable).ok().filter(|path| !path.is_empty()).unwrap_or_else(|| name.to_owned())
}

/// What this process is called among others of the same instance: its host's name and its number.
pub fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().take(80).collect();
    format!("{}:{}", if host.is_empty() { "here" } else { &host }, std::process::id())
}

fn utf8_pair((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}
