//! Plain WebSockets: one small task a socket. It alone waits for its client; the rooms never do.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{Error as WebError, FromRequest as _, HttpRequest, HttpResponse, get, rt, web};
use actix_ws::{
    AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, ProtocolError, Session,
};
use bytestring::ByteString;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

use super::frame::{self, Bad, Command, Frame};
use super::measure::measured;
use super::origin;
use super::pace::{Pace, Verdict};
use super::say;
use crate::app::accounts::tickets;
use crate::app::seat_rooms::member::Farewell;
use crate::app::seat_rooms::visit::{Entry, News, Visit};
use crate::app::seat_rooms::{Face, count_frames, count_slow};
use crate::app::{App, Error};
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::http::caller::Anyone;
use crate::http::limits::Limits;
use crate::http::problem::{Problem, ProblemBody};
use crate::http::query::Query;

/// How long a goodbye may take: nobody's stop waits for a client that does not read.
const FAREWELL: Duration = Duration::from_millis(500);

/// The route.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(open);
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Ticketed {
    /// From `POST /ws-tickets`; good for one socket. Programs may send `Authorization` instead.
    /// Without either the socket may watch, but not hold.
    ticket: Option<String>,
}

/// Opens a WebSocket: JSON text frames with a `type`. The client sends `join`, `hold`, `renew`,
/// `release`, `leave` and `ping`; the server sends `snapshot`, `joined`, `delta`, `hold_result`,
/// `hold_expiring`, `hold_expired`, `notification`, `left`, `pong`, `error` and `bye`. A `delta`
/// applies to any version from `since` (without it: `version` - 1) on; each of its lists says what
/// its seats are from now on. Who finds a gap joins again.
#[utoipa::path(tag = "events", params(Ticketed), security((), ("bearer" = [])),
    responses(
        (status = 101, description = "The socket is open"),
        (status = 400, description = "No WebSocket handshake", body = ProblemBody,
         content_type = "application/problem+json"),
        (status = 401, description = "The ticket or token is not good", body = ProblemBody,
         content_type = "application/problem+json"),
        (status = 403, description = "Pages of this origin may not", body = ProblemBody,
         content_type = "application/problem+json"),
        (status = 429, description = "Too many sockets or attempts", body = ProblemBody,
         content_type = "application/problem+json"),
    ))]
#[get("/ws")]
async fn open(
    request: HttpRequest,
    payload: web::Payload,
    Anyone(caller): Anyone,
    query: Query<Ticketed>,
    app: web::Data<App>,
    limits: web::Data<Limits>,
) -> Result<HttpResponse, Problem> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !origin::may_open(&app.config, header(header::ORIGIN), header(header::HOST)) {
        return Err(Refusal::Forbidden("pages of this origin may not open sockets").into());
    }
    limits.check_address(&request)?;
    let caller = match (caller, query.into_inner().ticket) {
        (None, Some(ticket)) => Some(tickets::redeem(&app, &ticket).await?.into()),
        (caller, _) => caller,
    };
    let address = limits.client_of(&request).ok_or(Refusal::Unauthenticated)?;
    let visit = Visit::new(app.rooms.enter(Face::Plain, caller, address)?, address);
    let limit = app.config.sockets.frame_limit_bytes;
    let handshake =
        |error: WebError| Problem::malformed(format!("no WebSocket handshake: {error}"));
    let mut payload = measured(payload.into_inner(), limit);
    let payload = web::Payload::from_request(&request, &mut payload).await.map_err(handshake)?;
    let (response, session, stream) = actix_ws::handle(&request, payload).map_err(handshake)?;
    let stream = stream.max_frame_size(limit).aggregate_continuations();
    let stream = stream.max_continuation_size(limit);
    let now = Instant::now();
    let socket = Socket { app, visit, session, pace: Pace::new(now), heard: now, asked: now };
    rt::spawn(socket.run(stream));
    Ok(response)
}

/// Why a socket is closed.
enum End {
    /// The client went, or the connection broke.
    Gone,
    /// The client closed it.
    Closed(Option<CloseReason>),
    /// The client broke the protocol.
    Broken(CloseCode, &'static str),
    /// We send it away.
    Dismissed(Farewell),
}

struct Socket {
    app: web::Data<App>,
    visit: Visit,
    session: Session,
    pace: Pace,
    /// When the client last said anything.
    heard: Instant,
    /// When it was last asked for a sign of life.
    asked: Instant,
}

impl Socket {
    async fn run(mut self, mut stream: AggregatedMessageStream) {
        let member = std::sync::Arc::clone(self.visit.member());
        // Set again only when it has to ring earlier, or has rung: whoever is told something a
        // thousand times a second shall not wind it up each time. Ringing early does no harm.
        let alarm = sleep_until(self.due());
        tokio::pin!(alarm);
        let end = loop {
            // What is done now and then is kept apart: thousands of sockets rest at this point, and
            // what the longest turn needs would be part of each of them.
            let turn = tokio::select! {
                biased;
                () = member.rung() => Box::pin(self.tell()).await,
                message = stream.recv() => match message {
                    None => Err(End::Gone),
                    Some(Ok(message)) => Box::pin(self.hear(message)).await,
                    Some(Err(error)) => Err(broken(&error)),
                },
                () = alarm.as_mut() => Box::pin(self.tick()).await,
            };
            if let Err(end) = turn {
                break end;
            }
            let due = self.due();
            if alarm.is_elapsed() || due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
        };
        Box::pin(async move {
            self.visit.end(&self.app).await;
            timeout(FAREWELL, close(&self.app, self.session, end)).await.ok();
        })
        .await;
    }

