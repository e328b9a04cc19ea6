//! Sessions come and go; holds follow the token. While no session shows a hold, it is kept for a
//! short grace only; whoever comes back in time finds it as it was.

use super::{Hold, HoldToken, Owner, away, terms};
use crate::app::{App, Result};
use crate::domain::ids::EventId;
use crate::redis::holds::{self, Answer};

/// The owner's session shows the hold (again): what it holds, if it still holds anything.
///
/// # Errors
/// When Redis is away.
pub async fn resume(
    app: &App,
    owner: &Owner,
    event: EventId,
    token: &HoldToken,
) -> Result<Option<Hold>> {
    attend(app, owner, event, token, None).await
}

/// The owner's session is gone. After the last one the seats are kept for the grace; a session that
/// was never noted changes nothing.
///
/// # Errors
/// When Redis is away.
pub async fn park(app: &App, owner: &Owner, event: EventId, token: &HoldToken) -> Result<()> {
    attend(app, owner, event, token, Some(app.config.holds.grace_ms)).await.map(drop)
}

async fn attend(
    app: &App,
    owner: &Owner,
    event: EventId,
    token: &HoldToken,
    grace_ms: Option<u64>,
) -> Result<Option<Hold>> {
    let link = &app.redis.link;
    let said = holds::attend(link, event, token, owner, grace_ms, terms(app)).await;
    match said.map_err(away)? {
        Answer::Held(hold) => Ok(Some(hold)),
        _ => Ok(None),
    }
}
