//! For operators: what Redis shows against what PostgreSQL knows, per event, and its repair.

use actix_web::{HttpResponse, get, post, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::caller::{Authorized, Operate};
use super::problem::Problem;
use super::reply;
use super::trace::Traced;
use crate::app::App;
use crate::app::integrity::report::{self, Report};

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(examine).service(repair);
}

/// What was found.
#[derive(Serialize, ToSchema)]
struct IntegrityBody {
    /// Whether everything is as it should be.
    healthy: bool,
    /// Events that Redis shows differently from what PostgreSQL knows (at most 1000).
    drifts: Vec<DriftBody>,
    /// How many of them were repaired by this call.
    repaired: usize,
    /// Events whose sums contradict their bookings in PostgreSQL (at most 1000). There should
    /// never be one.
    contradictions: Vec<ContradictionBody>,
}

/// An event that Redis shows differently.
#[derive(Serialize, ToSchema)]
struct DriftBody {
    event_id: Uuid,
    /// Seats available to newcomers, by PostgreSQL.
    available_slots: u32,
    /// The same by Redis; null: it does not know.
    shown_slots: Option<i64>,
    /// Parties waiting, by PostgreSQL.
    waitlist_length: u32,
    /// The same by Redis.
    shown_waitlist_length: i64,
    /// Numbered seats sold, by PostgreSQL.
    seats_sold: u32,
    /// The same by Redis; if both are equal, they are other seats.
    shown_seats_sold: i64,
    /// A later commit explains it: the publication was on its way.
    behind: bool,
}

/// An event that contradicts itself.
#[derive(Serialize, ToSchema)]
struct ContradictionBody {
    event_id: Uuid,
    /// What contradicts what.
    detail: String,
}

impl From<&Report> for IntegrityBody {
    fn from(report: &Report) -> Self {
        Self {
            healthy: report.drifts.len() == report.repaired && report.contradictions.is_empty(),
            repaired: report.repaired,
            drifts: report
                .drifts
                .iter()
                .map(|drift| DriftBody {
                    event_id: drift.event.0,
                    available_slots: drift.available,
                    shown_slots: drift.shown,
                    waitlist_length: drift.waiting,
                    shown_waitlist_length: drift.shown_waiting,
                    seats_sold: drift.sold,
                    shown_seats_sold: drift.shown_sold,
                    behind: drift.behind,
                })
                .collect(),
            contradictions: report
                .contradictions
                .iter()
                .map(|broken| ContradictionBody {
                    event_id: broken.event.0,
                    detail: broken.detail.clone(),
                })
                .collect(),
        }
    }
}

/// Redis against PostgreSQL, and PostgreSQL against itself, over all published events.
#[utoipa::path(
    tag = "operations",
    responses((status = 200, body = IntegrityBody))
)]
#[get("/admin/integrity")]
async fn examine(
    _operator: Authorized<Operate>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let report = report::examine(&app.db, &app.redis, false).await?;
    Ok(reply::send(reply::ok(&IntegrityBody::from(&report))))
}

/// Shows in Redis what PostgreSQL knows, where they differ.
#[utoipa::path(
    tag = "operations",
    responses((status = 200, body = IntegrityBody))
)]
#[post("/admin/integrity/repair")]
async fn repair(
    operator: Authorized<Operate>,
    origin: Traced,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let report = report::examine(&app.db, &app.redis, true).await?;
    tracing::info!(
        user_id = %operator.caller.user_id,
        request_id = origin.0.correlation_id,
        repaired = report.repaired,
        "an operator repaired what Redis shows"
    );
    Ok(reply::send(reply::ok(&IntegrityBody::from(&report))))
}