    /// When the clock has something to say.
    fn due(&self) -> Instant {
        let sockets = &self.app.config.sockets;
        let ping = self.heard.max(self.asked) + Duration::from_millis(sockets.ping_ms);
        let idle = self.heard + Duration::from_millis(sockets.idle_ms);
        let due = ping.min(idle);
        self.visit.due(&self.app).map_or(due, |own| own.min(due))
    }

    async fn tick(&mut self) -> Result<(), End> {
        let sockets = &self.app.config.sockets;
        let now = Instant::now();
        let (ping, idle) =
            (Duration::from_millis(sockets.ping_ms), Duration::from_millis(sockets.idle_ms));
        if now.duration_since(self.heard) >= idle {
            return Err(End::Dismissed(Farewell::Idle));
        }
        if now.duration_since(self.heard.max(self.asked)) >= ping {
            self.asked = now;
            let patience = Duration::from_millis(sockets.write_timeout_ms);
            match timeout(patience, self.session.ping(b"")).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(End::Gone),
                Err(_) => return Err(End::Dismissed(Farewell::Slow)),
            }
        }
        let news = self.visit.tick(&self.app).await;
        self.report(news).await
    }

    /// Tells everything that there is to tell.
    async fn tell(&mut self) -> Result<(), End> {
        let news = self.visit.news(&self.app).await;
        self.report(news).await
    }

    async fn report(&mut self, news: Vec<News>) -> Result<(), End> {
        for news in news {
            let now = self.app.clock.now();
            let frame = match news {
                News::Farewell(why) => return Err(End::Dismissed(why)),
                News::Seats { event, sight, reference, .. } => {
                    let own = self.visit.own(event);
                    say::snapshot(event, &sight, own, reference.as_deref(), now)
                }
                News::Change(event, batch) => say::change(event, &batch),
                News::Expiring(event, own) => say::hold_expiring(event, &own, now),
                News::Expired(event, seats) => say::hold_expired(event, &seats),
                News::Told(notification) => say::notification(&notification),
                News::Barred(event) => {
                    say::error(Some(event), "not_found", "you may not know of it any more", None)
                }
            };
            self.send(frame).await?;
        }
        Ok(())
    }

    async fn send(&mut self, frame: ByteString) -> Result<(), End> {
        count_frames(Face::Plain, 1);
        let patience = Duration::from_millis(self.app.config.sockets.write_timeout_ms);
        match timeout(patience, self.session.text(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Dismissed(Farewell::Slow)),
        }
    }

