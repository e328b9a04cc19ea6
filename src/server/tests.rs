//! The doors of a process whose services are all away: what works then, and how it stops.

use std::collections::HashMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;

/// Nothing listens on port 1.
fn config(more: &[(&str, &str)]) -> Config {
    let mut environment: HashMap<String, String> = [
        ("BE_PORT", "0"),
        ("SOCKET_PORT", "0"),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing"),
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("RABBITMQ_URL", "amqp://127.0.0.1:1"),
        ("HAPPENING__DEMO", "true"),
        ("HAPPENING__HTTP__WORKERS", "1"),
        ("HAPPENING__POSTGRES__ACQUIRE_TIMEOUT_MS", "300"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    environment.extend(more.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
    Config::from_sources(None, environment).unwrap()
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }
}

async fn send(address: SocketAddr, head: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{head}\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, &format!("GET {path} HTTP/1.1")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_its_services_lives_and_says_what_is_missing() {
    let server = Server::start(config(&[])).await.unwrap();
    let (api, socket) = (server.api_address().unwrap(), server.socket_address().unwrap());
    for door in [api, socket] {
        let health = get(door, "/health").await;
        assert_eq!((health.status, &health.json()["status"]), (200, &"ok".into()));
        assert_eq!(health.json()["service"], "happening");
        assert!(health.json()["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(get(door, "/health/live").await.status, 200);
        let ready = get(door, "/health/ready").await;
        assert_eq!((ready.status, &ready.json()["status"]), (503, &"unready".into()));
        let dependencies = ready.json()["dependencies"].as_array().unwrap().clone();
        assert_eq!(dependencies.len(), 4);
        assert!(dependencies.iter().all(|one| one["status"] == "down"), "{dependencies:?}");
        let actors = ready.json()["actors"].as_array().unwrap().clone();
        assert!(actors.iter().any(|actor| actor["name"] == "metrics-upkeep"), "{actors:?}");
    }
    let known = get(api, "/health?service=metrics-upkeep").await;
    assert_eq!((known.status, &known.json()["service"]), (200, &"metrics-upkeep".into()));
    assert_eq!(get(api, "/health?service=nonsense").await.status, 404);
    let owed = get(api, "/health/events").await;
    assert_eq!((owed.status, &owed.json()["code"]), (503, &"unavailable".into()));
    assert!(owed.header("retry-after").is_some());
    let metrics = get(api, "/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("postgres_pool_connections{state=\"max\"} 16"));
    assert!(metrics.body.contains("actor_up{actor=\"metrics-upkeep\"} 1"));
    server.run_until(fired()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_handler_takes_is_a_problem_too() {
    let server = Server::start(config(&[])).await.unwrap();
    let api = server.api_address().unwrap();
    for (request, status, code) in [
        ("GET /nowhere HTTP/1.1", 404, "not_found"),
        ("GET /%ff%00 HTTP/1.1", 404, "not_found"),
        ("GET /api/v1/nowhere HTTP/1.1", 404, "not_found"),
        ("POST /health HTTP/1.1", 405, "method_not_allowed"),
        ("OPTIONS /health HTTP/1.1", 405, "method_not_allowed"),
        ("BREW /nowhere HTTP/1.1", 404, "not_found"),
        ("GET /problems/nonsense HTTP/1.1", 404, "not_found"),
        ("GET /health?service=a&service=b HTTP/1.1", 422, "invalid"),
    ] {
        let answer = send(api, request).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &code.into()), "{request}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-request-id"), answer.json()["request_id"].as_str());
    }
    assert_eq!(send(api, "POST /health HTTP/1.1").await.header("allow"), Some("GET, HEAD"));
    let probe = send(api, "HEAD /health/live HTTP/1.1").await;
    let length = get(api, "/health/live").await.header("content-length").map(str::to_owned);
    assert_eq!((probe.status, probe.header("content-length")), (200, length.as_deref()));
    assert_eq!(probe.body, "");
    assert_eq!(send(api, "HEAD /nowhere HTTP/1.1").await.status, 404);
    let long = get(api, &format!("/{}", "a".repeat(9000))).await;
    assert_eq!((long.status, &long.json()["code"]), (414, &"uri_too_long".into()));
    let big = format!("GET / HTTP/1.1\r\nX-Big: {}", "a".repeat(40_000));
    assert_eq!(send(api, &big).await.json()["code"], "headers_too_large");
    server.run_until(fired()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_documents_itself_offline() {
    let server = Server::start(config(&[])).await.unwrap();
    let api = server.api_address().unwrap();
    let document = get(api, "/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document["components"]["schemas"]["ProblemBody"].is_object());
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.contains_key("503"), "{path}");
            assert!(!path.starts_with("/api/") || answers.contains_key("429"), "{path}");
        }
    }
    let mut ids = std::collections::HashSet::new();
    for (path, method, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].clone()), "{method} {path}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let described = response["description"].is_string() || response["$ref"].is_string();
            assert!(described, "{method} {path} {status}");
        }
    }
    assert_eq!(get(api, "/docs").await.header("location"), Some("/docs/"));
    let docs = get(api, "/docs/").await;
    assert_eq!(docs.status, 200);
    assert!(!docs.body.contains("http://") && !docs.body.contains("https://"), "{}", docs.body);
    assert!(get(api, "/docs/swagger-initializer.js").await.body.contains("/openapi.json"));
    for (code, status, title, _) in crate::http::problem::CATALOGUE {
        let page = get(api, &format!("/problems/{code}")).await;
        assert!(page.status == 200 && page.body.contains(title), "{code}");
        assert!((400..=599).contains(status));
    }
    assert!(get(api, "/").await.body.contains("/docs/"));
    server.run_until(fired()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_tells_the_truth_about_credentials() {
    let server = Server::start(config(&[])).await.unwrap();
    let api = server.api_address().unwrap();
    let document = get(api, "/openapi.json").await.json();
    for (path, method, operation) in operations(&document) {
        let Some(security) = operation["security"].as_array() else { continue };
        let needed = security.len() == 1;
        let id = "00000000-0000-7000-8000-000000000000";
        let path = path.split('/').map(|part| if part.starts_with('{') { id } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        let method = method.to_uppercase();
        let answer = send(api, &format!("{method} {path} HTTP/1.1")).await;
        assert_eq!(answer.status == 401, needed, "{method} {path}: {}", answer.status);
        assert!(answer.status < 500 || answer.status == 503, "{method} {path}");
        assert_eq!(answer.header("ratelimit-policy"), None, "loopback is exempt in the demo");
    }
    server.run_until(fired()).await.unwrap();
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let operations = item.as_object().unwrap().iter();
            operations.map(|(method, operation)| (path.clone(), method.clone(), operation))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_from_named_origins_may_call() {
    let origins = ("HAPPENING__HTTP__CORS_ORIGINS", "https://shop.example,https://b.example");
    let server = Server::start(config(&[origins])).await.unwrap();
    let api = server.api_address().unwrap();
    let preflight = "OPTIONS /health HTTP/1.1\r\nAccess-Control-Request-Method: GET\r\nOrigin: ";
    let allowed = send(api, &format!("{preflight}https://shop.example")).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://shop.example"));
    let other = send(api, &format!("{preflight}https://evil.example")).await;
    assert_eq!(other.header("access-control-allow-origin"), None);
    server.run_until(fired()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_no_idle_connection_and_a_taken_port_is_named() {
    let server = Server::start(config(&[])).await.unwrap();
    let api = server.api_address().unwrap();
    let port = api.port().to_string();
    let taken = Server::start(config(&[("BE_PORT", &port)])).await.err().unwrap();
    assert!(format!("{taken:#}").contains("BE_PORT"), "{taken:#}");
    let mut idle = TcpStream::connect(api).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let begun = Instant::now();
    server.run_until(fired()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(api).await.is_err(), "the port is free again");
}

fn fired() -> CancellationToken {
    let stop = CancellationToken::new();
    stop.cancel();
    stop
}
