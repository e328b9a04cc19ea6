//! A request is one trace in the tool that collects them, from the door to the last consumer, and
//! nobody's secrets are in it.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;

use crate::harness::{TestServer, Wishes};
use crate::support::client::Ask;
use crate::support::collector::{Collector, attribute, hex, line};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(20);
const CALLER: &str = "00f067aa0ba902b7";
/// Everything that a span may tell.
const TOLD: [&str; 13] = [
    "error.type",
    "happening.desk.batch_size",
    "happening.event.id",
    "happening.message.type",
    "happening.request_id",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "messaging.batch.message_count",
    "messaging.destination.name",
    "messaging.message.id",
    "messaging.operation.name",
    "messaging.operation.type",
];

async fn traced(collector: &Collector) -> TestServer {
    Wishes::default()
        .set("HAPPENING__TRACING__OTLP_ENDPOINT", &format!("{}/", collector.url()))
        .set("HAPPENING__TRACING__OTLP_HEADERS", "authorization=Bearer collect, x-tenant=a")
        .set("HAPPENING__TRACING__SERVICE_NAME", "box-office")
        .start()
        .await
}

fn within(ask: Ask, trace: &str) -> Ask {
    ask.header("traceparent", &format!("00-{trace}-{CALLER}-01")).header("x-request-id", "mine")
}

/// The spans of a trace, as soon as these are among them.
async fn whole(collector: &Collector, trace: &str, wanted: &[String]) -> Vec<Span> {
    eventually(SOON, || async {
        let spans = collector.trace(trace);
        let lines: Vec<String> = spans.iter().map(line).collect();
        let missing = wanted.iter().find(|one| !lines.contains(one));
        missing.map_or(Ok(spans), |one| Err(format!("{one} is not in {lines:?}")))
    })
    .await
}

