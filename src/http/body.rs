//! JSON bodies: bounded, strict, and when they are wrong, saying where.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::StreamExt as _;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use tokio::time::timeout;

use super::caller;
use super::problem::Problem;
use crate::app::App;
use crate::domain::refusal::Refusal;
use crate::domain::stream_type::DATA_MAX;

/// How long a body may take where no settings say otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a seat map may be sent.
const MAPPED: [&str; 2] = ["/api/v1/organizations/{id}/events", "/api/v1/events/{id}"];
/// Where a message may be sent.
const MESSAGES: &str = "/api/v1/admin/streams/{type}/messages";
/// What stands around a message's data, in bytes at most.
const AROUND: usize = 4096;
/// So many bytes are made room for before any has arrived.
const FIRST: usize = 65536;

/// A JSON body as it arrived. It is read by the handler, so that whoever may not be here is told
/// that, and not what is wrong with their fields: extractors run side by side.
#[derive(Debug)]
pub struct Body<T> {
    /// What was sent: an idempotency key needs its fingerprint.
    pub bytes: web::BytesMut,
    shape: PhantomData<T>,
}

impl<T: DeserializeOwned> Body<T> {
    /// The value.
    ///
    /// # Errors
    /// 400 when it is not JSON, 422 when it has another shape.
    pub fn read(&self) -> Result<T, Problem> {
        parse(&self.bytes)
    }
}

impl<T: 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let checked = check_media(request).and_then(|()| check_length(request));
        let reading = receive(request, payload, checked);
        Box::pin(async move { Ok(Self { bytes: reading.await?, shape: PhantomData }) })
    }
}

/// A JSON body that may as well be missing: nothing said is the default.
#[derive(Debug)]
pub struct MaybeBody<T> {
    /// What was sent.
    pub bytes: web::BytesMut,
    shape: PhantomData<T>,
}

impl<T: DeserializeOwned + Default> MaybeBody<T> {
    /// The value.
    ///
    /// # Errors
    /// 400 when it is not JSON, 422 when it has another shape.
    pub fn read(&self) -> Result<T, Problem> {
        if self.bytes.is_empty() {
            return Ok(T::default());
        }
        let value: Option<T> = parse(&self.bytes)?;
        Ok(value.unwrap_or_default())
    }
}

impl<T: 'static> FromRequest for MaybeBody<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let media = check_media(request);
        let reading = receive(request, payload, check_length(request));
        Box::pin(async move {
            let bytes = reading.await?;
            if !bytes.is_empty() {
                media?;
            }
            Ok(Self { bytes, shape: PhantomData })
        })
    }
}

/// Receives a body of the checked length within its bounds of size and time.
fn receive(
    request: &HttpRequest,
    payload: &mut Payload,
    expected: Result<usize, Problem>,
) -> impl Future<Output = Result<web::BytesMut, Problem>> + use<> {
    let (limit, patience) = bounds(request);
    let payload = payload.take();
    async move {
        let reading = read(payload, expected?, limit);
        timeout(patience, reading).await.map_err(|_| {
            let detail = format!("the body did not arrive within {} ms", patience.as_millis());
            Problem::Malformed(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
        })?
    }
}

/// How many bytes a body may have, and how long it may take. Seat maps and messages are large;
/// nobody may send one who is not known.
fn bounds(request: &HttpRequest) -> (usize, Duration) {
    request.app_data::<web::Data<App>>().map_or((65536, PATIENCE), |app| {
        let http = &app.config.http;
        let pattern = request.match_pattern().unwrap_or_default();
        let large = match pattern.as_str() {
            MESSAGES => DATA_MAX + AROUND,
            mapped if MAPPED.contains(&mapped) => http.map_limit_bytes,
            _ => 0,
        };
        let large = if caller::claims_to_be_somebody(request) { large } else { 0 };
        let limit = large.max(http.body_limit_bytes);
        (limit, Duration::from_millis(http.request_timeout_ms))
    })
}

async fn read(
    mut payload: Payload,
    expected: usize,
    limit: usize,
) -> Result<web::BytesMut, Problem> {
    let mut bytes = web::BytesMut::with_capacity(expected.min(FIRST));
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::malformed(error.to_string()))?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn check_media(request: &HttpRequest) -> Result<(), Problem> {
    let media = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media.and_then(|media| media.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let detail = "send Content-Type: application/json".to_owned();
    Err(Problem::Malformed(status, "unsupported_media_type", detail))
}

fn check_length(request: &HttpRequest) -> Result<usize, Problem> {
    let (limit, _) = bounds(request);
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok());
    let length = length.and_then(|value| value.parse().ok()).unwrap_or(0_usize);
    if length > limit { Err(too_large(limit)) } else { Ok(length) }
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("at most {limit} bytes");
    Problem::Malformed(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

/// Broken JSON is 400; JSON of the wrong shape is 422 and names the field.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would take an array for a struct, field by field.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let detail = "must be a JSON object".to_owned();
        return Err(misshapen(bytes, "", "wrong_type", detail));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let mut pointer = pointer(error.path());
        let error = error.into_inner();
        if error.classify() != Category::Data {
            return Problem::malformed(error.to_string());
        }
        let detail = error.to_string();
        let code = shape_code(&detail);
        // The path of a missing field ends at what it is missing from.
        if let Some(name) = detail.split('`').nth(1).filter(|_| code == "required") {
            pointer = format!("{pointer}/{name}");
        }
        misshapen(bytes, &pointer, code, detail)
    })?;
    deserializer.end().map_err(|error| Problem::malformed(error.to_string()))?;
    Ok(value)
}

/// Whatever is wrong with its shape, a body that is not JSON from end to end is told so.
fn misshapen(bytes: &[u8], pointer: &str, code: &'static str, detail: String) -> Problem {
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => Problem::Refused(Refusal::invalid(pointer, code, detail)),
        Err(error) => Problem::malformed(error.to_string()),
    }
}

fn shape_code(detail: &str) -> &'static str {
    if detail.starts_with("unknown field") {
        "unknown_field"
    } else if detail.starts_with("missing field") {
        "required"
    } else {
        "wrong_type"
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => pointer.push_str(variant),
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}
