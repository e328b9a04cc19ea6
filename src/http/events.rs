//! Events: create, list, read, change, publish, cancel.

use actix_web::{HttpRequest, HttpResponse, get, patch, post, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::body::{Body, MaybeBody};
use super::caller::{Anyone, Authorized, WriteEvents};
use super::event_body::{EventBody, EventChange, NewEvent};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, IdempotencyKey};
use super::trace::Traced;
use super::{seats, time};
use crate::app::App;
use crate::app::bookings::desk::Outcome;
use crate::app::events::list::Wish;
use crate::app::events::{cancel, change, create, get, list, publish};
use crate::app::once::{Answer, Reply, once};
use crate::domain::event::{Event, EventStatus};
use crate::domain::ids::{EventId, OrganizationId};
use crate::domain::refusal::{FieldError, FieldErrors, Refusal};
use crate::domain::text;

/// Longest reason for a cancellation, in characters.
const REASON_MAX: usize = 2_000;

/// Everything about events.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(created).service(listed).service(got);
    cfg.service(changed).service(published).service(cancelled);
    seats::routes(cfg);
}

/// Which events are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Words in title, description, category and venue; the last one may be only begun.
    query: Option<String>,
    /// Exactly this category.
    category: Option<String>,
    /// Starting then or later.
    #[param(format = "date-time")]
    from: Option<String>,
    /// Starting then or earlier.
    #[param(format = "date-time")]
    to: Option<String>,
    /// Of this organization; its organizers see drafts as well.
    #[param(value_type = Option<Uuid>)]
    organization_id: Option<String>,
    /// `published` without it; `draft` shows the caller's organizations'.
    #[param(example = "published")]
    status: Option<String>,
}

/// What else is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Include {
    /// `map`: the seat map as well.
    #[param(example = "map")]
    include: Option<String>,
}

impl Include {
    /// Whether the seat map is wanted.
    pub(super) fn map(&self) -> Result<bool, Refusal> {
        match self.include.as_deref() {
            None | Some("") => Ok(false),
            Some("map") => Ok(true),
            Some(_) => Err(Refusal::invalid("/include", "unknown_include", "must be map")),
        }
    }
}

/// Why the event will not take place.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EventCancellation {
    /// For those who booked.
    #[schema(max_length = 2000)]
    reason: Option<String>,
}

/// Makes a draft of an event; organizers of the organization may.
#[utoipa::path(tag = "events", request_body = NewEvent,
    params(("id" = Uuid, Path, description = "Which organization"),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 201, description = "The draft", body = EventBody,
               headers(("Location" = String), ("ETag" = String)))))]
#[post("/organizations/{id}/events")]
async fn created(
    authorized: Authorized<WriteEvents>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: Body<NewEvent>,
) -> Result<HttpResponse, Problem> {
    let draft = body.read()?.parse()?;
    let (id, caller) = (OrganizationId(id.into_inner()), &authorized.caller);
    let submission = key.submission(caller.user_id.0, &body.bytes);
    let verb = async |tx: &_| create::create(&app, tx, caller, &origin, id, draft).await;
    let answer = once(&app, submission.as_ref(), verb, reply::outcome(new)).await?;
    Ok(answered(answer, new))
}

/// Events by their start: those on show, or by status; organizers see their drafts as well.
#[utoipa::path(tag = "events", params(EventsQuery, PageQuery),
    responses((status = 200, description = "A page of events", body = PageBody<EventBody>)))]
#[get("/events")]
async fn listed(
    Anyone(caller): Anyone,
    app: web::Data<App>,
    query: Query<EventsQuery>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let wish = query.into_inner().parse(&mut errors);
    let limit = page.limit(&mut errors);
    let after = page.after(&mut errors, list::place);
    errors.check()?;
    let page = list::list(&app, caller.as_ref(), wish, after, limit).await?;
    Ok(reply::send(reply::ok(&PageBody::of(page, |event| EventBody::of(&event, None)))))
}

impl EventsQuery {
    fn parse(self, errors: &mut FieldErrors) -> Wish {
        let mut words = |pointer: &str, raw: Option<String>| {
            let raw = raw.filter(|raw| !raw.trim().is_empty())?;
            errors.take(text::line(pointer, &raw, text::NAME_MAX))
        };
        let (query, category) = (words("/query", self.query), words("/category", self.category));
        let mut at = |pointer: &str, raw: Option<String>| {
            raw.and_then(|raw| errors.take(time::parse(pointer, &raw)))
        };
        let (from, to) = (at("/from", self.from), at("/to", self.to));
        let id = |raw: String| {
            let wrong = || FieldError::new("/organization_id", "invalid_id", "must be a UUID");
            raw.parse().map(OrganizationId).map_err(|_| wrong())
        };
        let status = |raw: String| {
            let detail = "must be draft, published, cancelled or completed";
            let wrong = || FieldError::new("/status", "unknown_status", detail);
            EventStatus::parse(&raw).ok_or_else(wrong)
        };
        Wish {
            query,
            category,
            from,
            to,
            organization_id: self.organization_id.and_then(|raw| errors.take(id(raw))),
            status: self.status.and_then(|raw| errors.take(status(raw))),
        }
    }
}

