//! What operators do about messages that died: look, send again, send an edited copy, discard.

use actix_web::{HttpResponse, delete, get, post, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::body::{Body, MaybeBody};
use super::caller::{Authorized, Operate};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, IdempotencyKey};
use super::time::rfc3339;
use super::trace::Traced;
use crate::app::messages::dead_letters::DeadLetters;
use crate::app::once::{Reply, once};
use crate::app::{self, App};
use crate::domain::dead_letter::{FailedEvent, Filter, Group, Kept, Shown};
use crate::domain::ids::DeadLetterId;
use crate::domain::refusal::{FieldError, FieldErrors, Refusal};

/// Longest filter, in characters.
const FILTER_MAX: usize = 200;
/// Most letters that a filter names one by one.
const IDS_MAX: usize = 1000;
/// Longest reason, in characters.
const NOTE_MAX: usize = 1000;

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list).service(show).service(redrive_one).service(copy).service(remove);
    cfg.service(failed_events);
}

/// Which letters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct LettersQuery {
    /// Of this message type.
    #[serde(rename = "type")]
    #[param(max_length = 200)]
    kind: Option<String>,
    /// From here: `relay`, `broker` or a service such as `inbox-service`.
    #[param(max_length = 200)]
    source: Option<String>,
    /// That died of the same thing.
    #[param(max_length = 200)]
    fingerprint: Option<String>,
    /// `open` (those that wait for a decision, the default), `resolved` or `all`.
    #[param(pattern = "^(open|resolved|all)$")]
    state: Option<String>,
    /// `fingerprint`: groups of open letters instead of letters, the largest first, at most 100,
    /// on one page.
    #[param(pattern = "^fingerprint$")]
    group: Option<String>,
}

/// Which letters are meant; what is not named is any.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterBody {
    /// Of this message type.
    #[serde(rename = "type")]
    #[schema(max_length = 200)]
    kind: Option<String>,
    /// From here: `relay`, `broker` or a service such as `inbox-service`.
    #[schema(max_length = 200)]
    source: Option<String>,
    /// That died of the same thing.
    #[schema(max_length = 200)]
    fingerprint: Option<String>,
    /// These, one by one.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<Uuid>>,
}

/// A message that died.
#[derive(Serialize, ToSchema)]
struct DeadLetterBody {
    id: Uuid,
    /// Where it died: `relay`, `broker` or a service.
    source: String,
    message_id: Uuid,
    /// The message's type, as far as it had one.
    #[serde(rename = "type")]
    kind: String,
    /// Its body as received; may not even be JSON. In lists its first 4096 characters.
    payload: String,
    /// The id of the request that caused it.
    correlation_id: Option<String>,
    /// What it died of.
    reason: String,
    /// The same for letters that died of the same thing.
    fingerprint: String,
    /// How often it was tried.
    attempts: i32,
    /// How often it was sent again.
    redrives: i32,
    #[schema(format = "date-time")]
    died_at: String,
    /// `open`, `redriven`, `copied` or `discarded`.
    state: &'static str,
    /// When something was done about it.
    #[schema(format = "date-time")]
    resolved_at: Option<String>,
    /// By whom; null also for somebody at the command line.
    resolved_by: Option<Uuid>,
    /// Why, in their words.
    note: Option<String>,
    /// The message that took its place.
    replaced_by: Option<Uuid>,
    /// The letter whose edited copy its message is.
    copy_of: Option<Uuid>,
}

/// Letters that died of the same thing.
#[derive(Serialize, ToSchema)]
struct GroupBody {
    fingerprint: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    /// What the last of them died of.
    reason: String,
    count: i64,
    /// The last of them.
    sample_id: Uuid,
    #[schema(format = "date-time")]
    first_died_at: String,
    #[schema(format = "date-time")]
    last_died_at: String,
}

/// A letter, or a group of letters.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum LetterItem {
    Letter(Box<DeadLetterBody>),
    Group(GroupBody),
}

