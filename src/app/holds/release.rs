//! A hold is let go.

use super::{HoldToken, away};
use crate::app::{App, Result};
use crate::domain::ids::{EventId, UserId};
use crate::domain::refusal::Refusal;
use crate::redis::holds;

/// Lets go what the token holds; nothing held is fine as well.
///
/// # Errors
/// [`Refusal::HoldExpired`] when it is another person's; when Redis is away.
pub async fn release(app: &App, event: EventId, token: &HoldToken, user: UserId) -> Result<()> {
    if holds::release(&app.redis.link, event, token, user).await.map_err(away)? {
        app.wakes.hold_sweeper.ring();
        Ok(())
    } else {
        Err(Refusal::HoldExpired.into())
    }
}
