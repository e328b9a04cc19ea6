//! The only place that knows status codes for what went wrong: RFC 9457 problems, each with a
//! stable code and a page that explains it.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app;
use crate::app::once::Reply;
use crate::domain::refusal::{FieldError, Refusal};

/// The media type of problems.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, on its way to the client.
#[derive(Debug)]
pub enum Problem {
    /// The domain says no.
    Refused(Refusal),
    /// The request is not even well-formed: (status, code, detail).
    Malformed(StatusCode, &'static str, String),
    /// Too many requests; when to come back.
    TooMany(Duration),
    /// A part is away.
    Unavailable(&'static str, Duration),
    /// Our fault. Logged where it is made; the client learns only the request id.
    Internal,
}

/// The body of a problem (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// `/problems/<code>`: a page that explains it.
    #[serde(rename = "type")]
    #[schema(example = "/problems/sold_out")]
    pub kind: String,
    /// For people; the same for every problem of this type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// For people; about this occurrence.
    pub detail: String,
    /// Stable; for programs.
    pub code: String,
    /// To quote when asking for help.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// What is wrong with which field, all at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// With `seats_unavailable`: the seats that cannot be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<Vec<u32>>,
}

/// One thing wrong with one field.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// Stable; for programs.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// The catalogue: (code, status, title, explanation). `/problems/<code>` is made of it.
pub const CATALOGUE: &[(&str, u16, &str, &str)] = &[
    (
        "malformed",
        400,
        "The request is malformed",
        "The body is not JSON, or a parameter cannot be read. Mend the request; sending it again will not help.",
    ),
    (
        "unauthenticated",
        401,
        "Sign in first",
        "The request has no credential, or one that is unknown, expired or revoked. Sign in or refresh the token.",
    ),
    (
        "wrong_credentials",
        401,
        "Wrong e-mail address or password",
        "The two do not belong together. Which of them is wrong is not told on purpose.",
    ),
    (
        "bad_refresh_token",
        401,
        "The refresh token is not good any more",
        "It is unknown, expired, revoked, or was used before. Using a token twice ends the whole sign-in: sign in again.",
    ),
    (
        "publisher_not_allowed",
        403,
        "Not a publisher of this type",
        "Messages of this type are published by others; `publishers` at /api/v1/admin/streams/{type} names them.",
    ),
    ("forbidden", 403, "Not allowed", "You may see this, but not do it."),
    ("not_found", 404, "Not found", "It does not exist, or you may not know of it."),
    (
        "unknown_type",
        404,
        "No such type of message",
        "The types are a closed list; see /api/v1/admin/streams and /asyncapi.json.",
    ),
    (
        "method_not_allowed",
        405,
        "Method not allowed",
        "The path exists, but not with this method; see the Allow header and /docs.",
    ),
    (
        "request_timeout",
        408,
        "The body took too long",
        "The connection was too slow, or the client stopped sending; see http.request_timeout_ms.",
    ),
    (
        "email_taken",
        409,
        "The e-mail address is taken",
        "Another account uses it. Sign in, or use another address.",
    ),
    ("slug_taken", 409, "The slug is taken", "Another organisation uses it."),
    ("already_member", 409, "Already a member", "The person belongs to the organisation already."),
    ("already_invited", 409, "Already invited", "An invitation for this address is open."),
    (
        "invitation_closed",
        409,
        "The invitation is closed",
        "It was answered before, or it has expired.",
    ),
    (
        "last_owner",
        409,
        "The last owner must stay",
        "An organisation needs one owner; name another one first.",
    ),
    (
        "event_not_open",
        409,
        "The event does not allow this now",
        "Its status (draft, cancelled, completed) rules the action out.",
    ),
    (
        "sales_closed",
        409,
        "Sales are closed",
        "Sales have not opened yet, or have closed; see sales_open_at and sales_close_at.",
    ),
    (
        "capacity_below_confirmed",
        409,
        "The capacity is below the seats sold",
        "Cancel bookings first, or choose a larger capacity.",
    ),
    (
        "seats_above_capacity",
        409,
        "Sold seats are above the new capacity",
        "Seats with higher numbers than the new capacity are sold; `unavailable` names them.",
    ),
    (
        "sold_out",
        409,
        "Sold out",
        "Not enough free seats. Try with waitlist: true to wait for some.",
    ),
    (
        "seats_unavailable",
        409,
        "Some seats are not available",
        "`unavailable` names those that are sold or held by somebody else. Nothing was booked.",
    ),
    (
        "hold_expired",
        409,
        "The hold has expired",
        "The hold token is not good any more or does not own these seats. Hold them again.",
    ),
    (
        "hold_limit_user",
        409,
        "You hold as many seats as you may",
        "One person can hold as many seats of an event as one booking may have. Let some go, or book them.",
    ),
    (
        "hold_limit_address",
        409,
        "Too many seats are held from your address",
        "See holds.per_address_max. Seats can be booked directly, without holding them.",
    ),
    (
        "hold_limit_event",
        409,
        "Too many seats of the event are held",
        "See holds.per_event_percent. Seats can be booked directly, without holding them; or try again when some are booked or let go.",
    ),
    (
        "renewals_exhausted",
        409,
        "The hold cannot be renewed any more",
        "It was renewed as often, or is as old, as it may be. It stands until it expires: book, or let the seats go.",
    ),
    (
        "booking_cancelled",
        409,
        "The booking is cancelled",
        "A cancelled booking cannot be changed.",
    ),
    ("not_waiting", 409, "The booking is not in the waitlist", "It is confirmed or cancelled."),
    (
        "request_in_flight",
        409,
        "The same request is being worked on",
        "A request with this Idempotency-Key has not been answered yet. Try again shortly.",
    ),
    (
        "already_redriven",
        409,
        "Already dealt with",
        "The dead letter was sent again or dropped before.",
    ),
    (
        "version_mismatch",
        412,
        "It has changed meanwhile",
        "The version in If-Match is not the current one. Read it again, then change it.",
    ),
    (
        "message_too_large",
        413,
        "The message is too large",
        "Messages are small facts. Put what is large elsewhere, and its address into the message.",
    ),
    ("too_large", 413, "The body is too large", "See http.body_limit_bytes."),
    ("uri_too_long", 414, "The path and query are too long", "Send less in the address."),
    (
        "unsupported_media_type",
        415,
        "The body must be JSON",
        "Send Content-Type: application/json.",
    ),
    (
        "invalid",
        422,
        "The request is invalid",
        "`errors` lists everything that is wrong, with pointers to the fields.",
    ),
    (
        "idempotency_mismatch",
        422,
        "The idempotency key was used for another request",
        "A key stands for one request; use a new key for another body.",
    ),
    (
        "too_many_requests",
        429,
        "Too many requests",
        "Slow down; Retry-After says when to come back.",
    ),
    (
        "too_many_sockets",
        429,
        "Too many open sockets",
        "Close some, or wait; sockets.max_per_user and sockets.max_per_address say how many.",
    ),
    (
        "too_many_rooms",
        409,
        "Too many events on one socket",
        "Leave one first; sockets.rooms_per_socket says how many.",
    ),
    ("headers_too_large", 431, "The headers are too large", "Send fewer or shorter headers."),
    (
        "internal",
        500,
        "Something is broken on our side",
        "It was logged under the request id. Nothing is known to be changed; a retry with the same Idempotency-Key is safe.",
    ),
    (
        "unavailable",
        503,
        "A needed part is away",
        "Retry-After says when to try again; with the same Idempotency-Key the retry is safe.",
    ),
];

impl Problem {
    /// Malformed JSON, a bad parameter.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::Malformed(StatusCode::BAD_REQUEST, "malformed", detail.into())
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Malformed(_, code, _) => code,
            Self::TooMany(_) => "too_many_requests",
            Self::Unavailable(..) => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// For people; about this occurrence.
    pub fn detail(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal_detail(refusal),
            Self::Malformed(_, _, detail) => detail.clone(),
            Self::TooMany(after) => format!("try again in {} s", seconds(*after)),
            Self::Unavailable(part, _) => format!("{part} is away or busy"),
            Self::Internal => "the fault was logged under the request id".to_owned(),
        }
    }

