//! Seats are held: all that are wanted, or none.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::house::{self, House, house};
use super::{Hold, HoldToken, Owner, away, outcome, terms, warm};
use crate::app::events::seats;
use crate::app::once::{Answer, Reply, Submission};
use crate::app::{App, Error, Result};
use crate::domain::best_available::{self, Free};
use crate::domain::hold::{self, HoldQuotas};
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::postgres::idempotency::{self, Found};
use crate::redis::holds::{self, Answer as Said, Wish};

/// Which seats are wanted.
#[derive(Clone, Debug)]
pub enum Choice {
    /// These: distinct.
    Seats(Vec<u32>),
    /// The best that are free (`domain/best_available.rs`).
    Best {
        /// How many.
        count: u32,
        /// Of which category of the seat map; any without it.
        category: Option<String>,
    },
}

/// How often other seats are looked for when somebody was faster.
const TRIES: u32 = 5;

/// How the door will answer; kept under the idempotency key.
pub type Render = fn(&std::result::Result<Hold, Refusal>) -> Reply;

/// Holds seats under a new token. With a key, at most once: the token follows from the
/// submission, so that a twin finds what the first one took; the first answer is remembered.
///
/// # Errors
/// [`Refusal::SeatsUnavailable`] names those that somebody else has; what the event's rules and
/// the quotas refuse; when Redis is away.
pub async fn first(
    app: &App,
    owner: &Owner,
    event: EventId,
    choice: &Choice,
    once: Option<(Submission, Render)>,
) -> Result<Answer<Hold>> {
    let Some((submission, render)) = once else {
        let token = HoldToken::parse(&app.ids.secret());
        let token = token.ok_or_else(|| anyhow::anyhow!("a secret is no token"))?;
        return choose(app, owner, event, &token, choice).await.map(Answer::Fresh);
    };
    let conn = app.db.get().await?;
    let found = idempotency::start(&conn, &submission).await?;
    drop(conn);
    if let Some(answer) = known(found) {
        return answer;
    }
    let token = token_of(app, &submission)?;
    let outcome = match choose(app, owner, event, &token, choice).await {
        Ok(hold) => Ok(hold),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(error) => return Err(error),
    };
    let tx = app.db.begin().await?;
    if let Some(answer) = known(idempotency::start(&tx, &submission).await?) {
        tx.rollback().await?;
        return answer;
    }
    idempotency::save(&tx, &submission, &render(&outcome), app.clock.now()).await?;
    tx.commit().await?;
    Ok(Answer::Fresh(outcome?))
}

/// Holds exactly these seats under a token: others that it holds are let go; none ends it. Nothing
/// changes unless all can be had.
///
/// # Errors
/// As [`first`]; [`Refusal::HoldExpired`] when the token is another person's.
pub async fn set(
    app: &App,
    owner: &Owner,
    event: EventId,
    token: &HoldToken,
    seats: &[u32],
) -> Result<Hold> {
    let hold = hold(app, owner, event, token, seats, true).await;
    // Others that it held may be what somebody waits for.
    app.wakes.hold_sweeper.ring();
    hold
}

async fn choose(
    app: &App,
    owner: &Owner,
    event: EventId,
    token: &HoldToken,
    choice: &Choice,
) -> Result<Hold> {
    let (count, category) = match choice {
        Choice::Seats(seats) => return hold(app, owner, event, token, seats, false).await,
        Choice::Best { count, category } => (*count, category.as_deref()),
    };
    let mut tries = 0;
    loop {
        let seats = best(app, event, count, category).await?;
        tries += 1;
        match hold(app, owner, event, token, &seats, false).await {
            Err(Error::Refused(Refusal::SeatsUnavailable(_))) if tries < TRIES => {}
            held => return held,
        }
    }
}

