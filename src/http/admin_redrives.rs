//! Sending many dead letters again: begun by a request, gone on with by the server, watched here.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, delete, get, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::admin_dead_letters::{FilterBody, filter};
use super::admin_messages::bounded;
use super::body::Body;
use super::caller::{Authorized, Operate};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, IdempotencyKey};
use super::time::rfc3339;
use super::trace::Traced;
use crate::app::App;
use crate::app::messages::dead_letters::DeadLetters;
use crate::app::messages::redrive_jobs::{MOST, Plan, RATE_MAX, Redriven};
use crate::app::once::once;
use crate::domain::dead_letter::Redrive;
use crate::domain::ids::RedriveId;
use crate::domain::refusal::FieldErrors;

/// A redrive without a rate, in letters a second.
const RATE_DEFAULT: i64 = 50;

/// The routes. They come before those of single letters, whose ids would take any name.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(begin).service(list).service(show).service(cancel);
}

/// What to send again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RedriveRequest {
    /// Which letters; without it, all that are open.
    filter: Option<FilterBody>,
    /// Only tell what would be done; looks at 1000 letters at most.
    #[serde(default)]
    dry_run: bool,
    /// At most so many, the oldest first.
    #[schema(minimum = 1, maximum = 1_000_000, default = 1_000_000)]
    limit: Option<i64>,
    /// Not more than so many a second.
    #[schema(minimum = 1, maximum = 1000, default = 50)]
    rate_per_second: Option<i64>,
    /// Also those that were sent again too often.
    #[serde(default)]
    force: bool,
}

/// What was done, or would be.
#[derive(Serialize, ToSchema)]
struct RedriveBody {
    /// The job that goes on with the rest; null for a dry run.
    id: Option<Uuid>,
    /// `running`, `done`, `cancelled` or `dry_run`.
    state: &'static str,
    dry_run: bool,
    /// Open letters that the filter means, also those beyond the limit.
    matched: i64,
    /// How many were sent again by now; see the job for the rest.
    redriven: usize,
    /// Which.
    ids: Vec<Uuid>,
    /// Those that were not, and why: drop them, or mend the cause.
    refused: BTreeMap<Uuid, String>,
}

/// A job that sends letters again.
#[derive(Serialize, ToSchema)]
struct JobBody {
    id: Uuid,
    /// `running`, `done` or `cancelled`.
    state: &'static str,
    /// Which letters: null is any.
    #[serde(rename = "type")]
    kind: Option<String>,
    source: Option<String>,
    fingerprint: Option<String>,
    /// The letters that were named one by one.
    ids: Vec<Uuid>,
    rate_per_second: u32,
    /// At most so many.
    limit: i64,
    force: bool,
    /// Open letters that were meant when it began.
    matched: i64,
    /// Sent again so far.
    redriven: i64,
    /// Not sent again so far.
    refused: i64,
    /// The first hundred of those, and why.
    refusals: BTreeMap<Uuid, String>,
    #[schema(format = "date-time")]
    created_at: String,
    /// Who began it; null: somebody at the command line.
    created_by: Option<Uuid>,
    #[schema(format = "date-time")]
    finished_at: Option<String>,
}

/// Sends messages that died again, at a rate. What the rate allows in the first second is sent
/// with the answer; the rest goes on in the server, see `GET /admin/dead-letters/redrives/{id}`.
#[utoipa::path(tag = "operations", request_body = RedriveRequest,
    responses((status = 200, description = "What was sent again by now, or would be",
               body = RedriveBody)))]
#[post("/admin/dead-letters/redrive")]
async fn begin(
    authorized: Authorized<Operate>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    body: Body<RedriveRequest>,
) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let dry_run = sent.dry_run;
    let plan = plan(sent)?;
    let letters = DeadLetters::from(app.get_ref());
    let actor = authorized.caller.user_id;
    let by = (Some(actor), &origin);
    if dry_run {
        let would = letters.rehearse(by, &plan).await?;
        return Ok(reply::send(reply::ok(&RedriveBody::of(None, would))));
    }
    let submission = key.submission(actor.0, &body.bytes);
    let verb = async |tx: &_| letters.begin(tx, by, &plan).await;
    let begun =
        |(job, done): &(Redrive, Redriven)| reply::ok(&RedriveBody::of(Some(job), done.clone()));
    let answer = once(&app, submission.as_ref(), verb, reply::outcome(begun)).await?;
    letters.ring();
    Ok(reply::answer(answer, begun))
}

