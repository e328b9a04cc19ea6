//! Whether the process lives, whether it should be sent requests, and what it still owes (S2.62,
//! S2.63). None of it needs a credential, so what the probes find is kept for a moment: asking
//! often must not become a load.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, web};
use futures_util::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::problem::Problem;
use super::query::Query;
use super::time::rfc3339;
use crate::app::{App, vitals};
use crate::domain::refusal::Refusal;
use crate::wake::{ActorState, Vitals};

/// The name of the whole process.
const SERVICE: &str = "happening";
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long what the probes found is good for.
const PROBE_AGE: Duration = Duration::from_secs(1);
/// An actor that gave no sign of life for this long (milliseconds) is stuck.
const STUCK_MS: i64 = 30_000;

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(health).service(live).service(ready).service(events);
}

/// A dependency and how to find out whether it answers.
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// Whether requests are pointless without it; else the process goes on, more slowly or with
    /// its messages waiting.
    pub required: bool,
    /// Asks it for a sign of life.
    pub check: Box<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>,
}

/// What readiness depends on.
pub struct Readiness {
    probes: Vec<Probe>,
    stopping: CancellationToken,
    found: Mutex<Option<(Instant, Vec<Dependency>)>>,
    failed: Mutex<Option<(Instant, i64)>>,
}

impl Readiness {
    /// Ready while `stopping` has not fired and the required probes succeed.
    pub fn new(probes: Vec<Probe>, stopping: CancellationToken) -> Self {
        Self { probes, stopping, found: Mutex::new(None), failed: Mutex::new(None) }
    }

    async fn dependencies(&self) -> Vec<Dependency> {
        let mut found = self.found.lock().await;
        if let Some((at, found)) = &*found
            && at.elapsed() < PROBE_AGE
        {
            return found.clone();
        }
        let fresh = join_all(self.probes.iter().map(Dependency::ask)).await;
        *found = Some((Instant::now(), fresh.clone()));
        fresh
    }

    async fn failed_messages(&self, app: &App) -> Result<i64, Problem> {
        let mut failed = self.failed.lock().await;
        if let Some((at, failed)) = *failed
            && at.elapsed() < PROBE_AGE
        {
            return Ok(failed);
        }
        let fresh = vitals::failed_messages(app).await?;
        *failed = Some((Instant::now(), fresh));
        Ok(fresh)
    }
}

/// A sign of life (S2.62).
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    #[schema(example = "ok")]
    status: &'static str,
    #[schema(example = "happening")]
    service: String,
    /// RFC 3339, UTC, milliseconds.
    timestamp: String,
}

/// What is owed (S2.63).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EventsHealth {
    #[schema(example = "ok")]
    status: &'static str,
    #[schema(example = "happening-events")]
    service: String,
    /// Dead letters that nobody has dealt with, and messages whose publication has failed so far.
    failed_events_count: i64,
    /// RFC 3339, UTC, milliseconds.
    timestamp: String,
}

/// Whether to send requests here, and why not.
#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    /// `ready`, `degraded` (goes on, but look into it), `unready` or `stopping`.
    #[schema(example = "ready")]
    status: &'static str,
    service: &'static str,
    timestamp: String,
    dependencies: Vec<Dependency>,
    actors: Vec<ActorHealth>,
}

/// A dependency at the last look.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Dependency {
    name: &'static str,
    /// `up` or `down`.
    status: &'static str,
    /// Whether the process is unready without it.
    required: bool,
    latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A long-lived task.
#[derive(Debug, Serialize, ToSchema)]
struct ActorHealth {
    name: String,
    /// `starting`, `running`, `stuck`, `backoff` or `stopped`.
    state: &'static str,
    /// Since its last sign of life; null before the first.
    heartbeat_age_ms: Option<i64>,
    restarts: u64,
}

impl Dependency {
    async fn ask(probe: &Probe) -> Self {
        let asked = Instant::now();
        let answer = timeout(PROBE_TIMEOUT, (probe.check)()).await;
        let error = match answer {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} ms", PROBE_TIMEOUT.as_millis())),
        };
        Self {
            name: probe.name,
            status: if error.is_none() { "up" } else { "down" },
            required: probe.required,
            latency_ms: (asked.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            error,
        }
    }
}

/// What an actor is doing, in a word.
pub fn state_name(vitals: &Vitals, now: jiff::Timestamp) -> &'static str {
    match vitals.state() {
        ActorState::Starting => "starting",
        ActorState::Running if vitals.age_ms(now).is_some_and(|age| age > STUCK_MS) => "stuck",
        ActorState::Running => "running",
        ActorState::Backoff => "backoff",
        ActorState::Stopped => "stopped",
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// One of the process's services: `happening`, or an actor by its name in `/health/ready`.
    service: Option<String>,
}

