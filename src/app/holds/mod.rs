//! Holds: numbered seats that are kept for somebody while they decide.
//!
//! They live in Redis alone: while it is away nothing is held, and an outage voids what was (an
//! older epoch is never believed). PostgreSQL decides who has a seat, whatever was held.

pub mod attend;
mod house;
pub mod release;
pub mod renew;
pub mod sweep;
pub mod take;

pub use self::house::{Houses, find};
use crate::app::integrity::{epoch, rebuild};
use crate::app::{App, Error, Result};
pub use crate::domain::hold::{Hold, HoldToken};
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::redis::Away;
pub use crate::redis::holds::Owner;
use crate::redis::holds::{Answer, Terms};

fn terms(app: &App) -> Terms {
    let holds = &app.config.holds;
    Terms { ttl_ms: holds.ttl_ms, age_max_ms: holds.age_max_ms, renewals_max: holds.renewals_max }
}

/// What was said, as a verb says it.
fn outcome(answer: Answer) -> Result<Hold> {
    Err(match answer {
        Answer::Held(hold) => return Ok(hold),
        Answer::Conflict(seats) => Refusal::SeatsUnavailable(seats).into(),
        Answer::SoldOut => Refusal::SoldOut.into(),
        Answer::Limit(limit) => Refusal::HoldLimit(limit).into(),
        Answer::Gone => Refusal::HoldExpired.into(),
        Answer::Exhausted => Refusal::RenewalsExhausted.into(),
        Answer::Closed => Refusal::EventNotOpen("cancelled").into(),
        Answer::Cold => Error::unavailable("redis"),
    })
}

fn away(away: Away) -> Error {
    Error::Unavailable {
        part: "redis",
        retry_after: std::time::Duration::from_secs(1),
        cause: Some(away.0),
    }
}

/// Shows an event that Redis does not know (any more), so that its seats can be held.
async fn warm(app: &App, event: EventId) -> Result<()> {
    epoch::ensure(&app.db, &app.redis).await?;
    rebuild::event(&app.db, &app.redis, event).await?;
    Ok(())
}