    async fn hear(&mut self, message: AggregatedMessage) -> Result<(), End> {
        let now = Instant::now();
        self.heard = now;
        let sockets = &self.app.config.sockets;
        let verdict = self.pace.count(now, sockets.frames_per_second, sockets.frames_burst);
        if let AggregatedMessage::Close(reason) = message {
            return Err(End::Closed(reason));
        }
        match verdict {
            Verdict::Fine => {}
            Verdict::Enough => return Err(End::Dismissed(Farewell::Flood)),
            Verdict::TooFast => {
                return self.refuse(None, "too_many_frames", "slow down", None).await;
            }
        }
        match message {
            AggregatedMessage::Text(text) => match frame::parse(&text) {
                Ok(frame) => self.obey(frame).await,
                Err(Bad { reference, code, detail }) => {
                    self.refuse(None, code, detail, reference.as_deref()).await
                }
            },
            AggregatedMessage::Binary(_) => {
                self.refuse(None, "binary_not_supported", "frames are JSON text", None).await
            }
            AggregatedMessage::Ping(payload) => {
                let patience = Duration::from_millis(sockets.write_timeout_ms);
                match timeout(patience, self.session.pong(&payload)).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) => Err(End::Gone),
                    Err(_) => Err(End::Dismissed(Farewell::Slow)),
                }
            }
            AggregatedMessage::Pong(_) | AggregatedMessage::Close(_) => Ok(()),
        }
    }

    async fn obey(&mut self, frame: Frame) -> Result<(), End> {
        let Frame { reference, command } = frame;
        let reference = reference.as_deref();
        match command {
            Command::Ping => self.send(say::pong(reference, self.app.clock.now())).await,
            Command::Join { event, since, hold_token } => {
                let kept = reference.map(Box::from);
                let entry =
                    self.visit.join(&self.app, event, since, hold_token.as_deref(), kept).await;
                match entry {
                    // The seats follow, and answer.
                    Ok(Entry::Afresh) => Ok(()),
                    Ok(Entry::Since(version)) => {
                        let (own, now) = (self.visit.own(event), self.app.clock.now());
                        self.send(say::joined(event, version, own, reference, now)).await
                    }
                    Err(error) => self.refused(Some(event), error, reference).await,
                }
            }
            Command::Leave(event) => {
                let Some(event) = self.visit.which(event) else {
                    return self.unjoined(event, reference).await;
                };
                if self.visit.leave(&self.app, event).await {
                    self.send(say::left(event, reference)).await
                } else {
                    self.unjoined(Some(event), reference).await
                }
            }
            Command::Hold { event, seats, hold_token } => {
                let done = self.visit.hold(&self.app, event, &seats, hold_token.as_deref()).await;
                self.answer(event, done, reference).await
            }
            Command::Renew(event) => {
                let Some(event) = self.visit.which(event) else {
                    return self.unjoined(event, reference).await;
                };
                let done = self.visit.renew(&self.app, event).await;
                self.answer(event, done, reference).await
            }
            Command::Release(event) => {
                let Some(event) = self.visit.which(event) else {
                    return self.unjoined(event, reference).await;
                };
                let done = self.visit.release(&self.app, event).await;
                self.answer(event, done, reference).await
            }
        }
    }

    /// Answers a wish for seats.
    async fn answer(
        &mut self,
        event: EventId,
        done: crate::app::Result<()>,
        reference: Option<&str>,
    ) -> Result<(), End> {
        let conflicts = match done {
            Ok(()) => Vec::new(),
            Err(Error::Refused(Refusal::SeatsUnavailable(seats))) => seats,
            Err(error) => return self.refused(Some(event), error, reference).await,
        };
        let (own, now) = (self.visit.own(event), self.app.clock.now());
        self.send(say::hold_result(event, own, &conflicts, reference, now)).await
    }

    async fn unjoined(
        &mut self,
        event: Option<EventId>,
        reference: Option<&str>,
    ) -> Result<(), End> {
        let detail = "join an event first, or name one of those that are joined";
        self.refuse(event, "not_joined", detail, reference).await
    }

    async fn refused(
        &mut self,
        event: Option<EventId>,
        error: Error,
        reference: Option<&str>,
    ) -> Result<(), End> {
        let problem = Problem::from(error);
        self.refuse(event, problem.code(), &problem.detail(), reference).await
    }

    async fn refuse(
        &mut self,
        event: Option<EventId>,
        code: &str,
        detail: &str,
        reference: Option<&str>,
    ) -> Result<(), End> {
        self.send(say::error(event, code, detail, reference)).await
    }
}

/// What a broken protocol is called in the closing frame (RFC 6455 §7.4.1).
fn broken(error: &ProtocolError) -> End {
    let cause = match error {
        ProtocolError::Io(error) => error.get_ref().and_then(|cause| cause.downcast_ref()),
        _ => None,
    };
    match error {
        _ if matches!(cause, Some(PayloadError::Overflow)) => {
            End::Broken(CloseCode::Size, "the frame is too large")
        }
        ProtocolError::Overflow => End::Broken(CloseCode::Size, "the frame is too large"),
        ProtocolError::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            End::Broken(CloseCode::Invalid, "text is UTF-8")
        }
        ProtocolError::Io(error) if error.to_string().contains("continuation") => {
            End::Broken(CloseCode::Size, "the message is too large")
        }
        ProtocolError::Io(_) => End::Gone,
        _ => End::Broken(CloseCode::Protocol, "that is no WebSocket frame"),
    }
}

async fn close(app: &App, mut session: Session, end: End) {
    let reason = match end {
        End::Gone => return,
        End::Closed(reason) => reason,
        End::Broken(code, why) => Some(CloseReason { code, description: Some(why.to_owned()) }),
        End::Dismissed(why) => {
            // Who does not read is not waited for; the kernel ends the connection in time.
            if why == Farewell::Slow {
                count_slow(Face::Plain);
                return;
            }
            let retry_after_ms = app.ids.jitter(app.config.sockets.farewell_spread_ms.max(1));
            session.text(say::bye(why, retry_after_ms)).await.ok();
            let code = match why {
                Farewell::Revoked | Farewell::Flood => CloseCode::Policy,
                Farewell::Stopping | Farewell::Idle | Farewell::Slow => CloseCode::Away,
            };
            Some(CloseReason { code, description: Some(why.code().to_owned()) })
        }
    };
    session.close(reason).await.ok();
}
