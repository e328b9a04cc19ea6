//! What one socket does: it joins and leaves rooms, and reads what it has missed in each. The same
//! for both faces; how it is written down is theirs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Pass;
use super::holding::Own;
use super::log::{Batch, Missed, Position, Sight};
use super::member::{Farewell, Member};
use super::room::Room;
use crate::app::{App, Error, Result, events};
use crate::domain::event::EventStatus;
use crate::domain::hold::Hold;
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;

/// One socket in the rooms.
#[derive(Debug)]
pub struct Visit {
    pub(super) pass: Pass,
    pub(super) address: IpAddr,
    pub(super) joined: Vec<Joined>,
    /// What holds know this socket by; made when it first holds.
    pub(super) session: Option<Box<str>>,
}

#[derive(Debug)]
pub(super) struct Joined {
    pub(super) room: Arc<Room>,
    /// How far it has read; `None`: it has yet to see the seats.
    at: Option<Position>,
    /// What the client called its `join`, until that is answered.
    reference: Option<Box<str>>,
    /// What it holds.
    pub(super) own: Option<Box<Own>>,
}

/// Something to tell a socket.
#[derive(Debug)]
pub enum News {
    /// The seats of an event, all of them.
    Seats {
        /// Which event.
        event: EventId,
        /// The seats.
        sight: Arc<Sight>,
        /// It has not seen them before.
        first: bool,
        /// What the client called the `join` that this answers.
        reference: Option<Box<str>>,
    },
    /// What changed.
    Change(EventId, Arc<Batch>),
    /// What it holds ends soon.
    Expiring(EventId, Hold),
    /// These seats of its own are held no more.
    Expired(EventId, Vec<u32>),
    /// The owner's inbox got something: the notification as JSON.
    Told(Arc<str>),
    /// The owner may not know of the event any more.
    Barred(EventId),
    /// It is to go, and why. Nothing comes after it.
    Farewell(Farewell),
}

/// How a `join` went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The seats follow as soon as they are known.
    Afresh,
    /// What came after this version follows.
    Since(i64),
}

impl Visit {
    /// Begins the visit of somebody at `address`.
    pub fn new(pass: Pass, address: IpAddr) -> Self {
        Self { pass, address, joined: Vec::with_capacity(1), session: None }
    }

    /// The socket as the rooms know it.
    pub fn member(&self) -> &Arc<Member> {
        self.pass.member()
    }

    /// The event that is meant: the one that is named, or the only one that is joined.
    pub fn which(&self, named: Option<EventId>) -> Option<EventId> {
        match (named, self.joined.as_slice()) {
            (None, [only]) => Some(only.room.event()),
            (named, _) => named,
        }
    }

    /// Whether it is in the room of an event.
    pub fn is_in(&self, event: EventId) -> bool {
        self.joined.iter().any(|joined| joined.room.event() == event)
    }

    pub(super) fn find(&mut self, event: EventId) -> Option<&mut Joined> {
        self.joined.iter_mut().find(|joined| joined.room.event() == event)
    }

    /// Joins the room of an event. Who was there before goes on from the version `since`, if what
    /// came after it is still known; everybody else gets the seats. Who brings a hold token has
    /// its seats again, if they are still held.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for what they may not know of, [`Refusal::TooManyRooms`], a token
    /// that is none.
    pub async fn join(
        &mut self,
        app: &App,
        event: EventId,
        since: Option<i64>,
        hold_token: Option<&str>,
        reference: Option<Box<str>>,
    ) -> Result<Entry> {
        if self.joined.len() >= app.config.sockets.rooms_per_socket && !self.is_in(event) {
            return Err(Refusal::TooManyRooms.into());
        }
        let room = match self.enter(app, event) {
            Some(room) => room,
            None => self.ask(app, event).await?,
        };
        let own = self.find(event).and_then(|joined| joined.own.take());
        let at = since.and_then(|version| room.log().since(version));
        let reference = reference.filter(|_| at.is_none());
        self.joined.retain(|joined| joined.room.event() != event);
        self.joined.push(Joined { room, at, reference, own });
        if let Some(token) = hold_token {
            self.resume(app, event, token).await?;
        }
        // Whoever begins afresh finds the seats at the next look, or is rung when they are read.
        self.member().ring();
        Ok(match (at, since) {
            (Some(_), Some(version)) => Entry::Since(version),
            _ => Entry::Afresh,
        })
    }

