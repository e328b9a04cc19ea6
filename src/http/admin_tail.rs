//! The live tail of a stream, as Server-Sent Events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{Error, HttpResponse, get, web};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

use super::caller::{Authorized, Operate};
use super::problem::Problem;
use super::query::Query;
use super::time::rfc3339;
use crate::app::messages::tail::{Passed, Tail, place};
use crate::app::{App, Error as AppError};

/// How often the streams are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A tail ends by itself after this: whoever begins the next one shows again that they may.
const LASTS: Duration = Duration::from_mins(15);
/// A word now and then keeps proxies from hanging up, and tells who has gone.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// People who look on at the same time, in one process.
const TAILS_MAX: usize = 16;

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.app_data(web::Data::new(Tails::default())).service(tail);
}

/// How many look on.
#[derive(Clone, Default)]
struct Tails(Arc<AtomicUsize>);

/// One who looks on.
struct Seat(Arc<AtomicUsize>);

impl Tails {
    fn enter(&self) -> Result<Seat, AppError> {
        let seat = Seat(Arc::clone(&self.0));
        if self.0.fetch_add(1, Ordering::AcqRel) >= TAILS_MAX {
            return Err(AppError::unavailable("the tail"));
        }
        Ok(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TailQuery {
    /// Where to begin: `start`, an RFC 3339 time, or a place on the stream, which is left out.
    /// Without it: now.
    from: Option<String>,
}

struct Watching {
    app: web::Data<App>,
    tail: Tail,
    begun: Instant,
    waiting: Vec<Bytes>,
    spoke: Instant,
    _seat: Seat,
}

/// What passes by on the streams of a type, live, as Server-Sent Events: `message` with the
/// envelope as it travels (what is encrypted stays so), `unreadable` for what is none. Nothing
/// changes by it.
#[utoipa::path(tag = "operations", params(TailQuery,
        ("type" = String, Path, description = "Its name, e.g. `interest.changed`")),
    responses((status = 200, description = "Events, until one hangs up, for 15 minutes at most",
               content_type = "text/event-stream", body = String)))]
#[get("/admin/streams/{type}/tail")]
async fn tail(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    tails: web::Data<Tails>,
    kind: web::Path<String>,
    query: Query<TailQuery>,
) -> Result<HttpResponse, Problem> {
    let from = query.into_inner().from.as_deref().map(place).transpose()?;
    let tail = Tail::begin(&app, &kind, from)?;
    let seat = tails.enter()?;
    let waiting = vec![Bytes::from_static(b": watching\n\n")];
    let (begun, spoke) = (Instant::now(), Instant::now());
    let watching = Watching { app, tail, begun, waiting, spoke, _seat: seat };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(frames(watching)))
}

fn frames(watching: Watching) -> impl Stream<Item = Result<Bytes, Error>> {
    stream::unfold(watching, |mut watching| async move {
        let frame = watching.next().await?;
        Some((Ok(frame), watching))
    })
}

impl Watching {
    /// The next thing to say; `None` when its time is over, or the process stops.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.app.rooms.is_closing() || self.begun.elapsed() >= LASTS {
                return None;
            }
            if !self.waiting.is_empty() {
                self.spoke = Instant::now();
                return Some(self.waiting.drain(..).flatten().collect());
            }
            match self.tail.next().await {
                Ok(passed) if !passed.is_empty() => {
                    self.waiting = passed.iter().map(frame).collect();
                    continue;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(error = %Problem::from(error).code(), "no tail"),
            }
            if self.spoke.elapsed() >= SILENCE_MAX {
                self.waiting.push(Bytes::from_static(b": still here\n\n"));
            }
            sleep(LOOK).await;
        }
    }
}

fn frame(passed: &Passed) -> Bytes {
    let (event, message) = match &passed.message {
        Ok(message) => ("message", message.clone()),
        Err(defect) => ("unreadable", json!({ "reason": defect.reason() })),
    };
    let data = json!({
        "stream": passed.stream,
        "position": passed.position,
        "stored_at": passed.stored_at.map(rfc3339),
        "message": message,
    });
    Bytes::from(format!("event: {event}\nid: {}\ndata: {data}\n\n", passed.position))
}
