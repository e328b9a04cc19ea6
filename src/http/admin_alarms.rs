//! What is wrong with the instance, and what was.

use actix_web::{HttpResponse, get, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::caller::{Authorized, Operate};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply;
use super::time::rfc3339;
use crate::app::App;
use crate::app::alarms::list;
use crate::domain::alarm::{Alarm, AlarmKind};
use crate::domain::refusal::{FieldError, FieldErrors};

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(alarms);
}

/// Which alarms; what is not named is any.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AlarmsQuery {
    /// `open`, `closed` or `all` (the default).
    #[param(pattern = "^(open|closed|all)$")]
    state: Option<String>,
    /// `publication_failed`, `backlog_old`, `error_rate`, `breaker_open` or `dead_letters`.
    #[param(pattern = "^(publication_failed|backlog_old|error_rate|breaker_open|dead_letters)$")]
    kind: Option<String>,
}

/// An alarm.
#[derive(Serialize, ToSchema)]
struct AlarmBody {
    id: Uuid,
    #[schema(example = "backlog_old")]
    kind: &'static str,
    /// With whom something is wrong: a service, a lane of the outbox (`outbox.mail`), or a type of
    /// messages.
    #[schema(example = "outbox.mail")]
    subject: String,
    /// `open` or `closed`.
    state: &'static str,
    #[schema(format = "date-time")]
    opened_at: String,
    /// When somebody saw it last.
    #[schema(format = "date-time")]
    last_seen_at: String,
    #[schema(format = "date-time")]
    closed_at: Option<String>,
    /// How bad it was then.
    value: u64,
    /// From which value on it is bad.
    limit: u64,
    /// Of both: `messages`, `seconds` or `percent`.
    unit: &'static str,
    /// What else is known: the last reason, what is away.
    note: String,
    /// The process that saw it last, as `host:pid`.
    process: String,
    /// All of it in one sentence.
    summary: String,
    /// What to look at next.
    advice: &'static str,
}

/// Alarms, the newest first. One of a kind and subject is open at a time, however many processes
/// see it; those that are over are kept for `alarms.retention_days`.
#[utoipa::path(tag = "operations", params(PageQuery, AlarmsQuery),
    responses((status = 200, description = "A page of alarms", body = PageBody<AlarmBody>)))]
#[get("/admin/alarms")]
async fn alarms(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    page: Query<PageQuery>,
    query: Query<AlarmsQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let limit = page.limit(&mut errors);
    let after = page.after(&mut errors, |key| key.parse().ok());
    let is_open = match query.state.as_deref() {
        None | Some("all") => None,
        Some("open") => Some(true),
        Some("closed") => Some(false),
        Some(_) => {
            errors.push(FieldError::new("/state", "unknown", "must be open, closed or all"));
            None
        }
    };
    let kind = query.kind.as_deref().map(|name| {
        let unknown = || FieldError::new("/kind", "unknown", "is not a kind of alarm");
        AlarmKind::parse(name).ok_or_else(unknown)
    });
    let kind = kind.and_then(|kind| errors.take(kind));
    errors.check()?;
    let found = list::list(&app, is_open, kind, after, limit).await?;
    Ok(reply::send(reply::ok(&PageBody::of(found, AlarmBody::from))))
}

impl From<Alarm> for AlarmBody {
    fn from(alarm: Alarm) -> Self {
        Self {
            id: alarm.id.0,
            kind: alarm.kind.name(),
            state: if alarm.closed_at.is_none() { "open" } else { "closed" },
            opened_at: rfc3339(alarm.opened_at),
            last_seen_at: rfc3339(alarm.last_seen_at),
            closed_at: alarm.closed_at.map(rfc3339),
            value: alarm.value,
            limit: alarm.limit,
            unit: alarm.kind.unit(),
            summary: alarm.sentence(),
            advice: alarm.kind.advice(),
            subject: alarm.subject,
            note: alarm.note,
            process: alarm.process,
        }
    }
}
