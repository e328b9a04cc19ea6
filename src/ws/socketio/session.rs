//! One Socket.IO socket: what it asks is answered under its lock, and a small task of its own tells
//! it what happens. What a client does not take is not piled up: it gets the latest when it reads
//! again, and is sent away if it does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use socketioxide::extract::{AckSender, SocketRef};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::payload::{self, Asked};
use crate::app::seat_rooms::member::{Farewell, Member};
use crate::app::seat_rooms::visit::{News, Visit};
use crate::app::seat_rooms::{Face, count_frames, count_slow};
use crate::app::{App, Error, Result};
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::domain::seat_view::Mark;
use crate::http::problem::Problem;
use crate::ws::pace::{Pace, Verdict};

/// What clients send.
pub const EVENTS: [&str; 6] = [
    "event:join",
    "event:leave",
    "event:holds:set",
    "event:holds:heartbeat",
    "event:holds:sync",
    "event:holds:clear",
];
/// How soon a client that was behind is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// A socket looks up at least this often.
const REST: Duration = Duration::from_mins(1);
/// Seats of `event:seats:freed` that wait for a slow client.
const FREED_MAX: usize = 10_000;

/// A connected socket.
pub struct Session {
    app: App,
    member: Arc<Member>,
    visit: Mutex<Visit>,
    pace: Mutex<Pace>,
    /// Fires when the client is gone.
    pub(super) gone: CancellationToken,
}

/// What a client has yet to be told of an event.
#[derive(Debug)]
struct Owed {
    event: EventId,
    held: bool,
    booked: bool,
    freed: BTreeSet<u32>,
}

/// The client takes nothing more for now.
struct Full;

impl Session {
    pub(super) fn new(app: App, visit: Visit) -> Self {
        let member = Arc::clone(visit.member());
        Self {
            app,
            member,
            visit: Mutex::new(visit),
            pace: Mutex::new(Pace::new(Instant::now())),
            gone: CancellationToken::new(),
        }
    }

    /// Answers what the client sent.
    pub(super) async fn hear(
        &self,
        socket: &SocketRef,
        name: &str,
        data: Option<Value>,
        ack: AckSender,
    ) {
        if !self.may_speak(socket).await {
            return;
        }
        let asked = match payload::read(data) {
            Ok(asked) => asked,
            Err(detail) => return Self::refuse(socket, ack, None, "malformed", detail),
        };
        let event = asked.event;
        let mut visit = self.visit.lock().await;
        let done = match name {
            "event:join" => self.join(&mut visit, asked, socket, ack).await,
            "event:leave" => {
                visit.leave(&self.app, event).await;
                ack.send(&payload::booked(event)).ok();
                Ok(())
            }
            "event:holds:set" => self.set(&mut visit, asked, socket, ack).await,
            "event:holds:heartbeat" => {
                let renewed = visit.renew(&self.app, event).await;
                self.mine(&visit, event, renewed, socket, ack)
            }
            "event:holds:clear" => {
                let released = visit.release(&self.app, event).await;
                self.mine(&visit, event, released, socket, ack)
            }
            _ => self.sync(&mut visit, asked, socket, ack).await,
        };
        drop(visit);
        if let Err((error, ack)) = done {
            let problem = Problem::from(error);
            Self::refuse(socket, ack, Some(event), problem.code(), &problem.detail());
        }
    }

    /// Answers what has no name of ours.
    pub(super) async fn unknown(&self, socket: &SocketRef, ack: AckSender) {
        if self.may_speak(socket).await {
            let detail = format!("events are {}", EVENTS.join(", "));
            Self::refuse(socket, ack, None, "unknown_type", &detail);
        }
    }

    /// Tells the client what happens, until it is gone.
    pub(super) async fn run(&self, socket: &SocketRef) {
        let mut owed: Vec<Owed> = Vec::new();
        let mut full_since: Option<Instant> = None;
        loop {
            let due = self.visit.lock().await.due(&self.app);
            let rest = Instant::now() + if owed.is_empty() { REST } else { AGAIN };
            let news = tokio::select! {
                biased;
                () = self.gone.cancelled() => break,
                () = self.member.rung() => self.visit.lock().await.news(&self.app).await,
                () = sleep_until(due.map_or(rest, |due| due.min(rest))) => {
                    self.visit.lock().await.tick(&self.app).await
                }
            };
            let farewell = self.note(socket, news, &mut owed);
            if let Err(Full) = self.pay(socket, &mut owed).await {
                let since = *full_since.get_or_insert_with(Instant::now);
                let patience = Duration::from_millis(self.app.config.sockets.write_timeout_ms);
                if since.elapsed() > patience {
                    self.dismiss(socket, Farewell::Slow).await;
                    break;
                }
            } else {
                full_since = None;
            }
            if let Some(why) = farewell {
                self.dismiss(socket, why).await;
                break;
            }
        }
        self.visit.lock().await.end(&self.app).await;
    }

