//! What one socket holds. The holds are Redis' affair (`app/holds`); here is what the socket has to
//! know to tell its client: which seats, until when, and when they are gone.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::visit::{News, Visit};
use crate::app::holds::{Owner, attend, release, renew, take};
use crate::app::{App, Error, Result};
use crate::domain::account::Scope;
use crate::domain::hold::{Hold, HoldToken};
use crate::domain::ids::{EventId, UserId};
use crate::domain::refusal::Refusal;
use crate::domain::seat_view::Mark;

/// How long after its deadline a hold is looked at, if nobody told of its end.
const OVERDUE: Duration = Duration::from_secs(2);

/// What a socket holds in one event.
#[derive(Debug)]
pub(super) struct Own {
    hold: Hold,
    /// When it ends, by our clock.
    ends: Instant,
    /// The client was told that it ends soon.
    warned: bool,
}

/// Why a socket is not sure of its hold: what it was told meanwhile.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Seats that ended without their owner's doing.
    lost: BTreeSet<u32>,
    /// Seats that became somebody's: with a hold on them, its owner's.
    taken: BTreeSet<u32>,
}

impl Own {
    fn new(hold: Hold) -> Self {
        let left =
            hold.expires_at.as_millisecond().saturating_sub(hold.server_time.as_millisecond());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Self { hold, ends: Instant::now() + left, warned: false }
    }

    /// Whether what was told touches it. It may be older than the hold, so this only raises doubt.
    pub(super) fn doubt(&self, told: &[News]) -> Option<Doubt> {
        let mut doubt = Doubt::default();
        let mut raised = false;
        for news in told {
            match news {
                News::Change(_, batch) => {
                    let change = &batch.change;
                    if let Some(lost) = change.lost.get(self.hold.token.as_str()) {
                        doubt.lost.extend(lost);
                        raised = true;
                    }
                    for seat in &self.hold.seats {
                        match change.marks.get(seat) {
                            Some(Mark::Taken) => {
                                doubt.taken.insert(*seat);
                                raised = true;
                            }
                            Some(Mark::Released | Mark::Freed) => raised = true,
                            Some(Mark::Held) | None => {}
                        }
                    }
                }
                News::Seats { sight, .. } => {
                    let view = &sight.view;
                    let mine = self.hold.seats.iter().copied();
                    doubt.taken.extend(mine.filter(|seat| view.taken.contains(seat)));
                    raised |= self.hold.seats.iter().any(|seat| !view.held.contains(seat));
                }
                _ => {}
            }
        }
        raised.then_some(doubt)
    }
}

impl Visit {
    /// What it holds in an event.
    pub fn own(&self, event: EventId) -> Option<&Hold> {
        let joined = self.joined.iter().find(|joined| joined.room.event() == event)?;
        joined.own.as_ref().map(|own| &own.hold)
    }

    /// Holds exactly these seats: others of its own are let go. Joins the room if it has to.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] for who did not sign in; what [`take::set`] refuses.
    pub async fn hold(
        &mut self,
        app: &App,
        event: EventId,
        seats: &[u32],
        hold_token: Option<&str>,
    ) -> Result<()> {
        let owner = self.owner(app)?;
        if !self.is_in(event) {
            self.join(app, event, None, None, None).await?;
        }
        let own = self.own(event).map(|own| own.token.clone());
        if own.is_none() && hold_token.is_none() && seats.is_empty() {
            return Ok(());
        }
        let token = match (own, hold_token) {
            (Some(own), _) => own,
            (None, Some(given)) => token(given)?,
            (None, None) => token(&app.ids.secret())?,
        };
        let held = take::set(app, &owner, event, &token, seats).await;
        self.keep(event, held)
    }

    /// Holds what it holds for longer.
    ///
    /// # Errors
    /// [`Refusal::HoldExpired`] when it holds nothing; what [`renew::renew`] refuses.
    pub async fn renew(&mut self, app: &App, event: EventId) -> Result<()> {
        let user = self.user()?;
        let own = self.own(event).ok_or(Refusal::HoldExpired)?.token.clone();
        let held = renew::renew(app, event, &own, user).await;
        self.keep(event, held)
    }

