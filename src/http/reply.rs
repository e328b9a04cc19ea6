//! Successful answers: JSON with `Location`, `ETag`, and the replay of what was answered before
//! under the same `Idempotency-Key`.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::problem::{MEDIA_TYPE, Problem};
use crate::app::once::{Answer, Reply, Submission};
use crate::domain::refusal::Refusal;

/// The longest idempotency key, in bytes.
const KEY_MAX: usize = 255;

/// The `Idempotency-Key` header, if there is one, and the route it is scoped to.
#[derive(Clone, Debug)]
pub struct IdempotencyKey(Option<(String, String, String)>);

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::read(request))
    }
}

impl IdempotencyKey {
    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        let Some(value) = request.headers().get("idempotency-key") else { return Ok(Self(None)) };
        let key = value.to_str().unwrap_or_default().trim();
        if key.is_empty() || key.len() > KEY_MAX {
            let detail = format!("Idempotency-Key must be 1 to {KEY_MAX} visible ASCII characters");
            return Err(Problem::malformed(detail));
        }
        let template = request.match_pattern().unwrap_or_default();
        let route = format!("{} {template}", request.method());
        Ok(Self(Some((key.to_owned(), route, request.path().to_owned()))))
    }

    /// The submission that this key makes of a request by `principal` with `body`.
    pub fn submission(self, principal: Uuid, body: &[u8]) -> Option<Submission> {
        let (key, route, path) = self.0?;
        let mut hash = Sha256::new();
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update(body);
        Some(Submission { principal, route, key, fingerprint: hash.finalize().into() })
    }
}

/// A reply with a JSON body.
pub fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    Reply {
        status: status.as_u16(),
        body: serde_json::to_string(body).unwrap_or_default(),
        location: None,
    }
}

/// 201 with the thing and where it is.
pub fn created(location: String, body: &impl Serialize) -> Reply {
    Reply { location: Some(location), ..json(StatusCode::CREATED, body) }
}

/// 200 with the thing.
pub fn ok(body: &impl Serialize) -> Reply {
    json(StatusCode::OK, body)
}

/// What will be answered to a verb's outcome: how to render a success is the route's affair.
pub fn outcome<T>(render: impl Fn(&T) -> Reply) -> impl Fn(&Result<T, Refusal>) -> Reply {
    move |outcome| match outcome {
        Ok(value) => render(value),
        Err(refusal) => Problem::reply(refusal),
    }
}

/// Sends a reply just made.
pub fn send(reply: Reply) -> HttpResponse {
    builder(&reply).body(reply.body)
}

/// Sends what was made now, or what was answered before.
pub fn answer<T>(answer: Answer<T>, render: impl Fn(&T) -> Reply) -> HttpResponse {
    match answer {
        Answer::Fresh(value) => send(render(&value)),
        Answer::Replayed(reply) => replay(reply),
    }
}

/// Sends a reply that was made before.
pub fn replay(reply: Reply) -> HttpResponse {
    let mut response = builder(&reply);
    response.insert_header(("Idempotency-Replayed", "true"));
    response.body(reply.body)
}

/// Sends a versioned thing with its `ETag`.
pub fn versioned(version: i64, reply: Reply) -> HttpResponse {
    let mut response = builder(&reply);
    response.insert_header((header::ETAG, format!("\"{version}\"")));
    response.body(reply.body)
}

fn builder(reply: &Reply) -> HttpResponseBuilder {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    let media = if status.is_success() { "application/json" } else { MEDIA_TYPE };
    response.insert_header((header::CONTENT_TYPE, media));
    if let Some(location) = &reply.location {
        response.insert_header((header::LOCATION, location.as_str()));
    }
    response
}

/// The version that `If-Match` names; `None` without the header or with `*`.
///
/// # Errors
/// 412 when it names something that never was a version.
pub fn if_match(request: &HttpRequest) -> Result<Option<i64>, Problem> {
    let Some(value) = request.headers().get(header::IF_MATCH) else { return Ok(None) };
    let value = value.to_str().unwrap_or_default().trim();
    if value == "*" {
        return Ok(None);
    }
    let version = value.trim_start_matches("W/").trim_matches('"').parse();
    version.map(Some).map_err(|_| Refusal::VersionMismatch.into())
}