    /// In how many seconds to try again, if that is of use.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany(after) | Self::Unavailable(_, after) => Some(seconds(*after)),
            Self::Refused(Refusal::RequestInFlight | Refusal::TooManySockets) => Some(1),
            _ => None,
        }
    }

    /// The whole body.
    pub fn body(&self, request_id: &str) -> ProblemBody {
        let code = self.code();
        let (errors, unavailable) = match self {
            Self::Refused(Refusal::Invalid(fields)) => (fields.iter().map(field).collect(), None),
            Self::Refused(
                Refusal::SeatsUnavailable(seats) | Refusal::SeatsAboveCapacity(seats),
            ) => (Vec::new(), Some(seats.clone())),
            _ => (Vec::new(), None),
        };
        ProblemBody {
            kind: format!("/problems/{code}"),
            title: entry(code).2.to_owned(),
            status: self.status_code().as_u16(),
            detail: self.detail(),
            code: code.to_owned(),
            request_id: request_id.to_owned(),
            errors,
            unavailable,
        }
    }

    /// A refusal as it is remembered under an idempotency key (without a request id, which
    /// belongs to one request only).
    pub fn reply(refusal: &Refusal) -> Reply {
        let problem = Self::Refused(refusal.clone());
        Reply {
            status: problem.status_code().as_u16(),
            body: serde_json::to_string(&problem.body("")).unwrap_or_default(),
            location: None,
        }
    }
}

