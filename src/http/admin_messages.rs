//! What operators do about messages: those that died, and what the services remember.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, delete, get, post, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::body::Body;
use super::caller::{Authorized, Operate};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, IdempotencyKey};
use super::time::rfc3339;
use super::trace::Traced;
use crate::app::messages::dead_letters::DeadLetters;
use crate::app::messages::processed::{self, ProcessingStats, ServiceContext};
use crate::app::messages::redrive::{LIMIT_MAX, Plan, Redriven};
use crate::app::once::{Reply, once};
use crate::app::{self, App};
use crate::domain::dead_letter::{DeadLetter, Filter, Group};
use crate::domain::ids::DeadLetterId;
use crate::domain::refusal::{FieldError, FieldErrors};

/// Fastest redrive, in letters a second.
const RATE_MAX: i64 = 1000;
/// A redrive without a rate, in letters a second.
const RATE_DEFAULT: i64 = 50;
/// Longest filter, in characters.
const FILTER_MAX: usize = 200;
/// The oldest that `older_than_days` can name.
const DAYS_MAX: i64 = 36_500;

/// Everything about messages.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list).service(redrive_many).service(redrive_one).service(remove);
    cfg.service(count).service(cleanup);
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
    /// `fingerprint`: groups instead of letters, the largest first, at most 100, on one page.
    #[param(pattern = "^fingerprint$")]
    group: Option<String>,
}

/// Which letters are meant; what is not named is any.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FilterBody {
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
    /// Its body as received; may not even be JSON.
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
    Letter(DeadLetterBody),
    Group(GroupBody),
}

/// What to send again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RedriveRequest {
    /// Which letters; without it, all.
    filter: Option<FilterBody>,
    /// Only tell what would be done.
    #[serde(default)]
    dry_run: bool,
    /// At most so many, the newest first.
    #[schema(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<i64>,
    /// Not more than so many a second.
    #[schema(minimum = 1, maximum = 1000, default = 50)]
    rate_per_second: Option<i64>,
}

/// What was done, or would be.
#[derive(Serialize, ToSchema)]
struct RedriveBody {
    dry_run: bool,
    /// Open letters that the filter means, also those beyond the limit.
    matched: i64,
    /// How many were sent again.
    redriven: usize,
    /// Which.
    ids: Vec<Uuid>,
    /// Those that were not, and why: drop them, or mend the cause.
    refused: BTreeMap<Uuid, &'static str>,
}

/// Whose statistics.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct StatsQuery {
    /// Only this service's, e.g. `email-service`.
    service: Option<String>,
}

/// How many messages are how far.
#[derive(Serialize, ToSchema)]
struct CountsBody {
    total: i64,
    processing: i64,
    processed: i64,
    /// Dead ones included.
    failed: i64,
    skipped: i64,
    /// Failed and given up.
    dead: i64,
}

/// What the services remember.
#[derive(Serialize, ToSchema)]
struct StatsBody {
    /// Whose these are; null: of all together.
    service: Option<String>,
    #[serde(flatten)]
    counts: CountsBody,
    /// The same for each service.
    by_service: BTreeMap<String, CountsBody>,
}

/// What to forget.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CleanupRequest {
    /// What was done with, or given up, before so many days.
    #[schema(minimum = 0, maximum = 36500)]
    older_than_days: i64,
    /// Only this service's, e.g. `email-service`.
    service: Option<String>,
}

/// What was forgotten.
#[derive(Serialize, ToSchema)]
struct CleanupBody {
    deleted: u64,
}

