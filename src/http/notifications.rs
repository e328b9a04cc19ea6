//! A person's in-app inbox.

use actix_web::{HttpResponse, get, post, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::body::Body;
use super::caller::{Authorized, ReadProfile, WriteProfile};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, IdempotencyKey};
use super::time::rfc3339;
use crate::app::App;
use crate::app::notifications::list;
use crate::app::notifications::mark_read::{self, Marked, Which};
use crate::app::once::{Reply, once};
use crate::domain::ids::NotificationId;
use crate::domain::notification::Notification;
use crate::domain::refusal::Refusal;

/// Most ids in one request.
const IDS_MAX: usize = 100;

/// Everything about the inbox.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(inbox).service(mark);
}

/// Which notifications.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct InboxQuery {
    /// `true`: only those that were not read; `false`: only those that were.
    unread: Option<bool>,
}

/// What somebody was told.
#[derive(Serialize, ToSchema)]
struct NotificationBody {
    id: Uuid,
    /// The type of the message that told it.
    #[serde(rename = "type")]
    #[schema(example = "booking_confirmed")]
    kind: String,
    event_id: Option<Uuid>,
    booking_id: Option<Uuid>,
    title: String,
    body: String,
    /// The details: `seats`, `seat_numbers`, `invitation_id`, `organization_id`; of
    /// an alert its counts; of alarms what is wrong and how bad.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    read_at: Option<String>,
}

impl From<Notification> for NotificationBody {
    fn from(notification: Notification) -> Self {
        Self {
            id: notification.id.0,
            kind: notification.kind,
            event_id: notification.event_id.map(|id| id.0),
            booking_id: notification.booking_id.map(|id| id.0),
            title: notification.title,
            body: notification.body,
            data: RawValue::from_string(notification.data).unwrap_or_default(),
            created_at: rfc3339(notification.created_at),
            read_at: notification.read_at.map(rfc3339),
        }
    }
}

/// What was read: exactly one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReadRequest {
    /// These.
    #[schema(min_items = 1, max_items = 100)]
    ids: Option<Vec<Uuid>>,
    /// This one and all before it.
    up_to: Option<Uuid>,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
struct ReadBody {
    /// How many were not read before.
    marked: u64,
    /// How many are left.
    unread: i64,
}

/// The caller's notifications, the newest first.
#[utoipa::path(tag = "notifications", params(PageQuery, InboxQuery),
    responses((status = 200, description = "A page of notifications",
               body = PageBody<NotificationBody>)))]
#[get("/me/notifications")]
async fn inbox(
    authorized: Authorized<ReadProfile>,
    app: web::Data<App>,
    page: Query<PageQuery>,
    query: Query<InboxQuery>,
) -> Result<HttpResponse, Problem> {
    let (after, limit) = page.after_id()?;
    let page = list::list(&app, &authorized.caller, query.unread, after, limit).await?;
    Ok(reply::send(reply::ok(&PageBody::of(page, NotificationBody::from))))
}

/// Marks notifications as read: those named, or one and all before it.
#[utoipa::path(tag = "notifications", request_body = ReadRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, description = "They are read", body = ReadBody)))]
#[post("/me/notifications/read")]
async fn mark(
    authorized: Authorized<WriteProfile>,
    key: IdempotencyKey,
    app: web::Data<App>,
    body: Body<ReadRequest>,
) -> Result<HttpResponse, Problem> {
    let which = which(&body.read()?)?;
    let caller = &authorized.caller;
    let submission = key.submission(caller.user_id.0, &body.bytes);
    let verb = async |tx: &_| mark_read::mark_read(&app, tx, caller, which).await;
    let answer = once(&app, submission.as_ref(), verb, reply::outcome(marked)).await?;
    Ok(reply::answer(answer, marked))
}

fn marked(marked: &Marked) -> Reply {
    reply::ok(&ReadBody { marked: marked.marked, unread: marked.unread })
}

fn which(request: &ReadRequest) -> Result<Which, Refusal> {
    match (&request.ids, request.up_to) {
        (Some(ids), None) if (1..=IDS_MAX).contains(&ids.len()) => Ok(Which::Ids(ids.clone())),
        (Some(_), None) => {
            Err(Refusal::invalid("/ids", "out_of_range", format!("must be 1 to {IDS_MAX} ids")))
        }
        (None, Some(last)) => Ok(Which::UpTo(NotificationId(last))),
        (None, None) => Err(Refusal::invalid("/ids", "required", "give either ids or up_to")),
        (Some(_), Some(_)) => {
            Err(Refusal::invalid("/up_to", "conflicting", "give either ids or up_to, not both"))
        }
    }
}
