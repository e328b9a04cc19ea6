//! Every request has an id and a trace, whoever started them: in the answer, in each log line, and
//! in every message that follows from it.

use std::future::{Ready, ready};
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest};
use futures_util::future::LocalBoxFuture;
use tracing::Instrument as _;

use super::problem::Problem;
use crate::app::Origin;
use crate::clock::Ids;

/// The header that carries the request id, in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
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
    let origin = origin(&request);
    let method = request.method().clone();
    let path = request.path().to_owned();
    let span = tracing::info_span!(
        "request",
        request_id = origin.correlation_id,
        %method,
        path
    );
    request.extensions_mut().insert(origin.clone());
    let id = HeaderValue::from_str(&origin.correlation_id).ok();
    let answered = CURRENT.scope(origin, next.call(request)).instrument(span.clone()).await;
    let mut response = answered?;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    let method = method_label(&method);
    metrics::histogram!("http_request_seconds", "method" => method, "route" => route.clone())
        .record(elapsed.as_secs_f64());
    let class = status_class(status);
    metrics::counter!(
        "http_requests_total", "method" => method, "route" => route, "status" => class
    )
    .increment(1);
    span.in_scope(|| tracing::debug!(status, elapsed_us = elapsed.as_micros(), "answered"));
    Ok(response)
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

fn origin(request: &ServiceRequest) -> Origin {
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let usable = given.filter(|id| {
        !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.bytes().all(|b| b.is_ascii_graphic())
    });
    let correlation_id = usable.map_or_else(|| Ids.uuid().to_string(), str::to_owned);
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let traceparent = Some(continue_trace(parent));
    Origin { correlation_id, traceparent }
}

/// A child of the caller's W3C trace context, or a new trace.
fn continue_trace(parent: Option<&str>) -> String {
    let mut parts = parent.unwrap_or_default().split('-');
    let lower_hex = |part: &str, len: usize| {
        part.len() == len
            && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && part.bytes().any(|b| b != b'0')
    };
    let trace_id = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("00"), Some(trace), Some(span), Some(flags))
            if lower_hex(trace, 32) && lower_hex(span, 16) && flags.len() == 2 =>
        {
            trace.to_owned()
        }
        _ => Ids.trace_id(),
    };
    format!("00-{trace_id}-{}-01", Ids.span_id())
}
