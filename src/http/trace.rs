//! Every request has an id and a trace, whoever started them: in the answer, in each log line, and
//! in every message that follows from it.

use std::future::{Ready, ready};
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use tracing::{Instrument as _, field};

use super::problem::Problem;
use crate::app::{App, Origin};
use crate::clock::Ids;
use crate::domain::trace_context::TraceContext;
use crate::telemetry::spans::{SpanKind, Step, number, text};

/// The header that carries the request id, in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What metrics call the route of what has none.
const UNMATCHED: &str = "unmatched";
/// Longest request id taken from outside.
const REQUEST_ID_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: Origin;
}

/// The id of the request being served, for problems; empty outside of one.
pub fn current_request_id() -> String {
    CURRENT.try_with(|origin| origin.correlation_id.clone()).unwrap_or_default()
}

/// The request's origin as an extractor.
#[derive(Clone, Debug)]
pub struct Traced(pub Origin);

impl FromRequest for Traced {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let origin = request.extensions().get::<Origin>().cloned();
        ready(Ok(Self(origin.unwrap_or_else(|| Origin {
            correlation_id: Ids.uuid().to_string(),
            traceparent: None,
        }))))
    }
}

/// Middleware: gives the request its id and trace, logs and measures the answer. Boxed: the
/// connection of every idle socket has room for this future, long after the request.
pub fn trace<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> LocalBoxFuture<'static, Result<ServiceResponse<B>, Error>> {
    Box::pin(traced(request, next))
}

async fn traced<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let started = Instant::now();
    let app = request.app_data::<web::Data<App>>().cloned();
    let spans = app.as_ref().map(|app| &app.spans);
    let caller = caller(&request);
    let context = TraceContext {
        trace_id: caller.map_or_else(|| Ids.trace_id(), |caller| caller.trace_id),
        span_id: Ids.span_id(),
        sampled: spans.is_some_and(|spans| spans.samples(caller)) && !is_probe(request.path()),
    };
    let origin = origin(&request, context);
    let method = request.method().clone();
    let path = request.path().to_owned();
    let span = tracing::info_span!(
        "request",
        request_id = origin.correlation_id,
        %method,
        path,
        trace_id = field::Empty
    );
    if context.sampled || caller.is_some() {
        span.record("trace_id", format_args!("{:032x}", context.trace_id));
    }
    request.extensions_mut().insert(origin.clone());
    let id = HeaderValue::from_str(&origin.correlation_id).ok();
    let answered = CURRENT.scope(origin, next.call(request)).instrument(span.clone()).await;
    let mut response = answered?;
    let route = response.request().match_pattern().unwrap_or_else(|| UNMATCHED.to_owned());
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    let method = method_label(&method);
    metrics::histogram!("http_request_seconds", "method" => method, "route" => route.clone())
        .record(elapsed.as_secs_f64());
    if let Some(spans) = spans {
        let place = (context, caller.map(|caller| caller.span_id));
        spans.request(place, started, || step(method, &route, status, id.as_ref()));
    }
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let class = status_class(status);
    metrics::counter!(
        "http_requests_total", "method" => method, "route" => route, "status" => class
    )
    .increment(1);
    span.in_scope(|| tracing::debug!(status, elapsed_us = elapsed.as_micros(), "answered"));
    Ok(response)
}

/// Machines that only look are in nobody's trace.
fn is_probe(path: &str) -> bool {
    path == "/metrics" || path.starts_with("/health")
}

/// Methods are a client's free choice; metrics know a handful.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn status_class(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// The request as a trace shows it. Neither path nor query nor address: they tell of people.
fn step(method: &'static str, route: &str, status: u16, id: Option<&HeaderValue>) -> Step {
    let mut attributes = vec![
        ("http.request.method", text(method)),
        ("http.response.status_code", number(usize::from(status))),
    ];
    let matched = route != UNMATCHED;
    if matched {
        attributes.push(("http.route", text(route)));
    }
    Step {
        kind: SpanKind::Server,
        name: if matched { format!("{method} {route}") } else { method.to_owned() },
        request_id: id.and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned(),
        failure: (status >= 500).then(|| status.to_string()),
        attributes,
    }
}

fn origin(request: &ServiceRequest, context: TraceContext) -> Origin {
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let usable = given.filter(|id| {
        !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.bytes().all(|b| b.is_ascii_graphic())
    });
    let correlation_id = usable.map_or_else(|| Ids.uuid().to_string(), str::to_owned);
    Origin { correlation_id, traceparent: Some(context.to_string()) }
}

/// The caller's place in a trace.
fn caller(request: &ServiceRequest) -> Option<TraceContext> {
    TraceContext::parse(request.headers().get("traceparent")?.to_str().ok()?)
}