/// How to send a letter again.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct RedriveOneRequest {
    /// Only tell whether it would be sent.
    dry_run: bool,
    /// Also if it was sent again too often.
    force: bool,
}

/// What to send in a letter's place.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CopyRequest {
    /// The message's data. What is sealed in it may stay so.
    #[schema(value_type = Object)]
    data: Value,
    /// Why.
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// Why a letter is discarded.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DiscardQuery {
    /// In your words; it is kept.
    #[param(max_length = 1000)]
    reason: Option<String>,
}

/// Which failed publications.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FailedQuery {
    /// Of this message type.
    #[serde(rename = "type")]
    #[param(max_length = 200)]
    kind: Option<String>,
}

/// A publication that failed.
#[derive(Serialize, ToSchema)]
struct FailedBody {
    /// The message.
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    /// What the message says; sealed where its type says so.
    #[schema(value_type = Object)]
    data: Value,
    /// Why it failed last.
    error: String,
    /// When.
    #[schema(format = "date-time")]
    timestamp: String,
    /// How often it was tried again: 0 after the first failure.
    #[serde(rename = "retryCount")]
    retry_count: i32,
    /// When it is tried again; null: at once, or never if it is dead.
    #[schema(format = "date-time")]
    next_attempt_at: Option<String>,
    /// It was given up and is a dead letter.
    dead: bool,
}

/// Messages that died, the newest first; or groups of them.
#[utoipa::path(tag = "operations", params(PageQuery, LettersQuery),
    responses((status = 200, description = "A page of dead letters, or of groups",
               body = PageBody<LetterItem>)))]
#[get("/admin/dead-letters")]
async fn list(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    page: Query<PageQuery>,
    query: Query<LettersQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let limit = page.limit(&mut errors);
    let after = page.after(&mut errors, |key| key.parse().ok());
    let LettersQuery { kind, source, fingerprint, state, group } = query.into_inner();
    let filter = filter(&mut errors, "", FilterBody { kind, source, fingerprint, ids: None });
    let shown = errors.take(shown(state.as_deref())).unwrap_or_default();
    if group.as_deref().is_some_and(|group| group != "fingerprint") {
        errors.push(FieldError::new("/group", "unknown", "must be fingerprint"));
    }
    errors.check()?;
    let letters = DeadLetters::from(app.get_ref());
    let body = if group.is_some() {
        let items = letters.groups(&filter).await?;
        PageBody::of(app::Page { items, next: None }, |group| LetterItem::Group(group.into()))
    } else {
        let page = letters.list(&filter, shown, after, limit).await?;
        PageBody::of(page, |kept| LetterItem::Letter(Box::new(kept.into())))
    };
    Ok(reply::send(reply::ok(&body)))
}

/// One message that died, and what was done about it.
#[utoipa::path(tag = "operations",
    params(("id" = Uuid, Path, description = "Which letter")),
    responses((status = 200, description = "The letter", body = DeadLetterBody)))]
#[get("/admin/dead-letters/{id}")]
async fn show(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let kept = DeadLetters::from(app.get_ref()).show(DeadLetterId(id.into_inner())).await?;
    Ok(reply::send(rendered(&kept)))
}

/// Sends a message that died again, under its own id. One that was sent again five times needs
/// `force`; one that could only die again (its payload is not JSON, or does not fit the schema of
/// its type) is refused: send an edited copy.
#[utoipa::path(tag = "operations", request_body = Option<RedriveOneRequest>,
    params(("id" = Uuid, Path, description = "Which letter")),
    responses((status = 200, description = "It is on its way, or would be",
               body = DeadLetterBody)))]
