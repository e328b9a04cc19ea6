//! Which seats of an event can be had: asked once, or watched as Server-Sent Events.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{Error, HttpResponse, get, web};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::caller::Anyone;
use super::events::Include;
use super::problem::Problem;
use super::query::Query;
use super::reply;
use super::seat_map_body::SeatMapBody;
use crate::app::App;
use crate::app::events::board::{self, Sight, Watcher};
use crate::app::events::seats::{self, Seats};
use crate::domain::ids::EventId;

/// Silence is broken this often, so that proxies keep the connection and we notice who is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(shown).service(watched);
}

/// An event's seats.
#[derive(Debug, Serialize, ToSchema)]
struct SeatsBody<'a> {
    /// All seats.
    total: u32,
    /// What a newcomer can book now.
    available: u32,
    /// Numbered seats that are somebody's, ascending.
    taken: &'a [u32],
    /// Numbered seats that somebody holds, ascending.
    held: &'a [u32],
    /// Rises with every change.
    version: i64,
    /// With `?include=map`, if the event has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    seat_map: Option<SeatMapBody>,
}

impl<'a> SeatsBody<'a> {
    fn of(seats: &'a Seats, seat_map: Option<SeatMapBody>) -> Self {
        let Seats { total, available, taken, held, version } = seats;
        Self { total: *total, available: *available, taken, held, version: *version, seat_map }
    }
}

/// Which seats can be had now.
#[utoipa::path(tag = "events",
    params(("id" = Uuid, Path, description = "Which event"), Include),
    responses((status = 200, description = "The event's seats", body = SeatsBody<'static>)))]
#[get("/events/{id}/seats")]
async fn shown(
    Anyone(caller): Anyone,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    include: Query<Include>,
) -> Result<HttpResponse, Problem> {
    let (id, with_map) = (EventId(id.into_inner()), include.map()?);
    let (seats, map) = seats::seats(&app, caller.as_ref(), id, with_map).await?;
    let map = map.as_ref().map(SeatMapBody::from);
    Ok(reply::send(reply::ok(&SeatsBody::of(&seats, map))))
}

/// The same as Server-Sent Events: at once, then after each change.
#[utoipa::path(tag = "events",
    params(("id" = Uuid, Path, description = "Which event")),
    responses((status = 200, description = "Each event's data are the seats, its id the version",
               content_type = "text/event-stream", body = String)))]
#[get("/events/{id}/availability/stream")]
async fn watched(
    Anyone(caller): Anyone,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let watcher = board::watch(&app, caller.as_ref(), EventId(id.into_inner())).await?;
    let first = watcher.look().await?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(frames(watcher, frame(&first), first.seats.version)))
}

struct Watching {
    watcher: Watcher,
    first: Option<Bytes>,
    version: i64,
    spoke: Instant,
}

fn frames(
    watcher: Watcher,
    first: Bytes,
    version: i64,
) -> impl Stream<Item = Result<Bytes, Error>> {
    let watching = Watching { watcher, first: Some(first), version, spoke: Instant::now() };
    stream::unfold(watching, |mut watching| async move {
        let frame = watching.next().await?;
        Some((Ok(frame), watching))
    })
}

impl Watching {
    /// The next thing to say; `None` when the process stops.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        while self.watcher.rest().await {
            // While PostgreSQL is away there is nothing new to say.
            if let Ok(sight) = self.watcher.look().await
                && sight.seats.version != self.version
            {
                self.version = sight.seats.version;
                self.spoke = Instant::now();
                return Some(frame(&sight));
            }
            if self.spoke.elapsed() >= HEARTBEAT {
                self.spoke = Instant::now();
                return Some(Bytes::from_static(b": still here\n\n"));
            }
        }
        None
    }
}

fn frame(sight: &Sight) -> Bytes {
    let render = || {
        let data = serde_json::to_string(&SeatsBody::of(&sight.seats, None)).unwrap_or_default();
        Bytes::from(format!("id: {}\ndata: {data}\n\n", sight.seats.version))
    };
    sight.rendered.get_or_init(render).clone()
}
