//! A person's alerts: who is interested in the events that concern them.

use actix_web::{HttpResponse, get, put, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::body::Body;
use super::caller::{Authorized, ReadProfile, WriteProfile};
use super::event_body::InterestBody;
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply;
use super::time::rfc3339;
use crate::app::App;
use crate::app::interests::alerts::{self, Pointer};
use crate::domain::alert::{ListedAlert, sentence};
use crate::domain::ids::AlertId;

/// Everything about alerts.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_alerts).service(see_alerts);
}

/// Who is named in an alert.
#[derive(Serialize, ToSchema)]
struct ActorBody {
    id: Uuid,
    name: String,
}

/// "Ana and 37 others are interested in …".
#[derive(Serialize, ToSchema)]
struct AlertBody {
    id: Uuid,
    /// What it is about.
    #[schema(example = "interest")]
    kind: String,
    event_id: Uuid,
    event_title: String,
    /// Who was first; null if they do not let everybody know of it any more.
    actor: Option<ActorBody>,
    /// How many came with them.
    others: u32,
    /// All of them, by how much they were interested.
    states: InterestBody,
    /// All of it in a sentence.
    #[schema(example = "Ana and 37 others are interested in Jazz.")]
    text: String,
    /// Whether the pointer is here or later.
    seen: bool,
    #[schema(format = "date-time")]
    created_at: String,
}

impl AlertBody {
    fn of(listed: ListedAlert, pointer: Pointer) -> Self {
        let ListedAlert { alert, kind, event_id, event_title, actor_name, created_at } = listed;
        Self {
            id: alert.id.0,
            kind,
            event_id: event_id.0,
            text: sentence(&alert, actor_name.as_deref(), &event_title),
            event_title,
            actor: actor_name.map(|name| ActorBody { id: alert.actor.0, name }),
            others: alert.others,
            states: alert.states.into(),
            seen: pointer.last_seen.is_some_and(|last| alert.id <= last),
            created_at: rfc3339(created_at),
        }
    }
}

/// A page of alerts, and how far they were seen.
#[derive(Serialize, ToSchema)]
struct AlertsBody {
    /// The newest first.
    items: Vec<AlertBody>,
    /// Where the next page starts; null on the last one.
    next_cursor: Option<String>,
    /// The last alert that was seen; null: none.
    last_seen: Option<Uuid>,
    /// How many came after it, up to 1000.
    unseen: i64,
}

/// How far the caller has seen their alerts.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPointer {
    /// This one and all before it.
    up_to: Uuid,
}

/// How far the caller has seen their alerts.
#[derive(Serialize, ToSchema)]
struct PointerBody {
    /// The last alert that was seen; null: none.
    last_seen: Option<Uuid>,
    /// How many came after it, up to 1000.
    unseen: i64,
}

/// The caller's alerts, the newest first.
#[utoipa::path(tag = "notifications", params(PageQuery),
    responses((status = 200, description = "A page of alerts", body = AlertsBody)))]
#[get("/me/alerts")]
async fn list_alerts(
    authorized: Authorized<ReadProfile>,
    app: web::Data<App>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (after, limit) = page.after_id()?;
    let (page, pointer) = alerts::list(&app, &authorized.caller, after, limit).await?;
    let PageBody { items, next_cursor } = PageBody::of(page, |one| AlertBody::of(one, pointer));
    let last_seen = pointer.last_seen.map(|id| id.0);
    let body = AlertsBody { items, next_cursor, last_seen, unseen: pointer.unseen };
    Ok(reply::send(reply::ok(&body)))
}

/// Moves the caller's pointer: this alert and all before it were seen. It never goes back.
#[utoipa::path(tag = "notifications", request_body = NewPointer,
    responses((status = 200, description = "How far they were seen", body = PointerBody)))]
#[put("/me/alerts/seen")]
async fn see_alerts(
    authorized: Authorized<WriteProfile>,
    app: web::Data<App>,
    body: Body<NewPointer>,
) -> Result<HttpResponse, Problem> {
    let up_to = AlertId(body.read()?.up_to);
    let pointer = alerts::see(&app, &authorized.caller, up_to).await?;
    let last_seen = pointer.last_seen.map(|id| id.0);
    Ok(reply::send(reply::ok(&PointerBody { last_seen, unseen: pointer.unseen })))
}