fn entry(code: &str) -> &'static (&'static str, u16, &'static str, &'static str) {
    const UNKNOWN: &(&str, u16, &str, &str) = &("internal", 500, "Broken", "");
    CATALOGUE.iter().find(|entry| entry.0 == code).unwrap_or(UNKNOWN)
}

fn field(error: &FieldError) -> FieldProblem {
    FieldProblem {
        pointer: error.pointer.clone(),
        code: error.code.to_owned(),
        detail: error.detail.clone(),
    }
}

fn refusal_detail(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Invalid(fields) => match fields.as_slice() {
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields are wrong", many.len()),
        },
        Refusal::Forbidden(missing) => (*missing).to_owned(),
        Refusal::NotFound(what) => format!("no such {what}"),
        Refusal::EventNotOpen(status) => format!("the event is {status}"),
        Refusal::CapacityBelowConfirmed { confirmed } => format!("{confirmed} seats are sold"),
        Refusal::MessageTooLarge { max } => format!("at most {max} bytes of data as JSON"),
        other => entry(other.code()).3.to_owned(),
    }
}

/// Whole seconds, at least one: what `Retry-After` can say.
pub fn seconds(after: Duration) -> u64 {
    after.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.detail())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        let status = match self {
            Self::Malformed(status, ..) => return *status,
            problem => entry(problem.code()).1,
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CONTENT_TYPE, MEDIA_TYPE));
        if let Some(after) = self.retry_after() {
            response.insert_header((header::RETRY_AFTER, after));
        }
        if let Self::Refused(
            Refusal::Unauthenticated | Refusal::WrongCredentials | Refusal::BadRefreshToken,
        ) = self
        {
            response.insert_header((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        let id = super::trace::current_request_id();
        response.body(serde_json::to_string(&self.body(&id)).unwrap_or_default())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<app::Error> for Problem {
    fn from(error: app::Error) -> Self {
        match error {
            app::Error::Refused(refusal) => Self::Refused(refusal),
            app::Error::Unavailable { part, retry_after, cause } => {
                if let Some(cause) = cause {
                    tracing::warn!(part, error = format!("{cause:#}"), "{part} is unavailable");
                }
                Self::Unavailable(part, retry_after)
            }
            app::Error::Fault(cause) => {
                tracing::error!(error = format!("{cause:#}"), "a request failed");
                Self::Internal
            }
        }
    }
}
