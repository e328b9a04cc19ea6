//! What operators do about what the services remember of messages.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, get, post, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::body::Body;
use super::caller::{Authorized, Operate};
use super::problem::Problem;
use super::query::Query;
use super::reply;
use crate::app::messages::processed::{self, ProcessingStats, ServiceContext};
use crate::app::{self, App};
use crate::domain::refusal::{FieldError, FieldErrors};

/// The oldest that `older_than_days` can name.
const DAYS_MAX: i64 = 36_500;

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(count).service(cleanup);
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
    /// What was done with, or given up, before so many days; with 0, before twelve hours: what is
    /// younger may look lost, and would be sent again.
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

fn service(name: Option<&str>) -> Result<Option<ServiceContext>, FieldError> {
    let Some(name) = name else { return Ok(None) };
    ServiceContext::parse(name).map(Some).ok_or_else(|| {
        let known: Vec<&str> = ServiceContext::ALL.iter().map(|service| service.name()).collect();
        FieldError::new("/service", "unknown", format!("must be one of {}", known.join(", ")))
    })
}

/// A number within its bounds, or what is wrong with it.
pub fn bounded(errors: &mut FieldErrors, pointer: &str, value: i64, min: i64, max: i64) -> u32 {
    if !(min..=max).contains(&value) {
        let detail = format!("must be {min} to {max}");
        errors.push(FieldError::new(pointer, "out_of_range", detail));
    }
    u32::try_from(value).unwrap_or_default()
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
