//! The process's settings: read once, checked at once, all mistakes listed together. The only
//! reader of the environment. Keys, defaults and meanings: `config/default.toml`.

use std::collections::HashMap;
use std::fmt::Write as _;

use config::{Environment, File, FileFormat};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// The reference file, built in.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// Short environment names and the keys they stand for.
const SHORT_NAMES: [(&str, &str); 6] = [
    ("BE_PORT", "http.be_port"),
    ("SOCKET_PORT", "http.socket_port"),
    ("DATABASE_URL", "postgres.url"),
    ("REDIS_URL", "redis.url"),
    ("RABBITMQ_URL", "rabbitmq.url"),
    ("NOTIFICATIONS_QUEUE", "rabbitmq.notifications_queue"),
];

/// The shortest signing secret accepted, in bytes (256 bits, RFC 7518 §3.2).
const SIGNING_SECRET_MIN: usize = 32;
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
        booking: Booking,
        holds: Holds,
        relay: Relay,
        inbox: Inbox,
        reconciler: Reconciler,
        sockets: Sockets,
        stop: Stop,
        log: Log,
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
    }
);
section!(
    /// Logging.
    Log {
        filter: String,
        format: String,
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

    fn check(&self) -> Result<(), ConfigError> {
        let mut wrong = String::new();
        let mut require = |holds: bool, key: &str, rule: &str| {
            if !holds {
                let _ = writeln!(wrong, "  {key}: {rule}");
            }
        };
        require(!self.roles.is_empty(), "roles", "name at least one of api, workers");
        let secret = self.auth.signing_secret.expose_secret();
        let distinct = secret.bytes().collect::<std::collections::HashSet<_>>().len();
        require(
            secret.len() >= SIGNING_SECRET_MIN && distinct >= 8,
            "auth.signing_secret",
            "needs 32 or more random bytes, e.g. from `openssl rand -base64 48`",
        );
        require(
            self.demo || secret != DEMO_SECRET,
            "auth.signing_secret",
            "is the demo's; choose your own",
        );
        require(
            self.http.be_port == 0 || self.http.be_port != self.http.socket_port,
            "http.socket_port",
            "must differ from http.be_port",
        );
        let address: Result<std::net::IpAddr, _> = self.http.host.parse();
        require(address.is_ok(), "http.host", "must be an IP address, e.g. 0.0.0.0");
        require(self.http.max_connections > 0, "http.max_connections", "must be above 0");
        require(
            (1024..=16_777_216).contains(&self.http.body_limit_bytes),
            "http.body_limit_bytes",
            "must be between 1024 and 16777216",
        );
        require(
            (self.http.body_limit_bytes..=67_108_864).contains(&self.http.map_limit_bytes),
            "http.map_limit_bytes",
            "must be between http.body_limit_bytes and 67108864",
        );
        require(self.http.request_timeout_ms > 0, "http.request_timeout_ms", "must be above 0");
        self.check_services(&mut require);
        self.check_bounds(&mut require);
        self.check_sockets(&mut require);
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError(wrong.trim_end().to_owned())) }
    }

    fn check_services(&self, require: &mut impl FnMut(bool, &str, &str)) {
        let starts = |url: &SecretString, schemes: &[&str]| {
            schemes.iter().any(|scheme| url.expose_secret().starts_with(scheme))
        };
        require(
            starts(&self.postgres.url, &["postgres://", "postgresql://"]),
            "postgres.url (DATABASE_URL)",
            "must start with postgres://",
        );
        require(
            starts(&self.redis.url, &["redis://", "rediss://"]),
            "redis.url (REDIS_URL)",
            "must start with redis:// or rediss://",
        );
        require(
            starts(&self.rabbitmq.url, &["amqp://", "amqps://"]),
            "rabbitmq.url (RABBITMQ_URL)",
            "must start with amqp:// or amqps://",
        );
        let queue = &self.rabbitmq.notifications_queue;
        require(
            !queue.is_empty() && queue.len() <= 200 && !queue.starts_with("amq."),
            "rabbitmq.notifications_queue (NOTIFICATIONS_QUEUE)",
            "must be 1 to 200 bytes and not start with amq.",
        );
        require(self.postgres.pool_size > 0, "postgres.pool_size", "must be above 0");
        require(self.redis.pool_size > 0, "redis.pool_size", "must be above 0");
        require(self.rabbitmq.prefetch > 0, "rabbitmq.prefetch", "must be above 0");
        require(
            (1..=64).contains(&self.rabbitmq.consumers),
            "rabbitmq.consumers",
            "must be between 1 and 64",
        );
    }

    fn check_sockets(&self, require: &mut impl FnMut(bool, &str, &str)) {
        for (value, key) in [
            (self.sockets.max_per_user, "sockets.max_per_user"),
            (self.sockets.max_per_address, "sockets.max_per_address"),
            (self.sockets.rooms_per_socket, "sockets.rooms_per_socket"),
        ] {
            require(value > 0, key, "must be above 0");
        }
        require(
            (1024..=65_536).contains(&self.sockets.frame_limit_bytes),
            "sockets.frame_limit_bytes",
            "must be between 1024 and 65536",
        );
        require(
            self.sockets.frames_per_second > 0 && self.sockets.frames_burst > 0,
            "sockets.frames_per_second, sockets.frames_burst",
            "must be above 0",
        );
        require(
            self.sockets.ping_ms > 0 && self.sockets.idle_ms > self.sockets.ping_ms,
            "sockets.idle_ms",
            "must be above sockets.ping_ms, and that above 0",
        );
        require(
            self.sockets.look_ms > 0 && self.sockets.recheck_ms > 0,
            "sockets.look_ms, sockets.recheck_ms",
            "must be above 0",
        );
    }

    fn check_bounds(&self, require: &mut impl FnMut(bool, &str, &str)) {
        for (value, key) in [
            (self.auth.access_token_seconds, "auth.access_token_seconds"),
            (self.auth.refresh_token_days, "auth.refresh_token_days"),
            (self.auth.invitation_days, "auth.invitation_days"),
            (self.limits.account_per_second, "limits.account_per_second"),
            (self.limits.account_burst, "limits.account_burst"),
            (self.limits.address_per_second, "limits.address_per_second"),
            (self.limits.address_burst, "limits.address_burst"),
            (self.limits.sign_in_per_minute, "limits.sign_in_per_minute"),
            (self.holds.per_address_max, "holds.per_address_max"),
            (self.holds.ticket_seconds, "holds.ticket_seconds"),
            (self.relay.batch_max, "relay.batch_max"),
            (self.relay.attempts_max, "relay.attempts_max"),
            (self.inbox.attempts_max, "inbox.attempts_max"),
            (self.inbox.retention_days, "inbox.retention_days"),
            (self.reconciler.batch_max, "reconciler.batch_max"),
        ] {
            require(value > 0, key, "must be above 0");
        }
        require(self.auth.hashing_concurrency > 0, "auth.hashing_concurrency", "must be above 0");
        require(
            (1..=64).contains(&self.booking.lanes),
            "booking.lanes",
            "must be between 1 and 64",
        );
        require(
            (1..=4096).contains(&self.booking.batch_max),
            "booking.batch_max",
            "must be between 1 and 4096",
        );
        require(self.holds.ttl_ms > 0, "holds.ttl_ms", "must be above 0");
        require(
            self.holds.age_max_ms >= self.holds.ttl_ms,
            "holds.age_max_ms",
            "must not be below holds.ttl_ms",
        );
        require(
            (1..=100).contains(&self.holds.per_event_percent),
            "holds.per_event_percent",
            "must be between 1 and 100",
        );
        require(self.booking.queue_max > 0, "booking.queue_max", "must be above 0");
        require(
            !self.inbox.retry_delays_ms.is_empty() && self.inbox.retry_delays_ms.len() <= 8,
            "inbox.retry_delays_ms",
            "needs 1 to 8 delays",
        );
        require(
            matches!(self.log.format.as_str(), "auto" | "pretty" | "json"),
            "log.format",
            "must be auto, pretty or json",
        );
    }
}

/// The path of a program: what the variable says, or else its own name.
#[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
pub fn program(variable: &str, name: &str) -> String {
    std::env::var(variable).ok().filter(|path| !path.is_empty()).unwrap_or_else(|| name.to_owned())
}

fn utf8_pair((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}
