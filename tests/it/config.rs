//! Settings: every mistake is told at once with the key's name, no secret is ever printed, and the
//! environment goes before the file, which goes before the defaults.

use std::collections::HashMap;

use happening::config::{Config, DEFAULTS};
use secrecy::ExposeSecret as _;

use crate::harness::SECRET;

fn load(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Config, String> {
    let mut all: HashMap<String, String> =
        [("HAPPENING__AUTH__SIGNING_SECRET".to_owned(), SECRET.to_owned())].into();
    all.extend(environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
    Config::from_sources(file, all).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = load(None, &[]).unwrap();
    assert_eq!((config.http.be_port, config.http.socket_port), (2208, 2209));
    assert_eq!(config.rabbitmq.notifications_queue, "notifications");
    assert_eq!(config.rabbitmq.prefetch, 10);
    assert_eq!((config.relay.attempts_max, config.relay.retry_delay_ms), (3, 1000));
    assert_eq!(load(None, &[("BE_PORT", "3000")]).unwrap().http.socket_port, 3001);
    let both = load(None, &[("BE_PORT", "3000"), ("SOCKET_PORT", "4000")]).unwrap();
    assert_eq!(both.http.socket_port, 4000);
}

#[test]
fn every_mistake_is_told_at_once() {
    let error = load(
        None,
        &[
            ("HAPPENING__AUTH__SIGNING_SECRET", "too-short"),
            ("DATABASE_URL", "mysql://root:hunter2@db/x"),
            ("REDIS_URL", "http://:hunter2@redis"),
            ("RABBITMQ_URL", "kafka://hunter2@x"),
            ("NATS_URL", "http://hunter2@x"),
            ("HAPPENING__BUS__PREFIX", "not.plain"),
            ("HAPPENING__BUS__READ_MAX", "0"),
            ("NOTIFICATIONS_QUEUE", "amq.reserved"),
            ("HAPPENING__HTTP__HOST", "everywhere"),
            ("HAPPENING__BOOKING__LANES", "0"),
            ("HAPPENING__BOOKING__BATCH_MAX", "1000000"),
            ("HAPPENING__LOG__FORMAT", "xml"),
            ("HAPPENING__INBOX__ATTEMPTS_MAX", "0"),
            ("HAPPENING__TRACING__OTLP_ENDPOINT", "http://me:hunter2@collector:4318"),
            ("HAPPENING__TRACING__OTLP_HEADERS", "authorization hunter2"),
            ("HAPPENING__TRACING__SAMPLE_RATIO", "1.5"),
            ("HAPPENING__TRACING__BATCH_MAX", "9000"),
            ("HAPPENING__TRACING__TIMEOUT_MS", "0"),
        ],
    )
    .unwrap_err();
    for key in [
        "auth.signing_secret",
        "DATABASE_URL",
        "REDIS_URL",
        "RABBITMQ_URL",
        "NATS_URL",
        "bus.prefix",
        "bus.read_max",
        "NOTIFICATIONS_QUEUE",
        "http.host",
        "booking.lanes",
        "booking.batch_max",
        "log.format",
        "inbox.attempts_max",
        "tracing.otlp_endpoint",
        "tracing.otlp_headers",
        "tracing.sample_ratio",
        "tracing.batch_max",
        "tracing.timeout_ms",
    ] {
        assert!(error.contains(key), "{key} in {error}");
    }
    assert!(!error.contains("hunter2") && !error.contains("too-short"), "{error}");
}

#[test]
fn what_cannot_be_read_names_its_key() {
    for (name, value, key) in [
        ("BE_PORT", "http", "be_port"),
        ("BE_PORT", "70000", "be_port"),
        ("HAPPENING__BOOKING__LANES", "many", "lanes"),
        ("HAPPENING__ROLES", "king", "king"),
        ("HAPPENING__HTTP__NO_SUCH_KEY", "1", "no_such_key"),
        ("HAPPENING__NO_SUCH_SECTION__KEY", "1", "no_such_section"),
    ] {
        let error = load(None, &[(name, value)]).unwrap_err();
        assert!(error.contains(key), "{name}={value}: {error}");
    }
}

#[test]
fn weak_and_known_secrets_are_refused_outside_the_demo() {
    let empty = Config::from_sources(None, HashMap::new()).unwrap_err().to_string();
    assert!(empty.contains("auth.signing_secret"), "{empty}");
    for weak in [
        "x",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abababababababababababababababababababab",
    ] {
        let error = load(None, &[("HAPPENING__AUTH__SIGNING_SECRET", weak)]).unwrap_err();
        assert!(
            error.contains("auth.signing_secret") && !error.contains(weak) || weak == "x",
            "{error}"
        );
    }
    let demo: HashMap<_, _> = [("HAPPENING__DEMO".to_owned(), "true".to_owned())].into();
    let demo = Config::from_sources(None, demo).unwrap();
    let known = demo.auth.signing_secret.expose_secret().to_owned();
    assert!(load(None, &[("HAPPENING__AUTH__SIGNING_SECRET", &known)]).is_err());
}

#[test]
fn secrets_are_not_printed() {
    let config = load(
        None,
        &[
            ("DATABASE_URL", "postgres://me:hunter2@127.0.0.1/x"),
            ("REDIS_URL", "redis://:hunter2@127.0.0.1"),
            ("RABBITMQ_URL", "amqp://me:hunter2@127.0.0.1"),
            ("HAPPENING__TRACING__OTLP_HEADERS", "authorization=Bearer hunter2"),
        ],
    )
    .unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn the_environment_goes_before_the_file_and_the_file_before_the_defaults() {
    let path = std::env::temp_dir().join(format!("it-config-{}.toml", std::process::id()));
    std::fs::write(&path, "[http]\nbe_port = 4000\n[booking]\nlanes = 5\n").unwrap();
    let config = load(path.to_str(), &[("HAPPENING__BOOKING__LANES", "7")]);
    std::fs::write(&path, "[http]\nbe_prot = 4000\n").unwrap();
    let mistaken = load(path.to_str(), &[]);
    std::fs::remove_file(&path).unwrap();
    let config = config.unwrap();
    assert_eq!(
        (config.http.be_port, config.booking.lanes, config.booking.batch_max),
        (4000, 7, 512)
    );
    assert!(mistaken.unwrap_err().contains("be_prot"));
    let missing = load(path.to_str(), &[]).unwrap_err();
    assert!(missing.contains("it-config"), "{missing}");
}

/// The reference says of every key what it means, and every key can be set by its name.
#[test]
fn every_key_has_its_comment_and_its_variable() {
    let (mut section, mut commented) = (String::new(), false);
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}__", name.trim_end_matches(']').to_uppercase());
        } else if line.starts_with('#') {
            commented = true;
        } else if let Some((key, value)) = line.split_once(" = ") {
            assert!(commented, "{key} has no comment");
            let name = format!("HAPPENING__{section}{}", key.to_uppercase());
            let list = value.trim_matches(['[', ']']).replace(['"', ' '], "");
            let value = if value.starts_with('[') { &list } else { value.trim_matches('"') };
            if !value.is_empty() {
                load(None, &[(&name, value)]).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        } else if line.trim().is_empty() {
            commented = false;
        }
    }
}
