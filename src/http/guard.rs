//! What every answer has in common, and the answers to requests that no handler takes: unknown
//! paths, wrong methods, unreadable parameters, heads beyond all measure.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError as _, web};

use bytes::Bytes;

use super::docs::Document;
use super::problem::Problem;
use crate::domain::refusal::Refusal;

/// Longest request target, in bytes.
const TARGET_MAX: usize = 8192;
/// Largest sum of header names and values, in bytes.
const HEADERS_MAX: usize = 32_768;

/// What pages may load: what we serve, nothing from elsewhere.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
    frame-ancestors 'none'; base-uri 'none'";

/// The size of a body that is not sent: what answers `HEAD` (RFC 9110, 9.3.2).
struct Unsent(BodySize);

impl MessageBody for Unsent {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

/// Middleware: refuses oversized heads before anything reads them, answers `HEAD` as `GET` without
/// its body, and tells browsers not to guess, frame or keep what they get.
pub async fn guard<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let bodiless = request.method() == Method::HEAD;
    if bodiless {
        request.head_mut().method = Method::GET;
    }
    let mut response = match check_head(request.uri(), request.headers()) {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(problem) => request.into_response(problem.error_response()),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ] {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if bodiless {
        response = response.map_body(|_, body| BoxBody::new(Unsent(body.size())));
    }
    Ok(response)
}

fn check_head(target: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let target = target.path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_MAX {
        let detail = format!("path and query may have {TARGET_MAX} bytes");
        return Err(Problem::Malformed(StatusCode::URI_TOO_LONG, "uri_too_long", detail));
    }
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > HEADERS_MAX {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let detail = format!("all headers together may have {HEADERS_MAX} bytes");
        return Err(Problem::Malformed(status, "headers_too_large", detail));
    }
    Ok(())
}

/// The last resort of the route table: 405 if the path exists with other methods, else 404.
pub async fn unmatched(request: HttpRequest, document: web::Data<Document>) -> HttpResponse {
    let Some(allow) = document.allowed(request.path()) else {
        return Problem::from(Refusal::NotFound("page")).error_response();
    };
    let detail = format!("{} is not among {allow}", request.method());
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = Problem::Malformed(status, "method_not_allowed", detail).error_response();
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// What cannot be an id names nothing: 404.
pub fn path_parameters() -> web::PathConfig {
    web::PathConfig::default()
        .error_handler(|_, _| Problem::from(Refusal::NotFound("resource")).into())
}