    async fn may_speak(&self, socket: &SocketRef) -> bool {
        let sockets = &self.app.config.sockets;
        let (rate, burst) = (sockets.frames_per_second, sockets.frames_burst);
        match self.pace.lock().await.count(Instant::now(), rate, burst) {
            Verdict::Fine => true,
            Verdict::TooFast => {
                let error = payload::error(None, "too_many_frames", "slow down");
                emit(socket, "event:error", &error).ok();
                false
            }
            Verdict::Enough => {
                self.member.dismiss(Farewell::Flood);
                false
            }
        }
    }

    async fn join(
        &self,
        visit: &mut Visit,
        asked: Asked,
        socket: &SocketRef,
        ack: AckSender,
    ) -> std::result::Result<(), (Error, AckSender)> {
        let (event, token) = (asked.event, asked.hold_token.as_deref());
        if let Err(error) = visit.join(&self.app, event, None, token, None).await {
            return Err((error, ack));
        }
        // If the seats are not known yet they follow in a moment, as updates.
        let (sight, now) = (visit.sight(event), self.app.clock.now());
        ack.send(&payload::joined(event, sight.as_deref(), visit.own(event), now)).ok();
        if visit.own(event).is_some() {
            emit(socket, "event:holds:mine", &payload::mine(event, visit.own(event), now)).ok();
        }
        Ok(())
    }

    async fn set(
        &self,
        visit: &mut Visit,
        asked: Asked,
        socket: &SocketRef,
        ack: AckSender,
    ) -> std::result::Result<(), (Error, AckSender)> {
        let Asked { event, seats, hold_token } = asked;
        let Some(seats) = seats else {
            let error = Refusal::invalid("/seats", "required", "must name the wanted seats");
            return Err((error.into(), ack));
        };
        let conflicts = match visit.hold(&self.app, event, &seats, hold_token.as_deref()).await {
            Ok(()) => Vec::new(),
            Err(Error::Refused(Refusal::SeatsUnavailable(conflicts))) => conflicts,
            Err(error) => return Err((error, ack)),
        };
        let (own, now) = (visit.own(event), self.app.clock.now());
        let response = payload::response(event, &seats, own, &conflicts);
        emit(socket, "event:holds:response", &response).ok();
        let mine = payload::mine(event, own, now);
        emit(socket, "event:holds:mine", &mine).ok();
        ack.send(&merged(response, mine)).ok();
        Ok(())
    }

    async fn sync(
        &self,
        visit: &mut Visit,
        asked: Asked,
        socket: &SocketRef,
        ack: AckSender,
    ) -> std::result::Result<(), (Error, AckSender)> {
        let event = asked.event;
        if asked.hold_token.is_some() || !visit.is_in(event) {
            let token = asked.hold_token.as_deref();
            if let Err(error) = visit.join(&self.app, event, None, token, None).await {
                return Err((error, ack));
            }
        }
        if let Some(sight) = visit.sight(event) {
            emit(socket, "event:holds:update", payload::held(event, &sight)).ok();
        }
        self.mine(visit, event, Ok(()), socket, ack)
    }

    /// Answers with what the client holds.
    fn mine(
        &self,
        visit: &Visit,
        event: EventId,
        done: Result<()>,
        socket: &SocketRef,
        ack: AckSender,
    ) -> std::result::Result<(), (Error, AckSender)> {
        if let Err(error) = done {
            return Err((error, ack));
        }
        let (own, now) = (visit.own(event), self.app.clock.now());
        let seats = own.map(|own| own.seats.as_slice()).unwrap_or_default();
        let response = payload::response(event, seats, own, &[]);
        emit(socket, "event:holds:response", &response).ok();
        let mine = payload::mine(event, own, now);
        emit(socket, "event:holds:mine", &mine).ok();
        ack.send(&merged(response, mine)).ok();
        Ok(())
    }

