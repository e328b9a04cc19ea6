//! Who published, consumed and changed what.

use actix_web::{HttpResponse, get, web};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::caller::{Authorized, Operate};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply;
use super::time::rfc3339;
use crate::app::{App, audit};
use crate::domain::audit::{Filter, Line, Place, Source};
use crate::domain::ids::UserId;
use crate::domain::refusal::{FieldError, FieldErrors};

/// Longest text of a filter, in characters.
const TEXT_MAX: usize = 200;

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list);
}

/// Which lines; what is not named is any.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// `change`: somebody changed something; `message`: one was published or consumed.
    #[param(pattern = "^(change|message)$")]
    source: Option<String>,
    /// E.g. `dead_letter.redriven`, `message.published`, `message.processed`.
    #[param(max_length = 200)]
    action: Option<String>,
    /// Who did it.
    actor_id: Option<Uuid>,
    /// The id of what it was done to; of a message, its id.
    #[param(max_length = 200)]
    subject: Option<String>,
    /// The request that it was done by; of a publication, its correlation id.
    #[param(max_length = 200)]
    request_id: Option<String>,
    /// The message's type.
    #[serde(rename = "type")]
    #[param(max_length = 200)]
    kind: Option<String>,
    /// Who consumed the message; of a publication, its lane: `bus` or `mail`.
    #[param(max_length = 200)]
    service: Option<String>,
    /// Then or later (RFC 3339).
    #[param(format = "date-time")]
    since: Option<String>,
    /// Before then (RFC 3339).
    #[param(format = "date-time")]
    until: Option<String>,
}

/// A line of the audit log.
#[derive(Serialize, ToSchema)]
struct LineBody {
    #[schema(format = "date-time")]
    at: String,
    /// `change` or `message`.
    source: &'static str,
    /// Who did it; null: the system itself, or somebody at the command line.
    actor_id: Option<Uuid>,
    /// What was done.
    action: String,
    /// The id of what it was done to; of a message, its id.
    subject: String,
    /// The request that it was done by; of a publication, its correlation id.
    request_id: Option<String>,
    /// The message's type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Who consumed the message; of a publication, its lane.
    service: Option<String>,
    /// More about it: of a publication its place at the broker, of a failure its reason.
    #[schema(value_type = Object)]
    detail: Option<Value>,
}

/// Who published, consumed and changed what, the newest first. Messages are told of for
/// `audit.message_days`, changes for `audit.change_days`.
#[utoipa::path(tag = "operations", params(PageQuery, AuditQuery),
    responses((status = 200, description = "A page of lines", body = PageBody<LineBody>)))]
#[get("/admin/audit")]
async fn list(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    page: Query<PageQuery>,
    query: Query<AuditQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let limit = page.limit(&mut errors);
    let after = page.after(&mut errors, Place::parse);
    let filter = filter(&mut errors, query.into_inner());
    errors.check()?;
    let lines = audit::list(&app, &filter, after.as_ref(), limit).await?;
    Ok(reply::send(reply::ok(&PageBody::of(lines, LineBody::from))))
}

fn filter(errors: &mut FieldErrors, query: AuditQuery) -> Filter {
    let source = query.source.as_deref().map(|name| {
        let unknown = || FieldError::new("/source", "unknown", "must be change or message");
        Source::parse(name).ok_or_else(unknown)
    });
    let source = source.and_then(|source| errors.take(source));
    let mut text = |name: &str, value: Option<String>| {
        let value = value?;
        if value.chars().count() > TEXT_MAX || value.contains('\0') {
            let detail = format!("must be at most {TEXT_MAX} characters, without NUL");
            errors.push(FieldError::new(name, "invalid_characters", detail));
        }
        Some(value)
    };
    let action = text("/action", query.action);
    let subject = text("/subject", query.subject);
    let request_id = text("/request_id", query.request_id);
    let kind = text("/type", query.kind);
    let service = text("/service", query.service);
    let mut time = |name: &str, value: Option<String>| {
        let read = value?.parse::<Timestamp>();
        errors.take(read.map_err(|error| FieldError::new(name, "wrong_format", error.to_string())))
    };
    Filter {
        source,
        action,
        actor: query.actor_id.map(UserId),
        subject,
        request_id,
        kind,
        service,
        since: time("/since", query.since),
        until: time("/until", query.until),
    }
}

impl From<Line> for LineBody {
    fn from(line: Line) -> Self {
        Self {
            at: rfc3339(line.at),
            source: line.source.name(),
            actor_id: line.actor.map(|id| id.0),
            action: line.action,
            subject: line.subject,
            request_id: line.request_id,
            kind: line.kind,
            service: line.service,
            detail: line.detail.and_then(|detail| serde_json::from_str(&detail).ok()),
        }
    }
}