/// Messages that died and were not dealt with, the newest first; or groups of them.
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
    let (after, limit) = page.after_id()?;
    let LettersQuery { kind, source, fingerprint, group } = query.into_inner();
    let mut errors = FieldErrors::default();
    let filter = filter(&mut errors, "", FilterBody { kind, source, fingerprint });
    if group.as_deref().is_some_and(|group| group != "fingerprint") {
        errors.push(FieldError::new("/group", "unknown", "must be fingerprint"));
    }
    errors.check()?;
    let letters = DeadLetters::from(app.get_ref());
    let body = if group.is_some() {
        let items = letters.groups(&filter).await?;
        PageBody::of(app::Page { items, next: None }, |group| LetterItem::Group(group.into()))
    } else {
        let page = letters.list(&filter, after, limit).await?;
        PageBody::of(page, |letter| LetterItem::Letter(letter.into()))
    };
    Ok(reply::send(reply::ok(&body)))
}

/// Sends a message that died again, under its own id.
#[utoipa::path(tag = "operations",
    params(("id" = Uuid, Path, description = "Which letter"),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, description = "The letter, on its way again",
               body = DeadLetterBody)))]
#[post("/admin/dead-letters/{id}/redrive")]
async fn redrive_one(
    authorized: Authorized<Operate>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let letters = DeadLetters::from(app.get_ref());
    let (actor, id) = (authorized.caller.user_id, DeadLetterId(id.into_inner()));
    let submission = key.submission(actor.0, b"");
    let verb = async |tx: &_| letters.redrive(tx, Some(actor), &origin, id).await;
    let answer = once(&app, submission.as_ref(), verb, reply::outcome(on_its_way)).await?;
    app.wakes.outbox_relay.ring();
    Ok(reply::answer(answer, on_its_way))
}

fn on_its_way(letter: &DeadLetter) -> Reply {
    reply::ok(&DeadLetterBody::from(letter.clone()))
}

/// Sends messages that died again, at a rate. Repeating it is safe: what was sent is not open any
/// more. Takes no `Idempotency-Key` for that reason.
#[utoipa::path(tag = "operations", request_body = RedriveRequest,
    responses((status = 200, description = "What was sent again, or would be",
               body = RedriveBody)))]
#[post("/admin/dead-letters/redrive")]
async fn redrive_many(
    authorized: Authorized<Operate>,
    Traced(origin): Traced,
    app: web::Data<App>,
    body: Body<RedriveRequest>,
) -> Result<HttpResponse, Problem> {
    let plan = plan(body.read()?)?;
    let letters = DeadLetters::from(app.get_ref());
    let actor = authorized.caller.user_id;
    let dry_run = plan.dry_run;
    // It is many transactions: a client that hangs up must not leave it half way.
    let all = async move { letters.redrive_all(Some(actor), &origin, &plan).await };
    let done = app.background.run(all).await.map_err(app::Error::from)??;
    let Redriven { matched, redriven, refused } = done;
    let body = RedriveBody {
        dry_run,
        matched,
        redriven: redriven.len(),
        ids: redriven.into_iter().map(|id| id.0).collect(),
        refused: refused.into_iter().map(|(id, why)| (id.0, why)).collect(),
    };
    Ok(reply::send(reply::ok(&body)))
}

/// Drops a message that died, for good.
#[utoipa::path(tag = "operations",
    params(("id" = Uuid, Path, description = "Which letter")),
    responses((status = 204, description = "It is gone")))]
#[delete("/admin/dead-letters/{id}")]
async fn remove(
    authorized: Authorized<Operate>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let letters = DeadLetters::from(app.get_ref());
    let actor = Some(authorized.caller.user_id);
    letters.remove(actor, &origin, DeadLetterId(id.into_inner())).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// How many messages each service has processed, skipped, failed or has in hand.
#[utoipa::path(tag = "operations", params(StatsQuery),
    responses((status = 200, description = "The counts", body = StatsBody)))]