#[post("/admin/dead-letters/{id}/redrive")]
async fn redrive_one(
    authorized: Authorized<Operate>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: MaybeBody<RedriveOneRequest>,
) -> Result<HttpResponse, Problem> {
    let RedriveOneRequest { dry_run, force } = body.read()?;
    let letters = DeadLetters::from(app.get_ref());
    let (actor, id) = (authorized.caller.user_id, DeadLetterId(id.into_inner()));
    let by = (Some(actor), &origin);
    if dry_run {
        return Ok(reply::send(rendered(&letters.try_redrive(by, id, force).await?)));
    }
    let submission = key.submission(actor.0, &body.bytes);
    let verb = async |tx: &_| letters.redrive(tx, by, id, force).await;
    let answer = once(&app, submission.as_ref(), verb, reply::outcome(rendered)).await?;
    letters.ring();
    Ok(reply::answer(answer, rendered))
}

/// Sends an edited copy of a message that died: a message with an id of its own. The letter is
/// closed, and each of the two names the other.
#[utoipa::path(tag = "operations", request_body = CopyRequest,
    params(("id" = Uuid, Path, description = "Which letter")),
    responses((status = 201, description = "The letter, closed; `replaced_by` is on its way",
               body = DeadLetterBody)))]
#[post("/admin/dead-letters/{id}/copy")]
async fn copy(
    authorized: Authorized<Operate>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: Body<CopyRequest>,
) -> Result<HttpResponse, Problem> {
    let CopyRequest { data, reason } = body.read()?;
    let note = note(reason)?;
    let letters = DeadLetters::from(app.get_ref());
    let (actor, id) = (authorized.caller.user_id, DeadLetterId(id.into_inner()));
    let submission = key.submission(actor.0, &body.bytes);
    let by = (Some(actor), &origin);
    let verb = async |tx: &_| letters.copy(tx, by, id, data, note).await.map_err(inside);
    let answer = once(&app, submission.as_ref(), verb, reply::outcome(copied)).await?;
    letters.ring();
    Ok(reply::answer(answer, copied))
}

/// Discards a message that died, for good. It is kept for a while with the reason, under
/// `?state=resolved`.
#[utoipa::path(tag = "operations",
    params(("id" = Uuid, Path, description = "Which letter"), DiscardQuery),
    responses((status = 204, description = "It is gone")))]
#[delete("/admin/dead-letters/{id}")]
async fn remove(
    authorized: Authorized<Operate>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    query: Query<DiscardQuery>,
) -> Result<HttpResponse, Problem> {
    let note = note(query.into_inner().reason)?;
    let letters = DeadLetters::from(app.get_ref());
    let by = (Some(authorized.caller.user_id), &origin);
    letters.discard(by, DeadLetterId(id.into_inner()), note).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Publications that failed: those that are tried again with growing pauses, and those that were
/// given up. Also the view `failed_events` of the database.
#[utoipa::path(tag = "operations", params(PageQuery, FailedQuery),
    responses((status = 200, description = "A page of them, the newest messages first",
               body = PageBody<FailedBody>)))]
#[get("/admin/failed-events")]
async fn failed_events(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    page: Query<PageQuery>,
    query: Query<FailedQuery>,
) -> Result<HttpResponse, Problem> {
    let (after, limit) = page.after_id()?;
    let mut errors = FieldErrors::default();
    let kind = short(&mut errors, "/type", query.into_inner().kind);
    errors.check()?;
    let letters = DeadLetters::from(app.get_ref());
    let found = letters.failed_events(kind.as_deref(), after, limit).await?;
    Ok(reply::send(reply::ok(&PageBody::of(found, FailedBody::from))))
}

fn rendered(kept: &Kept) -> Reply {
    reply::ok(&DeadLetterBody::from(kept.clone()))
}

fn copied(kept: &Kept) -> Reply {
    let location = format!("/api/v1/admin/dead-letters/{}", kept.letter.id);
    reply::created(location, &DeadLetterBody::from(kept.clone()))
}