/// The door's span hangs on the caller's, all others on the door's.
fn must_hang_together(spans: &[Span], door: &str) {
    let first = spans.iter().find(|span| line(span) == door).expect("the door");
    assert_eq!(hex(&first.parent_span_id), CALLER);
    for span in spans.iter().filter(|span| span.span_id != first.span_id) {
        assert_eq!(span.parent_span_id, first.span_id, "{}", line(span));
    }
    for span in spans {
        assert_eq!(attribute(span, "happening.request_id").as_deref(), Some("mine"));
        assert_eq!(attribute(span, "error.type"), None);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
}

/// Neither words of people nor their secrets are in any span.
fn must_be_discreet(collector: &Collector, secrets: &[&str]) {
    for span in collector.spans() {
        for one in &span.attributes {
            let known = TOLD.contains(&one.key.as_str()) || one.key == "messaging.system";
            assert!(known, "{} of {}", one.key, line(&span));
        }
        let text = format!("{span:?}");
        let found = secrets.iter().find(|secret| text.contains(**secret));
        assert_eq!(found, None, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interest_is_one_trace_from_the_door_to_the_alert() {
    let collector = Collector::start(true).await;
    let server = traced(&collector).await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let ana = server.person().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let ask = server.call("PUT", &format!("/events/{event}/interest?ticket=hunter2"));
    let ask = ask.bearer(&ana.token).json(json!({"state": "sure", "privacy": "public"}));
    within(ask, trace).send().await.expect(200);

    let queue = server.queue().name().to_owned();
    let door = "Server PUT /api/v1/events/{id}/interest".to_owned();
    let wanted = [
        door.clone(),
        "Producer send interest.changed".to_owned(),
        "Consumer process interest.changed".to_owned(),
        format!("Producer send {queue}"),
        format!("Consumer process {queue}"),
    ];
    let spans = whole(&collector, trace, &wanted).await;
    assert_eq!(spans.len(), wanted.len(), "{:?}", spans.iter().map(line).collect::<Vec<_>>());
    must_hang_together(&spans, &door);
    let by_name = |name: &str| spans.iter().find(|span| line(span) == name).expect("it is there");
    let told = |name: &str, keys: [&str; 3]| keys.map(|key| attribute(by_name(name), key).unwrap());
    assert_eq!(
        told(&door, ["http.request.method", "http.route", "http.response.status_code"]),
        ["PUT", "/api/v1/events/{id}/interest", "200"]
    );
    let keys = ["messaging.system", "messaging.operation.type", "happening.message.type"];
    assert_eq!(told(&wanted[1], keys), ["redis", "send", "interest.changed"]);
    assert_eq!(told(&wanted[2], keys), ["redis", "process", "interest.changed"]);
    assert_eq!(told(&wanted[4], keys), ["rabbitmq", "process", "interest_alert"]);

    must_be_discreet(&collector, &["hunter2", &ana.token, &ana.id.to_string(), "@"]);
    for head in collector.heads() {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        for wanted in ["application/x-protobuf", "authorization: bearer collect", "x-tenant: a"] {
            assert!(head.contains(wanted), "{wanted} in {head}");
        }
    }
    assert!(collector.services().iter().all(|service| service == "box-office"));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_booking_is_one_trace_and_the_last_spans_leave_at_the_stop() {
    let collector = Collector::start(true).await;
    let server = traced(&collector).await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let ana = server.person().await;
    let trace = "5bf92f3577b34da6a3ce929d0e0e4736";
    let ask = server.booking(&ana, json!({"event_id": event, "seats": 2}));
    within(ask, trace).send().await.expect(201);
    let queue = server.queue().name().to_owned();
    let door = "Server POST /api/v1/bookings".to_owned();
    let wanted = [
        door.clone(),
        "Internal settle book".to_owned(),
        format!("Producer send {queue}"),
        format!("Consumer process {queue}"),
    ];
    let spans = whole(&collector, trace, &wanted).await;
    must_hang_together(&spans, &door);
    let settled = spans.iter().find(|span| line(span) == wanted[1]).expect("the desk");
    assert_eq!(attribute(settled, "happening.event.id"), Some(event.to_string()));
    assert_eq!(attribute(settled, "happening.desk.batch_size").as_deref(), Some("1"));

    // Those who only look are in no trace; who comes without one has one.
    server.root("GET", "/health/live").send().await.expect(200);
    let ask = server.call("GET", &format!("/events/{event}")).header("x-request-id", "the-last");
    ask.send().await.expect(200);
    server.finish().await;
    let spans = collector.spans();
    let of = |id: &str| {
        let mine = |span: &&Span| attribute(span, "happening.request_id").as_deref() == Some(id);
        spans.iter().filter(mine).count()
    };
    assert_eq!(of("the-last"), 1);
    assert!(!spans.iter().any(|span| span.name.contains("/health")));
    must_be_discreet(&collector, &[&ana.token, &ana.id.to_string(), "@"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_trace_is_recorded_is_not_the_callers_choice() {
    let collector = Collector::start(true).await;
    let server = Wishes::default()
        .set("HAPPENING__TRACING__OTLP_ENDPOINT", &collector.url())
        .set("HAPPENING__TRACING__SAMPLE_RATIO", "0")
        .start()
        .await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let ana = server.person().await;
    let trace = "6bf92f3577b34da6a3ce929d0e0e4736";
    let ask = server.booking(&ana, json!({"event_id": event, "seats": 1}));
    within(ask, trace).send().await.expect(201);
    // The trace goes on all the same, as one that nobody records.
    let rows = server.sql("SELECT traceparent FROM outbox WHERE correlation_id = 'mine'").await;
    let traceparent: String = rows[0].get(0);
    let parts: Vec<&str> = traceparent.split('-').collect();
    assert_eq!([parts[0], parts[1], parts[3]], ["00", trace, "00"]);
    assert_ne!(parts[2], CALLER);
    server.finish().await;
    assert_eq!(collector.spans(), []);
}