/// The process or one of its services lives.
#[utoipa::path(
    tag = "operations",
    params(Which),
    responses((status = 200, body = Health), (status = 503, body = Health))
)]
#[get("/health")]
async fn health(which: Query<Which>, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let service = which.into_inner().service.unwrap_or_else(|| SERVICE.to_owned());
    let (fine, sign) = sign_of_life(&app, service).ok_or(Refusal::NotFound("service"))?;
    Ok(answer(fine).json(sign))
}

fn sign_of_life(app: &App, service: String) -> Option<(bool, Health)> {
    let fine = is_fine(app, &service)?;
    let status = if fine { "ok" } else { "failing" };
    Some((fine, Health { status, service, timestamp: rfc3339(app.clock.now()) }))
}

/// The same for those who ask elsewhere than here: status and JSON of `/health`, `/health/live` and
/// `/health/ready`; `None` for what else they may ask for.
pub async fn report(app: &App, readiness: &Readiness, target: &str) -> Option<(u16, Vec<u8>)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "service");
    let service = named.map_or_else(|| SERVICE.to_owned(), |(_, service)| service.into_owned());
    let (fine, json) = match path {
        "/health" => {
            let (fine, sign) = sign_of_life(app, service)?;
            (fine, serde_json::to_vec(&sign))
        }
        "/health/live" => {
            let (_, sign) = sign_of_life(app, SERVICE.to_owned())?;
            (true, serde_json::to_vec(&sign))
        }
        "/health/ready" => {
            let (fine, sight) = look_around(app, readiness).await;
            (fine, serde_json::to_vec(&sight))
        }
        _ => return None,
    };
    Some((answer(fine).finish().status().as_u16(), json.ok()?))
}

/// Whether a service goes on; `None`: there is none of that name.
fn is_fine(app: &App, service: &str) -> Option<bool> {
    if service == SERVICE {
        return Some(true);
    }
    let now = app.clock.now();
    let actors = app.pulse.all();
    let actor = actors.iter().find(|actor| actor.name == service)?;
    Some(matches!(state_name(actor, now), "starting" | "running"))
}

/// The process answers: nothing else is asked.
#[utoipa::path(tag = "operations", responses((status = 200, body = Health)))]
#[get("/health/live")]
async fn live(app: web::Data<App>) -> HttpResponse {
    let timestamp = rfc3339(app.clock.now());
    answer(true).json(Health { status: "ok", service: SERVICE.to_owned(), timestamp })
}

/// Whether to send requests here: each dependency with its latency, each actor with its heartbeat.
#[utoipa::path(
    tag = "operations",
    responses((status = 200, body = Ready), (status = 503, body = Ready))
)]
#[get("/health/ready")]
async fn ready(readiness: web::Data<Readiness>, app: web::Data<App>) -> HttpResponse {
    let (fine, sight) = look_around(&app, &readiness).await;
    answer(fine).json(sight)
}

async fn look_around(app: &App, readiness: &Readiness) -> (bool, Ready) {
    let dependencies = readiness.dependencies().await;
    let now = app.clock.now();
    let actors: Vec<ActorHealth> = app
        .pulse
        .all()
        .iter()
        .map(|vitals| ActorHealth {
            name: vitals.name.clone(),
            state: state_name(vitals, now),
            heartbeat_age_ms: vitals.age_ms(now),
            restarts: vitals.restarts(),
        })
        .collect();
    let down = |required: bool| {
        dependencies.iter().any(|one| one.status == "down" && one.required == required)
    };
    let ill = actors.iter().any(|actor| !matches!(actor.state, "starting" | "running"));
    let status = if readiness.stopping.is_cancelled() {
        "stopping"
    } else if down(true) {
        "unready"
    } else if down(false) || ill {
        "degraded"
    } else {
        "ready"
    };
    let (service, timestamp) = (SERVICE, rfc3339(now));
    let fine = matches!(status, "ready" | "degraded");
    (fine, Ready { status, service, timestamp, dependencies, actors })
}

/// How many messages have failed and wait for a retry or for somebody's decision.
#[utoipa::path(
    tag = "operations",
    params(Which),
    responses((status = 200, body = EventsHealth))
)]
#[get("/health/events")]
async fn events(
    which: Query<Which>,
    readiness: web::Data<Readiness>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let service = which.into_inner().service;
    let service = service.unwrap_or_else(|| format!("{SERVICE}-events"));
    let name = service.strip_suffix("-events").unwrap_or(&service);
    let fine = is_fine(&app, name).ok_or(Refusal::NotFound("service"))?;
    let failed_events_count = readiness.failed_messages(&app).await?;
    Ok(answer(true).json(EventsHealth {
        status: if fine && failed_events_count == 0 { "ok" } else { "degraded" },
        service,
        failed_events_count,
        timestamp: rfc3339(app.clock.now()),
    }))
}

fn answer(fine: bool) -> actix_web::HttpResponseBuilder {
    HttpResponse::build(if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}
