//! Following an organisation, and following it no more.

use super::{News, alive, saying, tell, told};
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::ids::OrganizationId;
use crate::domain::interest::Follow;
use crate::domain::refusal::Refusal;
use crate::postgres::{follow, organization};

/// Makes it so that the caller follows the organisation. Who does so already goes on.
///
/// # Errors
/// [`Refusal::NotFound`].
pub async fn follow(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    id: OrganizationId,
) -> Result<Follow> {
    let now = app.clock.now();
    let followed = saying(app, async |tx| {
        alive(tx, caller).await?;
        organization::find(tx, id).await?.ok_or(Refusal::NotFound("organization"))?;
        let before = follow::reserve(tx, id, caller.user_id, now).await?;
        let Some(after) = before.change(true, now) else { return Ok(before) };
        follow::save(tx, &after).await?;
        tell(app, tx, origin, vec![News::follow(&after)]).await?;
        Ok(after)
    });
    told(app, followed).await
}

/// Makes it so that the caller does not follow the organisation.
///
/// # Errors
/// [`Refusal::NotFound`].
pub async fn unfollow(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    id: OrganizationId,
) -> Result<()> {
    let now = app.clock.now();
    let unfollowed = saying(app, async |tx| {
        organization::find(tx, id).await?.ok_or(Refusal::NotFound("organization"))?;
        let Some(before) = follow::lock(tx, id, caller.user_id).await? else { return Ok(()) };
        let Some(after) = before.change(false, now) else { return Ok(()) };
        follow::save(tx, &after).await?;
        tell(app, tx, origin, vec![News::follow(&after)]).await
    });
    told(app, unfollowed).await
}
