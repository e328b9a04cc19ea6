//! A hold gets more time.

use super::{Hold, HoldToken, away, outcome, terms};
use crate::app::{App, Error, Result};
use crate::domain::ids::{EventId, UserId};
use crate::domain::refusal::Refusal;
use crate::redis::holds::{self, Answer};

/// Renews what the token holds.
///
/// # Errors
/// [`Refusal::HoldExpired`] when it holds nothing or is another person's;
/// [`Refusal::RenewalsExhausted`]; when Redis is away.
pub async fn renew(app: &App, event: EventId, token: &HoldToken, user: UserId) -> Result<Hold> {
    let link = &app.redis.link;
    match holds::renew(link, event, token, user, terms(app)).await.map_err(away)? {
        // Another incarnation of Redis: what was held in the last one is void.
        Answer::Cold => Err(Error::Refused(Refusal::HoldExpired)),
        answer => outcome(answer),
    }
}