    /// Lets go of what it holds; nothing is fine as well.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn release(&mut self, app: &App, event: EventId) -> Result<()> {
        let user = self.user()?;
        let Some(own) = self.own(event).map(|own| own.token.clone()) else { return Ok(()) };
        let released = release::release(app, event, &own, user).await;
        if matches!(released, Ok(()) | Err(Error::Refused(_))) {
            self.forget(event);
        }
        released
    }

    /// Shows a hold (again): its grace ends, and its seats are this socket's.
    pub(super) async fn resume(&mut self, app: &App, event: EventId, given: &str) -> Result<()> {
        let (owner, token) = (self.owner(app)?, token(given)?);
        let held = attend::resume(app, &owner, event, &token).await?;
        self.set(event, held.filter(|hold| !hold.seats.is_empty()).map(Own::new));
        Ok(())
    }

    /// Notes that this socket shows its hold no more: without others the grace begins.
    pub(super) async fn park(&mut self, app: &App, event: EventId) {
        let Some(own) = self.own(event).map(|own| own.token.clone()) else { return };
        let Ok(owner) = self.owner(app) else { return };
        self.forget(event);
        if let Err(error) = attend::park(app, &owner, event, &own).await {
            // The hold ends by itself.
            let error = anyhow::Error::from(error);
            tracing::debug!(%event, error = format!("{error:#}"), "a hold could not be parked");
        }
    }

    /// Asks what is left of a hold, and tells what is not.
    pub(super) async fn verify(&mut self, app: &App, event: EventId, doubt: Doubt) -> Vec<News> {
        let Some(before) = self.own(event).cloned() else { return Vec::new() };
        let Ok(owner) = self.owner(app) else { return Vec::new() };
        let held = match attend::resume(app, &owner, event, &before.token).await {
            Ok(held) => held.filter(|hold| !hold.seats.is_empty()),
            // While Redis is away nobody holds anything.
            Err(_) => None,
        };
        let left = held.as_ref().map(|hold| hold.seats.clone()).unwrap_or_default();
        let gone = |seat: &u32| {
            let booked = doubt.taken.contains(seat) && !doubt.lost.contains(seat);
            !left.contains(seat) && !booked
        };
        let expired: Vec<u32> = before.seats.iter().copied().filter(gone).collect();
        let warned = self.find(event).and_then(|joined| joined.own.as_ref()).is_some_and(|own| {
            own.warned && held.as_ref().is_some_and(|held| held.expires_at == before.expires_at)
        });
        self.set(event, held.map(Own::new));
        if let Some(own) = self.find(event).and_then(|joined| joined.own.as_mut()) {
            own.warned = warned;
        }
        if expired.is_empty() { Vec::new() } else { vec![News::Expired(event, expired)] }
    }

    /// When something has to be told of its holds.
    pub fn due(&self, app: &App) -> Option<Instant> {
        let warn = Duration::from_millis(app.config.sockets.warn_ms);
        let owns = self.joined.iter().filter_map(|joined| joined.own.as_ref());
        owns.map(|own| {
            if own.warned {
                own.ends + OVERDUE
            } else {
                own.ends.checked_sub(warn).unwrap_or(own.ends)
            }
        })
        .min()
    }

    /// What the clock has to tell of its holds.
    pub async fn tick(&mut self, app: &App) -> Vec<News> {
        let (now, mut news, mut overdue) = (Instant::now(), Vec::new(), Vec::new());
        let warn = Duration::from_millis(app.config.sockets.warn_ms);
        for joined in &mut self.joined {
            let event = joined.room.event();
            let Some(own) = joined.own.as_mut() else { continue };
            if own.warned && now >= own.ends + OVERDUE {
                overdue.push(event);
            } else if !own.warned && now + warn >= own.ends {
                own.warned = true;
                news.push(News::Expiring(event, own.hold.clone()));
            }
        }
        for event in overdue {
            news.extend(self.verify(app, event, Doubt::default()).await);
        }
        news
    }

    /// Keeps what was granted. A refusal that ends the hold ends it here as well.
    fn keep(&mut self, event: EventId, answer: Result<Hold>) -> Result<()> {
        match answer {
            Ok(hold) if hold.seats.is_empty() => self.forget(event),
            Ok(hold) => self.set(event, Some(Own::new(hold))),
            Err(Error::Refused(Refusal::HoldExpired)) => {
                self.forget(event);
                return Err(Refusal::HoldExpired.into());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn forget(&mut self, event: EventId) {
        self.set(event, None);
    }

    fn set(&mut self, event: EventId, own: Option<Own>) {
        if let Some(joined) = self.find(event) {
            joined.own = own.map(Box::new);
        }
    }

    fn user(&self) -> Result<UserId> {
        let caller = self.member().caller().ok_or(Refusal::Unauthenticated)?;
        if !caller.covers(Scope::BookingsWrite) {
            return Err(Refusal::Forbidden("the API key lacks the scope").into());
        }
        Ok(caller.user_id)
    }

    fn owner(&mut self, app: &App) -> Result<Owner> {
        let user = self.user()?;
        let session = self.session.get_or_insert_with(|| app.ids.uuid().to_string().into());
        let session = Some(session.to_string());
        Ok(Owner { user, address: Some(self.address.to_string()), session })
    }
}

fn token(given: &str) -> Result<HoldToken> {
    let detail = "is not one of ours";
    let token = HoldToken::parse(given);
    Ok(token.ok_or_else(|| Refusal::invalid("/hold_token", "unknown", detail))?)
}