/// The letters that a request means.
pub fn filter(errors: &mut FieldErrors, at: &str, raw: FilterBody) -> Filter {
    if raw.ids.as_ref().is_some_and(Vec::is_empty) {
        let detail = "must name a letter, or be left out";
        errors.push(FieldError::new(&format!("{at}/ids"), "required", detail));
    }
    let ids = raw.ids.unwrap_or_default();
    if ids.len() > IDS_MAX {
        let detail = format!("must name at most {IDS_MAX} letters");
        errors.push(FieldError::new(&format!("{at}/ids"), "too_many", detail));
    }
    let mut take = |name: &str, value| short(errors, &format!("{at}/{name}"), value);
    Filter {
        kind: take("type", raw.kind),
        source: take("source", raw.source),
        fingerprint: take("fingerprint", raw.fingerprint),
        ids: ids.into_iter().map(DeadLetterId).collect(),
    }
}

fn short(errors: &mut FieldErrors, pointer: &str, value: Option<String>) -> Option<String> {
    let value = value?;
    if value.chars().count() > FILTER_MAX || value.contains('\0') {
        let detail = format!("must be at most {FILTER_MAX} characters, without NUL");
        errors.push(FieldError::new(pointer, "invalid_characters", detail));
        return None;
    }
    Some(value)
}

fn note(reason: Option<String>) -> Result<Option<String>, Refusal> {
    let Some(reason) = reason else { return Ok(None) };
    if reason.chars().count() > NOTE_MAX || reason.contains('\0') {
        let detail = format!("must be at most {NOTE_MAX} characters, without NUL");
        return Err(Refusal::invalid("/reason", "invalid_characters", detail));
    }
    Ok(Some(reason))
}

fn shown(state: Option<&str>) -> Result<Shown, FieldError> {
    match state {
        None | Some("open") => Ok(Shown::Open),
        Some("resolved") => Ok(Shown::Resolved),
        Some("all") => Ok(Shown::All),
        Some(_) => Err(FieldError::new("/state", "unknown", "must be open, resolved or all")),
    }
}

/// What is wrong with the data, as seen from the request's body.
fn inside(error: app::Error) -> app::Error {
    let app::Error::Refused(Refusal::Invalid(mut faults)) = error else { return error };
    for fault in &mut faults {
        fault.pointer.insert_str(0, "/data");
    }
    Refusal::Invalid(faults).into()
}

impl From<Kept> for DeadLetterBody {
    fn from(kept: Kept) -> Self {
        let Kept { letter, resolved, copy_of } = kept;
        let end = resolved.as_ref();
        Self {
            id: letter.id.0,
            source: letter.source,
            message_id: letter.message_id.0,
            kind: letter.kind,
            payload: letter.payload,
            correlation_id: letter.correlation_id,
            reason: letter.reason,
            fingerprint: letter.fingerprint,
            attempts: letter.attempts,
            redrives: letter.redrives,
            died_at: rfc3339(letter.died_at),
            state: end.map_or("open", |end| end.how.name()),
            resolved_at: end.map(|end| rfc3339(end.at)),
            resolved_by: end.and_then(|end| end.by).map(|id| id.0),
            note: end.and_then(|end| end.note.clone()),
            replaced_by: end.and_then(|end| end.replaced_by).map(|id| id.0),
            copy_of: copy_of.map(|id| id.0),
        }
    }
}

impl From<Group> for GroupBody {
    fn from(group: Group) -> Self {
        Self {
            fingerprint: group.fingerprint,
            source: group.source,
            kind: group.kind,
            reason: group.reason,
            count: group.count,
            sample_id: group.sample_id.0,
            first_died_at: rfc3339(group.first_died_at),
            last_died_at: rfc3339(group.last_died_at),
        }
    }
}

impl From<FailedEvent> for FailedBody {
    fn from(event: FailedEvent) -> Self {
        Self {
            id: event.id.0,
            kind: event.kind,
            data: serde_json::from_str(&event.data).unwrap_or(Value::String(event.data)),
            error: event.error,
            timestamp: rfc3339(event.at),
            retry_count: event.retries,
            next_attempt_at: event.next_attempt_at.map(rfc3339),
            dead: event.is_dead,
        }
    }
}
