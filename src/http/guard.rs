//! What every answer has in common, and the answers to requests that no handler takes: unknown
//! paths, wrong methods, unreadable parameters, heads beyond all measure.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError as _, web};

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

/// Middleware: refuses oversized heads before anything reads them, and tells browsers not to
/// guess, frame or keep what they get.
pub async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
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