    /// The room of an event that everybody may know of, if that is known.
    fn enter(&self, app: &App, event: EventId) -> Option<Arc<Room>> {
        app.rooms.find(event).filter(|room| room.is_public())?;
        Some(app.rooms.join(event, self.member()))
    }

    async fn ask(&self, app: &App, event: EventId) -> Result<Arc<Room>> {
        // As long as who asks now may take.
        let patience = Duration::from_millis(app.config.postgres.statement_timeout_ms);
        let _turn = app.rooms.turn(event, patience).await?;
        if let Some(room) = self.enter(app, event) {
            return Ok(room);
        }
        let caller = self.member().caller();
        let (found, _) = events::get::get(app, caller.as_ref(), event, false).await?;
        let room = app.rooms.join(event, self.member());
        if found.rules.status != EventStatus::Draft {
            room.publish();
        }
        Ok(room)
    }

    /// The seats of an event as they are, if they are known.
    pub fn sight(&self, event: EventId) -> Option<Arc<Sight>> {
        let joined = self.joined.iter().find(|joined| joined.room.event() == event)?;
        joined.room.log().sight().map(|(sight, _)| sight)
    }

    /// Leaves a room; false if it was not there. What it holds is kept for the grace.
    pub async fn leave(&mut self, app: &App, event: EventId) -> bool {
        let Some(index) = self.joined.iter().position(|joined| joined.room.event() == event) else {
            return false;
        };
        self.park(app, event).await;
        let left = self.joined.swap_remove(index);
        left.room.remove(self.pass.member());
        true
    }

    /// Ends the visit: what it holds is kept for the grace.
    pub async fn end(&mut self, app: &App) {
        let events: Vec<EventId> = self.joined.iter().map(|joined| joined.room.event()).collect();
        for event in events {
            self.leave(app, event).await;
        }
    }

    /// Everything that there is to tell now.
    pub async fn news(&mut self, app: &App) -> Vec<News> {
        let waiting = self.member().take();
        let mut news = if waiting.changed { self.review(app).await } else { Vec::new() };
        let mut doubtful = Vec::new();
        for joined in &mut self.joined {
            let from = news.len();
            joined.read(&mut news);
            let told = news.get(from..).unwrap_or_default();
            if let Some(doubt) = joined.own.as_ref().and_then(|own| own.doubt(told)) {
                doubtful.push((joined.room.event(), doubt));
            }
        }
        for (event, doubt) in doubtful {
            news.extend(self.verify(app, event, doubt).await);
        }
        news.extend(waiting.news.into_iter().map(News::Told));
        news.extend(waiting.farewell.map(News::Farewell));
        news
    }

    /// Looks again at what its owner may see, and leaves the rest.
    async fn review(&mut self, app: &App) -> Vec<News> {
        let drafts: Vec<EventId> = self
            .joined
            .iter()
            .filter(|joined| !joined.room.is_public())
            .map(|joined| joined.room.event())
            .collect();
        let caller = self.member().caller();
        let mut news = Vec::new();
        for event in drafts {
            match events::get::get(app, caller.as_ref(), event, false).await {
                Ok((found, _)) if found.rules.status != EventStatus::Draft => {
                    if let Some(room) = app.rooms.find(event) {
                        room.publish();
                    }
                }
                Err(Error::Refused(_)) => {
                    self.leave(app, event).await;
                    news.push(News::Barred(event));
                }
                // While PostgreSQL is away nothing changes either.
                Ok(_) | Err(_) => {}
            }
        }
        news
    }
}

impl Joined {
    fn read(&mut self, news: &mut Vec<News>) {
        let event = self.room.event();
        let mut log = self.room.log();
        let Some(at) = self.at else {
            let Some((sight, at)) = log.sight() else { return };
            self.at = Some(at);
            let reference = self.reference.take();
            news.push(News::Seats { event, sight, first: true, reference });
            return;
        };
        let (missed, at) = log.missed(at);
        self.at = Some(at);
        match missed {
            Missed::Nothing => {}
            Missed::Batches(batches) => {
                news.extend(batches.into_iter().map(|batch| News::Change(event, batch)));
            }
            Missed::Afresh(sight) => {
                metrics::counter!("socket_coalescings_total", "into" => "snapshot").increment(1);
                news.push(News::Seats { event, sight, first: false, reference: None });
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        for joined in &self.joined {
            joined.room.remove(self.pass.member());
        }
    }
}