#[get("/admin/processed-events/stats")]
async fn count(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    query: Query<StatsQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let service = errors.take(service(query.service.as_deref())).flatten();
    errors.check()?;
    let by_service = if let Some(service) = service {
        let counts = processed::get_processing_stats(&app.db, Some(service)).await;
        vec![(service.name().to_owned(), counts.map_err(app::Error::from)?)]
    } else {
        let all = processed::get_processing_stats_by_service(&app.db).await;
        all.map_err(app::Error::from)?
    };
    let counts = by_service.iter().fold(ProcessingStats::default(), |sum, (_, one)| sum.plus(one));
    let body = StatsBody {
        service: service.map(|service| service.name().to_owned()),
        counts: counts.into(),
        by_service: by_service.into_iter().map(|(name, one)| (name, one.into())).collect(),
    };
    Ok(reply::send(reply::ok(&body)))
}

/// Forgets what services remember of messages that were done with long ago. What is still to be
/// done is kept however old. Removes two million at most.
#[utoipa::path(tag = "operations", request_body = CleanupRequest,
    responses((status = 200, description = "How many were forgotten", body = CleanupBody)))]
#[post("/admin/processed-events/cleanup")]
async fn cleanup(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    body: Body<CleanupRequest>,
) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let mut errors = FieldErrors::default();
    let days = bounded(&mut errors, "/older_than_days", sent.older_than_days, 0, DAYS_MAX);
    let service = errors.take(service(sent.service.as_deref())).flatten();
    errors.check()?;
    let now = app.clock.now();
    let deleted = processed::cleanup_old_events(&app.db, days, service, now).await;
    let deleted = deleted.map_err(app::Error::from)?;
    Ok(reply::send(reply::ok(&CleanupBody { deleted })))
}

fn plan(request: RedriveRequest) -> Result<Plan, Problem> {
    let mut errors = FieldErrors::default();
    let filter = filter(&mut errors, "/filter", request.filter.unwrap_or_default());
    let limit = request.limit.unwrap_or(LIMIT_MAX);
    bounded(&mut errors, "/limit", limit, 1, LIMIT_MAX);
    let rate = request.rate_per_second.unwrap_or(RATE_DEFAULT);
    let rate_per_second = bounded(&mut errors, "/rate_per_second", rate, 1, RATE_MAX);
    errors.check()?;
    Ok(Plan { filter, limit, rate_per_second, dry_run: request.dry_run })
}

fn filter(errors: &mut FieldErrors, at: &str, raw: FilterBody) -> Filter {
    let mut take = |name: &str, value: Option<String>| {
        let value = value?;
        if value.chars().count() > FILTER_MAX || value.contains('\0') {
            let detail = format!("must be at most {FILTER_MAX} characters, without NUL");
            errors.push(FieldError::new(&format!("{at}/{name}"), "invalid_characters", detail));
            return None;
        }
        Some(value)
    };
    Filter {
        kind: take("type", raw.kind),
        source: take("source", raw.source),
        fingerprint: take("fingerprint", raw.fingerprint),
    }
}

fn service(name: Option<&str>) -> Result<Option<ServiceContext>, FieldError> {
    let Some(name) = name else { return Ok(None) };
    ServiceContext::parse(name).map(Some).ok_or_else(|| {
        let known: Vec<&str> = ServiceContext::ALL.iter().map(|service| service.name()).collect();
        FieldError::new("/service", "unknown", format!("must be one of {}", known.join(", ")))
    })
}

fn bounded(errors: &mut FieldErrors, pointer: &str, value: i64, min: i64, max: i64) -> u32 {
    if !(min..=max).contains(&value) {
        let detail = format!("must be {min} to {max}");
        errors.push(FieldError::new(pointer, "out_of_range", detail));
    }
    u32::try_from(value).unwrap_or_default()
}

impl From<DeadLetter> for DeadLetterBody {
    fn from(letter: DeadLetter) -> Self {
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

impl From<ProcessingStats> for CountsBody {
    fn from(stats: ProcessingStats) -> Self {
        Self {
            total: stats.total(),
            processing: stats.processing,
            processed: stats.processed,
            failed: stats.failed,
            skipped: stats.skipped,
            dead: stats.dead,
        }
    }
}
