//! Holds: seats of a numbered event that are kept for somebody while they decide; and the tickets
//! with which browsers open a socket to watch them.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, HttpResponse, delete, post, put, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::body::Body;
use super::bookings::{seat_numbers, within};
use super::caller::{Authorized, WriteBookings};
use super::limits::Limits;
use super::problem::Problem;
use super::reply::{self, IdempotencyKey};
use super::time::rfc3339;
use crate::app::App;
use crate::app::accounts::tickets;
use crate::app::holds::take::{self, Choice};
use crate::app::holds::{self, Hold, HoldToken, Owner, release, renew};
use crate::app::once::Reply;
use crate::domain::event::MAX_SEATS_MAX;
use crate::domain::ids::EventId;
use crate::domain::refusal::{FieldErrors, Refusal};

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(held).service(renewed).service(released).service(ticket);
}

/// Seats to hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewHold {
    /// Which, each once: all of them are held, or none.
    #[schema(min_items = 1, max_items = 1000)]
    seat_numbers: Option<Vec<i64>>,
    /// Instead of `seat_numbers`: the best that are free.
    best_available: Option<BestAvailable>,
}

/// The choice is left to us: seats next to each other in one row if there are such, so that no
/// single seat is left between others if that can be had, nearest the stage.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BestAvailable {
    /// How many. The event may allow fewer.
    #[schema(minimum = 1, maximum = 1000)]
    count: i64,
    /// Of this category of the seat map only.
    #[schema(max_length = 200)]
    category: Option<String>,
}

/// What a token holds.
#[derive(Debug, Serialize, ToSchema)]
struct HoldBody<'a> {
    /// Proves the hold: to be sent with the booking. A secret.
    hold_token: &'a str,
    /// Ascending.
    seat_numbers: &'a [u32],
    /// By the clock of `server_time`.
    #[schema(format = "date-time")]
    expires_at: String,
    /// How often it can be renewed.
    renewals_left: u32,
    /// When this was answered, for countdowns.
    #[schema(format = "date-time")]
    server_time: String,
}

impl<'a> HoldBody<'a> {
    fn of(hold: &'a Hold) -> Self {
        Self {
            hold_token: hold.token.as_str(),
            seat_numbers: &hold.seats,
            expires_at: rfc3339(hold.expires_at),
            renewals_left: hold.renewals_left,
            server_time: rfc3339(hold.server_time),
        }
    }
}

/// Opens a socket.
#[derive(Debug, Serialize, ToSchema)]
struct TicketBody {
    /// Good once. A secret.
    ticket: String,
    /// In seconds.
    expires_in: u32,
}

/// Where a request comes from, as far as that is counted.
struct Address(Option<String>);

impl FromRequest for Address {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let limits = request.app_data::<web::Data<Limits>>();
        let address = limits.and_then(|limits| limits.address_to_count(request));
        ready(Ok(Self(address.map(|address| address.to_string()))))
    }
}

/// Holds seats of a numbered event: all of them, or none (`seats_unavailable` names those that
/// somebody else has). They are kept until `expires_at`, can be renewed a few times, and are booked
/// by sending `hold_token` with the booking.
#[utoipa::path(tag = "holds", request_body = NewHold,
    params(("id" = Uuid, Path, description = "Which event"),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 201, description = "Held", body = HoldBody<'static>,
               headers(("Location" = String)))))]
#[post("/events/{id}/holds")]
async fn held(
    authorized: Authorized<WriteBookings>,
    key: IdempotencyKey,
    Address(address): Address,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: Body<NewHold>,
) -> Result<HttpResponse, Problem> {
    let (event, user) = (EventId(id.into_inner()), authorized.caller.user_id);
    let once = key.submission(user.0, &body.bytes).map(|one| (one, HELD));
    holds::find(&app, event).await?;
    let choice = body.read()?.parse()?;
    let owner = Owner { user, address, session: None };
    let answer = take::first(&app, &owner, event, &choice, once).await?;
    Ok(reply::answer(answer, new))
}

/// Gives a hold more time: as much as a new one has, but not beyond its maximum age.
#[utoipa::path(tag = "holds",
    params(("id" = Uuid, Path, description = "Which event"),
           ("hold_token" = String, Path, description = "Which hold")),
    responses((status = 200, description = "Held", body = HoldBody<'static>)))]
#[put("/events/{id}/holds/{hold_token}")]
async fn renewed(
    authorized: Authorized<WriteBookings>,
    app: web::Data<App>,
    path: web::Path<(Uuid, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, token) = path.into_inner();
    let event = EventId(id);
    holds::find(&app, event).await?;
    let token = HoldToken::parse(&token).ok_or(Refusal::HoldExpired)?;
    let hold = renew::renew(&app, event, &token, authorized.caller.user_id).await?;
    Ok(reply::send(reply::ok(&HoldBody::of(&hold))))
}

/// Lets a hold go. What is not held any more is let go already.
#[utoipa::path(tag = "holds",
    params(("id" = Uuid, Path, description = "Which event"),
           ("hold_token" = String, Path, description = "Which hold")),
    responses((status = 204, description = "Nothing is held by this token")))]
#[delete("/events/{id}/holds/{hold_token}")]
async fn released(
    authorized: Authorized<WriteBookings>,
    app: web::Data<App>,
    path: web::Path<(Uuid, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, token) = path.into_inner();
    let event = EventId(id);
    holds::find(&app, event).await?;
    if let Some(token) = HoldToken::parse(&token) {
        release::release(&app, event, &token, authorized.caller.user_id).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}

/// A ticket that opens one socket as the caller, for browsers, which cannot send a bearer token
/// with it: `GET /ws?ticket=…`.
#[utoipa::path(tag = "holds",
    responses((status = 201, description = "The ticket", body = TicketBody)))]
#[post("/ws-tickets")]
async fn ticket(
    authorized: Authorized<WriteBookings>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let tickets::Ticket { ticket, expires_in } = tickets::issue(&app, &authorized.caller).await?;
    let body = TicketBody { ticket, expires_in };
    Ok(reply::send(reply::json(StatusCode::CREATED, &body)))
}

impl NewHold {
    fn parse(self) -> Result<Choice, Refusal> {
        let mut errors = FieldErrors::default();
        let choice = match (self.seat_numbers, self.best_available) {
            (Some(raw), None) => Choice::Seats(seat_numbers(&raw, &mut errors)),
            (None, Some(BestAvailable { count, category })) => {
                let count = within("/best_available/count", count, MAX_SEATS_MAX, &mut errors);
                Choice::Best { count, category }
            }
            (Some(_), Some(_)) => {
                let detail = "cannot be given together with seat_numbers";
                return Err(Refusal::invalid("/best_available", "exclusive", detail));
            }
            (None, None) => {
                let detail = "must be given, or best_available instead";
                return Err(Refusal::invalid("/seat_numbers", "required", detail));
            }
        };
        errors.check()?;
        Ok(choice)
    }
}

/// How it is remembered under a key.
const HELD: take::Render = |outcome| match outcome {
    Ok(hold) => new(hold),
    Err(refusal) => Problem::reply(refusal),
};

fn new(hold: &Hold) -> Reply {
    let location = format!("/api/v1/events/{}/holds/{}", hold.event, hold.token.as_str());
    reply::created(location, &HoldBody::of(hold))
}