/// One event.
#[utoipa::path(tag = "events",
    params(("id" = Uuid, Path, description = "Which event"), Include),
    responses((status = 200, description = "The event", body = EventBody,
               headers(("ETag" = String)))))]
#[get("/events/{id}")]
async fn got(
    Anyone(caller): Anyone,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    include: Query<Include>,
) -> Result<HttpResponse, Problem> {
    let (id, with_map) = (EventId(id.into_inner()), include.map()?);
    let (event, map) = get::get(&app, caller.as_ref(), id, with_map).await?;
    let body = EventBody::of(&event, map.as_ref());
    Ok(reply::versioned(event.version, reply::ok(&body)))
}

/// Changes an event; its organizers may. Growth promotes the waitlist in the same commit.
#[utoipa::path(tag = "events", request_body = EventChange,
    params(("id" = Uuid, Path, description = "Which event"),
           ("If-Match" = Option<String>, Header,
            description = "The version that the caller saw; 412 if it is another one now")),
    responses((status = 200, description = "The event as it is now", body = EventBody,
               headers(("ETag" = String)))))]
#[patch("/events/{id}")]
async fn changed(
    authorized: Authorized<WriteEvents>,
    request: HttpRequest,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: Body<EventChange>,
) -> Result<HttpResponse, Problem> {
    let (patch, expected) = (body.read()?.parse()?, reply::if_match(&request)?);
    let (id, caller) = (EventId(id.into_inner()), &authorized.caller);
    let event = change::change(&app, caller, &origin, id, patch, expected).await?;
    Ok(reply::versioned(event.version, now(&event)))
}

/// Puts an event on show; its organizers may.
#[utoipa::path(tag = "events",
    params(("id" = Uuid, Path, description = "Which event"),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, description = "The event, on show", body = EventBody,
               headers(("ETag" = String)))))]
#[post("/events/{id}/publish")]
async fn published(
    authorized: Authorized<WriteEvents>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: MaybeBody<Nothing>,
) -> Result<HttpResponse, Problem> {
    let Nothing {} = body.read()?;
    let (id, caller) = (EventId(id.into_inner()), &authorized.caller);
    let once = key.submission(caller.user_id.0, &body.bytes).map(|one| (one, RENDER));
    let answer = publish::publish(&app, caller, &origin, id, once).await?;
    Ok(answered(answer, now))
}

/// Calls an event off; its organizers may. Sales close at once, then every booking is cancelled
/// and everybody told.
#[utoipa::path(tag = "events", request_body = Option<EventCancellation>,
    params(("id" = Uuid, Path, description = "Which event"),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, description = "The event, cancelled", body = EventBody,
               headers(("ETag" = String)))))]
#[post("/events/{id}/cancel")]
async fn cancelled(
    authorized: Authorized<WriteEvents>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: MaybeBody<EventCancellation>,
) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let mut errors = FieldErrors::default();
    let reason = sent.reason.as_deref();
    let reason = reason.and_then(|raw| errors.take(text::paragraphs("/reason", raw, REASON_MAX)));
    errors.check()?;
    let reason = reason.filter(|reason| !reason.is_empty());
    let (id, caller) = (EventId(id.into_inner()), &authorized.caller);
    let once = key.submission(caller.user_id.0, &body.bytes).map(|one| (one, RENDER));
    let answer = cancel::cancel(&app, caller, &origin, id, reason, once).await?;
    Ok(answered(answer, now))
}

/// A body in which nothing can be said.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// How the desk remembers what was answered.
const RENDER: fn(&Result<Outcome, Refusal>) -> Reply = |outcome| match outcome {
    Ok(Outcome::Event(event)) => now(event),
    Ok(_) => reply::ok(&()),
    Err(refusal) => Problem::reply(refusal),
};

fn new(event: &Event) -> Reply {
    reply::created(format!("/api/v1/events/{}", event.id), &EventBody::of(event, None))
}

fn now(event: &Event) -> Reply {
    reply::ok(&EventBody::of(event, None))
}

fn answered(answer: Answer<Event>, render: impl Fn(&Event) -> Reply) -> HttpResponse {
    match answer {
        Answer::Fresh(event) => reply::versioned(event.version, render(&event)),
        Answer::Replayed(reply) => reply::replay(reply),
    }
}
