//! What settings must keep to: all mistakes are listed at once, each with its key.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Config, ConfigError, DEMO_SECRET, Seal, Tracing};

/// The shortest signing secret accepted, in bytes (256 bits, RFC 7518 §3.2).
const SIGNING_SECRET_MIN: usize = 32;

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
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
        self.check_alarms(&mut require);
        self.check_tracing(&mut require);
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
        require(
            starts(&self.bus.nats_url, &["nats://", "tls://", "ws://", "wss://"]),
            "bus.nats_url (NATS_URL)",
            "must start with nats:// or tls://",
        );
        self.check_bus(require);
        require(self.postgres.pool_size > 0, "postgres.pool_size", "must be above 0");
        require(self.redis.pool_size > 0, "redis.pool_size", "must be above 0");
        require(self.rabbitmq.prefetch > 0, "rabbitmq.prefetch", "must be above 0");
        require(
            (1..=64).contains(&self.rabbitmq.consumers),
            "rabbitmq.consumers",
            "must be between 1 and 64",
        );
    }

    fn check_bus(&self, require: &mut impl FnMut(bool, &str, &str)) {
        let bus = &self.bus;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        require(
            bus.prefix.len() <= 40 && bus.prefix.chars().all(plain),
            "bus.prefix",
            "must be at most 40 letters, digits, - and _",
        );
        require(
            (1024..=8_388_608).contains(&bus.message_limit_bytes),
            "bus.message_limit_bytes",
            "must be between 1024 and 8388608",
        );
        require(
            (1..=10_000).contains(&bus.read_max),
            "bus.read_max",
            "must be between 1 and 10000",
        );
        require(bus.claim_idle_ms >= 100, "bus.claim_idle_ms", "must be at least 100");
        require(bus.stream_lease_ms >= 100, "bus.stream_lease_ms", "must be at least 100");
        require(
            (2000..=60_000).contains(&bus.answer_timeout_ms),
            "bus.answer_timeout_ms",
            "must be between 2000 and 60000",
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

    fn check_alarms(&self, require: &mut impl FnMut(bool, &str, &str)) {
        let alarms = &self.alarms;
        for (value, key) in [
            (alarms.backlog_seconds, "alarms.backlog_seconds"),
            (alarms.errors_min, "alarms.errors_min"),
            (alarms.error_window_seconds, "alarms.error_window_seconds"),
            (alarms.dead_letters_max, "alarms.dead_letters_max"),
            (alarms.dead_letters_window_seconds, "alarms.dead_letters_window_seconds"),
            (alarms.close_after_seconds, "alarms.close_after_seconds"),
            (alarms.remind_hours, "alarms.remind_hours"),
            (alarms.retention_days, "alarms.retention_days"),
        ] {
            require(value > 0, key, "must be above 0");
        }
        require(
            (1..=100).contains(&alarms.error_percent),
            "alarms.error_percent",
            "must be between 1 and 100",
        );
        require(
            (100..=60_000).contains(&alarms.tick_ms),
            "alarms.tick_ms",
            "must be between 100 and 60000",
        );
    }

    fn check_tracing(&self, require: &mut impl FnMut(bool, &str, &str)) {
        let tracing = &self.tracing;
        require(
            tracing.otlp_endpoint.is_empty() || is_base_url(&tracing.otlp_endpoint),
            "tracing.otlp_endpoint",
            "must be http:// or https://, a host, and no more than a path",
        );
        if let Err(rule) = tracing.headers() {
            require(false, "tracing.otlp_headers", rule);
        }
        require(
            (1..=255).contains(&tracing.service_name.len()),
            "tracing.service_name",
            "must be 1 to 255 bytes",
        );
        require(
            (0.0..=1.0).contains(&tracing.sample_ratio),
            "tracing.sample_ratio",
            "must be between 0 and 1",
        );
        require(
            (1..=262_144).contains(&tracing.queue_max),
            "tracing.queue_max",
            "must be between 1 and 262144",
        );
        require(
            (1..=tracing.queue_max.min(8192)).contains(&tracing.batch_max),
            "tracing.batch_max",
            "must be between 1 and 8192, and not above tracing.queue_max",
        );
        require(
            (100..=10_000).contains(&tracing.timeout_ms),
            "tracing.timeout_ms",
            "must be between 100 and 10000",
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
            (self.audit.message_days, "audit.message_days"),
            (self.audit.change_days, "audit.change_days"),
            (self.interests.alert_days, "interests.alert_days"),
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
        if let Err(rule) = self.seal.parsed() {
            require(false, "seal.keys", rule);
        }
        require(
            matches!(self.log.format.as_str(), "auto" | "pretty" | "json"),
            "log.format",
            "must be auto, pretty or json",
        );
    }
}

/// Somebody's name and password in it would be printed, and have a key of their own.
fn is_base_url(url: &str) -> bool {
    let uri = url.parse::<hyper::Uri>().ok();
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|host| !host.as_str().contains('@'))
            && uri.query().is_none()
            && !url.contains('#')
    })
}

impl Tracing {
    /// The headers that the collector wants, by name.
    ///
    /// # Errors
    /// What is wrong with them, without naming any.
    pub fn headers(&self) -> Result<Vec<(String, String)>, &'static str> {
        let listed = self.otlp_headers.expose_secret().split(',').map(str::trim);
        let header = |entry: &str| {
            let (name, value) = entry.split_once('=').ok_or("each header is name=value")?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if name.is_empty() || !name.bytes().all(plain) {
                return Err("a header's name has letters, digits, - and _");
            }
            if value.is_empty() || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err("a header's value is printable ASCII");
            }
            Ok((name.to_owned(), value.to_owned()))
        };
        listed.filter(|entry| !entry.is_empty()).map(header).collect()
    }
}

impl Seal {
    /// The keys by their ids, in their order.
    ///
    /// # Errors
    /// What is wrong with them, without naming any.
    pub fn parsed(&self) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
        let listed = self.keys.expose_secret().split(',').map(str::trim);
        let mut keys: Vec<(String, Vec<u8>)> = Vec::new();
        for entry in listed.filter(|entry| !entry.is_empty()) {
            let (id, key) = entry.split_once(':').ok_or("each key is id:base64")?;
            let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if id.is_empty() || id.len() > 32 || !plain {
                return Err("an id is 1 to 32 letters, digits and dashes");
            }
            if keys.iter().any(|(known, _)| known == id) {
                return Err("each id stands for one key");
            }
            let key = STANDARD.decode(key).ok().filter(|key| key.len() == 32);
            let key = key.ok_or("a key is 32 random bytes: `openssl rand -base64 32`")?;
            keys.push((id.to_owned(), key));
        }
        Ok(keys)
    }
}