    fn refuse(
        socket: &SocketRef,
        ack: AckSender,
        event: Option<EventId>,
        code: &str,
        detail: &str,
    ) {
        let error = payload::error(event, code, detail);
        emit(socket, "event:error", &error).ok();
        ack.send(&error).ok();
        count_frames(Face::SocketIo, 1);
    }

    /// Notes what is owed to the client for news; what is its own it is told at once.
    fn note(&self, socket: &SocketRef, news: Vec<News>, owed: &mut Vec<Owed>) -> Option<Farewell> {
        let now = self.app.clock.now();
        for news in news {
            match news {
                News::Farewell(why) => return Some(why),
                News::Seats { event, first, .. } => {
                    let owed = owe(owed, event);
                    owed.held = true;
                    owed.booked |= !first;
                }
                News::Change(event, batch) => {
                    let owed = owe(owed, event);
                    owed.held |= !batch.change.marks.is_empty();
                    owed.booked |= batch.change.books();
                    if owed.freed.len() < FREED_MAX {
                        owed.freed.extend(batch.change.of(Mark::Freed));
                    }
                }
                News::Expiring(event, own) => {
                    let warning = payload::mine(event, Some(&own), now);
                    emit(socket, "event:holds:expiring", &warning).ok();
                }
                News::Expired(event, seats) => {
                    emit(socket, "event:holds:expired", &payload::expired(event, &seats)).ok();
                }
                News::Told(notification) => {
                    emit(socket, "notification", &payload::raw(notification.to_string())).ok();
                }
                News::Barred(event) => {
                    let detail = "you may not know of it any more";
                    let error = payload::error(Some(event), "not_found", detail);
                    emit(socket, "event:error", &error).ok();
                }
            }
        }
        None
    }

    /// Tells what is owed, as far as the client takes it.
    async fn pay(&self, socket: &SocketRef, owed: &mut Vec<Owed>) -> std::result::Result<(), Full> {
        while let Some(next) = owed.first_mut() {
            let event = next.event;
            if next.held {
                let sight = self.visit.lock().await.sight(event);
                if let Some(sight) = sight {
                    emit(socket, "event:holds:update", payload::held(event, &sight))?;
                }
                next.held = false;
            }
            if !next.freed.is_empty() {
                let freed = payload::freed(event, next.freed.iter().copied());
                emit(socket, "event:seats:freed", &freed)?;
                next.freed.clear();
            }
            if next.booked {
                emit(socket, "event:bookings:update", &payload::booked(event))?;
            }
            owed.remove(0);
        }
        Ok(())
    }

    /// Says goodbye and ends it. Neither gets through to a client whose buffer is full, so both are
    /// tried until it has room; one that makes none fails the engine's next ping.
    async fn dismiss(&self, socket: &SocketRef, why: Farewell) {
        if why == Farewell::Slow {
            count_slow(Face::SocketIo);
        }
        let retry_after_ms = self.app.ids.jitter(self.app.config.sockets.farewell_spread_ms.max(1));
        let bye = payload::bye(why.code(), retry_after_ms);
        let patience = Duration::from_millis(self.app.config.sockets.write_timeout_ms);
        let ended = async {
            while emit(socket, "bye", &bye).is_err() {
                sleep(AGAIN).await;
            }
            // At a stop the connection ends by itself: then clients come back by themselves.
            while why != Farewell::Stopping && socket.clone().disconnect().is_err() {
                sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = self.gone.cancelled() => {}
            () = sleep(patience) => tracing::debug!(code = why.code(), "a client takes no goodbye"),
        }
    }
}

fn owe(owed: &mut Vec<Owed>, event: EventId) -> &mut Owed {
    let at = owed.iter().position(|owed| owed.event == event).unwrap_or(owed.len());
    if at == owed.len() {
        owed.push(Owed { event, held: false, booked: false, freed: BTreeSet::new() });
    }
    // Just found or just pushed.
    #[expect(clippy::indexing_slicing, reason = "it is there")]
    &mut owed[at]
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

fn emit<T: Serialize + ?Sized>(
    socket: &SocketRef,
    event: &str,
    data: &T,
) -> std::result::Result<(), Full> {
    count_frames(Face::SocketIo, 1);
    // One that is gone takes nothing any more, and is noticed elsewhere.
    match socket.emit(event, data) {
        Err(socketioxide::SendError::Socket(socketioxide::SocketError::InternalChannelFull)) => {
            Err(Full)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
