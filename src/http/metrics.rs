//! What Prometheus scrapes: what was counted on the way, and what is measured when asked.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, get, web};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::timeout;
use utoipa_actix_web::service_config::ServiceConfig;

use super::health::state_name;
use crate::app::{App, vitals};

/// How long the scrape waits for what only PostgreSQL knows.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(1);

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(scrape);
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(
    tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
#[get("/metrics")]
async fn scrape(app: web::Data<App>, recorder: web::Data<PrometheusHandle>) -> HttpResponse {
    measure_actors(&app);
    for (name, (used, open, max)) in [
        ("postgres_pool_connections", app.db.usage()),
        ("redis_pool_connections", app.redis.usage()),
    ] {
        for (state, count) in [("used", used), ("open", open), ("max", max)] {
            gauge(name, "state", state).set(whole(count));
        }
    }
    for (lane, depth) in app.desk.depths().into_iter().enumerate() {
        gauge("desk_queue_depth", "lane", &lane.to_string()).set(whole(depth));
    }
    // Without PostgreSQL the rest is worth more than an error.
    if let Ok(Ok(backlog)) = timeout(BACKLOG_TIMEOUT, vitals::backlog(&app)).await {
        metrics::gauge!("outbox_unsent_messages").set(precise(backlog.unsent));
        metrics::gauge!("outbox_oldest_seconds").set(backlog.oldest_seconds);
        metrics::gauge!("failed_messages").set(precise(backlog.failed));
        metrics::gauge!("dead_letters").set(precise(backlog.dead));
    }
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(recorder.render())
}

fn measure_actors(app: &App) {
    let now = app.clock.now();
    for actor in app.pulse.all() {
        let age = actor.age_ms(now).map_or(-1.0, |ms| precise(ms) / 1000.0);
        gauge("actor_heartbeat_age_seconds", "actor", &actor.name).set(age);
        let up = state_name(&actor, now) == "running";
        gauge("actor_up", "actor", &actor.name).set(if up { 1.0 } else { 0.0 });
    }
}

fn gauge(name: &'static str, key: &'static str, value: &str) -> metrics::Gauge {
    metrics::gauge!(name, key => value.to_owned())
}

fn whole(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// Exact up to 2^31, which no backlog here survives.
fn precise(count: i64) -> f64 {
    i32::try_from(count).map_or(f64::MAX, f64::from)
}