/// The best seats that are free now.
///
/// # Errors
/// [`Refusal::SoldOut`] when there are fewer; [`Refusal::Invalid`] for too many, or a category that
/// the seat map does not have; what the event's rules refuse.
pub async fn best(
    app: &App,
    event: EventId,
    count: u32,
    category: Option<&str>,
) -> Result<Vec<u32>> {
    let fits = |house: &House, now| {
        hold::check_event(&house.rules, now)?;
        let limit = house.rules.max_seats_per_booking.min(house.capacity);
        if (1..=limit).contains(&count) {
            return Ok(());
        }
        let detail = format!("must be 1 to {limit}");
        Err(Refusal::invalid("/best_available/count", "out_of_range", detail))
    };
    let house = open(app, event, fits).await?;
    let plan = house.plan(app, event).await?;
    if let Some(category) = category
        && !plan.is_some_and(|plan| plan.has_category(category))
    {
        let detail = "the event's seat map has no such category";
        let pointer = "/best_available/category";
        return Err(Refusal::invalid(pointer, "unknown_category", detail).into());
    }
    let now = seats::look(app, event).await?;
    if now.available < count {
        return Err(Refusal::SoldOut.into());
    }
    let free = Free::new(now.total, now.taken.iter().chain(&now.held));
    let found = match plan {
        Some(plan) => plan.best(count, category, &free),
        None => best_available::unmapped(now.total, count, &free),
    };
    Ok(found.ok_or(Refusal::SoldOut)?)
}

async fn hold(
    app: &App,
    owner: &Owner,
    event: EventId,
    token: &HoldToken,
    seats: &[u32],
    exactly: bool,
) -> Result<Hold> {
    let house =
        open(app, event, |house, now| hold::check(&house.rules, house.capacity, now, seats))
            .await?;
    let wish = Wish { token, owner, seats, exactly };
    outcome(say(app, event, &wish, &house).await?)
}

/// The event, if it passes `check`; whoever would be refused for what was known a second ago is
/// judged by what is known now.
async fn open(
    app: &App,
    event: EventId,
    check: impl Fn(&House, Timestamp) -> std::result::Result<(), Refusal>,
) -> Result<Arc<House>> {
    let now = app.clock.now();
    let known = house(app, event).await?;
    if check(&known, now).is_ok() {
        return Ok(known);
    }
    let read = house::read(app, event).await?;
    check(&read, now)?;
    Ok(read)
}

/// Asks Redis; once more if it had to be told of the event first.
async fn say(app: &App, event: EventId, wish: &Wish<'_>, house: &House) -> Result<Said> {
    let config = &app.config.holds;
    let quotas = HoldQuotas::new(
        house.rules.max_seats_per_booking,
        config.per_address_max,
        house.capacity,
        config.per_event_percent,
    );
    let said = holds::take(&app.redis.link, event, wish, terms(app), quotas).await;
    let said = said.map_err(away)?;
    if said != Said::Cold {
        return Ok(said);
    }
    warm(app, event).await?;
    holds::take(&app.redis.link, event, wish, terms(app), quotas).await.map_err(away)
}

fn known(found: Found) -> Option<Result<Answer<Hold>>> {
    match found {
        Found::Nothing => None,
        Found::Replay(reply) => Some(Ok(Answer::Replayed(reply))),
        Found::Mismatch => Some(Err(Refusal::IdempotencyMismatch.into())),
        Found::InFlight => Some(Err(Refusal::RequestInFlight.into())),
    }
}

/// The token that follows from a submission: a secret, because nobody else knows ours.
fn token_of(app: &App, submission: &Submission) -> Result<HoldToken> {
    let mut hash = Sha256::new();
    hash.update(app.config.auth.signing_secret.expose_secret());
    for part in [submission.principal.as_bytes(), submission.route.as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(submission.key.as_bytes());
    hash.update([0]);
    hash.update(submission.fingerprint);
    let token = HoldToken::parse(&URL_SAFE_NO_PAD.encode(hash.finalize()));
    token.ok_or_else(|| Error::Fault(anyhow::anyhow!("a digest is no token")))
}
