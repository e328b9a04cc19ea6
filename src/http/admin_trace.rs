//! What became of a request: everything that followed from it, on one page.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::caller::{Authorized, Operate};
use super::problem::Problem;
use super::reply;
use super::time::rfc3339;
use crate::app::App;
use crate::app::messages::trace::{self, Change, Delivered, Letter, Life, Sent, Step};

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(show);
}

/// What became of a request. At most 200 changes and messages of it are shown.
#[derive(Serialize, ToSchema)]
struct TraceBody {
    /// The request's `X-Request-Id`; messages carry it on.
    correlation_id: String,
    /// What it changed, as the audit log has it.
    changes: Vec<ChangeBody>,
    /// The messages that it caused, and those that followed from them.
    messages: Vec<LifeBody>,
}

/// A change.
#[derive(Serialize, ToSchema)]
struct ChangeBody {
    at: String,
    /// Null: the system itself.
    actor_id: Option<Uuid>,
    #[schema(example = "event.published")]
    action: String,
    subject: String,
    #[schema(value_type = Option<Object>)]
    detail: Option<Value>,
}

/// A message and what became of it.
#[derive(Serialize, ToSchema)]
struct LifeBody {
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    created_at: String,
    traceparent: Option<String>,
    /// How it left.
    publication: PublicationBody,
    /// What each service did with it.
    consumers: Vec<StepBody>,
    /// Where it died, if it did.
    dead_letters: Vec<LetterBody>,
    /// Whom it reached.
    deliveries: Vec<DeliveryBody>,
}

/// How a message left.
#[derive(Serialize, ToSchema)]
struct PublicationBody {
    /// `mail`: RabbitMQ; `bus`: the streams.
    lane: String,
    /// `waiting`, `sent` or `dead`.
    status: &'static str,
    /// When the broker confirmed it.
    sent_at: Option<String>,
    /// Where the broker put it, if it says so.
    position: Option<String>,
    /// Failed publications.
    attempts: i32,
    last_error: Option<String>,
    next_attempt_at: Option<String>,
}

/// What a service did with a message.
#[derive(Serialize, ToSchema)]
struct StepBody {
    #[schema(example = "inbox-service")]
    service: String,
    /// Under which it remembers the message.
    stream: String,
    /// `processing`, `processed`, `failed` or `skipped`.
    status: String,
    at: String,
    attempts: i32,
    last_error: Option<String>,
    next_attempt_at: Option<String>,
    dead_at: Option<String>,
}

/// A dead letter.
#[derive(Serialize, ToSchema)]
struct LetterBody {
    id: Uuid,
    source: String,
    reason: String,
    attempts: i32,
    died_at: String,
    resolved_at: Option<String>,
    redrives: i32,
}

/// Somebody who was reached.
#[derive(Serialize, ToSchema)]
struct DeliveryBody {
    /// `inbox`.
    channel: &'static str,
    id: Uuid,
    user_id: Uuid,
    /// `delivered`.
    status: &'static str,
    at: String,
    read_at: Option<String>,
}

/// The whole life of what one request caused: what it changed, its messages, where the broker put
/// each of them, what every service did with it, and whom it reached. Known for as long as sent
/// messages are kept.
#[utoipa::path(tag = "operations",
    params(("correlation_id" = String, Path, description = "The request's `X-Request-Id`")),
    responses((status = 200, description = "What became of it", body = TraceBody)))]
#[get("/admin/trace/{correlation_id}")]
async fn show(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let passport = trace::trace(&app, &id).await?;
    let body = TraceBody {
        correlation_id: id.into_inner(),
        changes: passport.changes.into_iter().map(ChangeBody::from).collect(),
        messages: passport.messages.into_iter().map(LifeBody::from).collect(),
    };
    Ok(reply::send(reply::ok(&body)))
}

impl From<Change> for ChangeBody {
    fn from(change: Change) -> Self {
        let Change { at, actor_id, action, subject, detail } = change;
        Self { at: rfc3339(at), actor_id, action, subject, detail }
    }
}

impl From<Life> for LifeBody {
    fn from(life: Life) -> Self {
        let Sent { id, kind, lane, created_at, sent_at, dead_at, .. } = life.sent;
        let status = match (sent_at, dead_at) {
            (_, Some(_)) => "dead",
            (Some(_), _) => "sent",
            _ => "waiting",
        };
        Self {
            id,
            kind,
            created_at: rfc3339(created_at),
            traceparent: life.sent.traceparent,
            publication: PublicationBody {
                lane,
                status,
                sent_at: sent_at.map(rfc3339),
                position: life.sent.position,
                attempts: life.sent.attempts,
                last_error: life.sent.last_error,
                next_attempt_at: life.sent.next_attempt_at.map(rfc3339),
            },
            consumers: life.steps.into_iter().map(StepBody::from).collect(),
            dead_letters: life.letters.into_iter().map(LetterBody::from).collect(),
            deliveries: life.deliveries.into_iter().map(DeliveryBody::from).collect(),
        }
    }
}

impl From<Step> for StepBody {
    fn from(step: Step) -> Self {
        Self {
            service: step.service,
            stream: step.stream,
            status: step.status,
            at: rfc3339(step.at),
            attempts: step.attempts,
            last_error: step.last_error,
            next_attempt_at: step.next_attempt_at.map(rfc3339),
            dead_at: step.dead_at.map(rfc3339),
        }
    }
}

impl From<Letter> for LetterBody {
    fn from(letter: Letter) -> Self {
        Self {
            id: letter.id,
            source: letter.source,
            reason: letter.reason,
            attempts: letter.attempts,
            died_at: rfc3339(letter.died_at),
            resolved_at: letter.resolved_at.map(rfc3339),
            redrives: letter.redrives,
        }
    }
}

impl From<Delivered> for DeliveryBody {
    fn from(delivered: Delivered) -> Self {
        Self {
            channel: "inbox",
            id: delivered.id,
            user_id: delivered.user_id,
            status: "delivered",
            at: rfc3339(delivered.created_at),
            read_at: delivered.read_at.map(rfc3339),
        }
    }
}