/// The jobs that send letters again, the newest first.
#[utoipa::path(tag = "operations", params(PageQuery),
    responses((status = 200, description = "A page of jobs", body = PageBody<JobBody>)))]
#[get("/admin/dead-letters/redrives")]
async fn list(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (after, limit) = page.after_id()?;
    let jobs = DeadLetters::from(app.get_ref()).jobs(after, limit).await?;
    Ok(reply::send(reply::ok(&PageBody::of(jobs, JobBody::from))))
}

/// How far a job is.
#[utoipa::path(tag = "operations",
    params(("id" = Uuid, Path, description = "Which job")),
    responses((status = 200, description = "The job", body = JobBody)))]
#[get("/admin/dead-letters/redrives/{id}")]
async fn show(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let job = DeadLetters::from(app.get_ref()).job(RedriveId(id.into_inner())).await?;
    Ok(reply::send(reply::ok(&JobBody::from(job))))
}

/// Ends a job. What it has sent stays sent; one that is over stays as it is.
#[utoipa::path(tag = "operations",
    params(("id" = Uuid, Path, description = "Which job")),
    responses((status = 200, description = "The job as it ended", body = JobBody)))]
#[delete("/admin/dead-letters/redrives/{id}")]
async fn cancel(
    authorized: Authorized<Operate>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let letters = DeadLetters::from(app.get_ref());
    let by = (Some(authorized.caller.user_id), &origin);
    let job = letters.cancel(by, RedriveId(id.into_inner())).await?;
    Ok(reply::send(reply::ok(&JobBody::from(job))))
}

fn plan(request: RedriveRequest) -> Result<Plan, Problem> {
    let mut errors = FieldErrors::default();
    let filter = filter(&mut errors, "/filter", request.filter.unwrap_or_default());
    let limit = request.limit.unwrap_or(MOST);
    bounded(&mut errors, "/limit", limit, 1, MOST);
    let rate = request.rate_per_second.unwrap_or(RATE_DEFAULT);
    let rate_per_second = bounded(&mut errors, "/rate_per_second", rate, 1, RATE_MAX);
    errors.check()?;
    Ok(Plan { filter, limit, rate_per_second, force: request.force })
}

impl RedriveBody {
    fn of(job: Option<&Redrive>, done: Redriven) -> Self {
        let Redriven { matched, redriven, refused } = done;
        Self {
            id: job.map(|job| job.id.0),
            state: job.map_or("dry_run", Redrive::state),
            dry_run: job.is_none(),
            matched: job.map_or(matched, |job| job.matched),
            redriven: redriven.len(),
            ids: redriven.into_iter().map(|id| id.0).collect(),
            refused: refused.into_iter().map(|(id, why)| (id.0, why)).collect(),
        }
    }
}

impl From<Redrive> for JobBody {
    fn from(job: Redrive) -> Self {
        Self {
            id: job.id.0,
            state: job.state(),
            kind: job.filter.kind,
            source: job.filter.source,
            fingerprint: job.filter.fingerprint,
            ids: job.filter.ids.into_iter().map(|id| id.0).collect(),
            rate_per_second: job.rate_per_second,
            limit: job.most,
            force: job.force,
            matched: job.matched,
            redriven: job.redriven,
            refused: job.refused,
            refusals: job.refusals.into_iter().map(|(id, why)| (id.0, why)).collect(),
            created_at: rfc3339(job.created_at),
            created_by: job.created_by.map(|id| id.0),
            finished_at: job.finished_at.map(rfc3339),
        }
    }
}
