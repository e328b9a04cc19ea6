//! Rating an event, and taking it back.

use super::{News, alive, known, saying, tell, told};
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::event::EventStatus;
use crate::domain::ids::EventId;
use crate::domain::interest::Rating;
use crate::domain::refusal::Refusal;
use crate::postgres::rating;

/// Makes `stars` (1 to 5) the caller's rating. The same again changes nothing.
///
/// # Errors
/// [`Refusal::NotFound`], also for drafts; [`Refusal::EventNotOpen`] when the event was cancelled.
pub async fn rate(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    id: EventId,
    stars: i32,
) -> Result<Rating> {
    let now = app.clock.now();
    let rated = saying(app, async |tx| {
        alive(tx, caller).await?;
        let status = known(tx, id).await?.rules.status;
        if status == EventStatus::Cancelled {
            return Err(Refusal::EventNotOpen(status.name()).into());
        }
        let before = rating::reserve(tx, id, caller.user_id, now).await?;
        let Some(after) = before.change(Some(stars), now) else { return Ok(before) };
        rating::save(tx, &after).await?;
        tell(app, tx, origin, vec![News::rating(&after)]).await?;
        Ok(after)
    });
    told(app, rated).await
}

/// Takes the caller's rating back, if there is one.
///
/// # Errors
/// [`Refusal::NotFound`], also for drafts.
pub async fn take_back(app: &App, caller: &Caller, origin: &Origin, id: EventId) -> Result<()> {
    let now = app.clock.now();
    let taken_back = saying(app, async |tx| {
        known(tx, id).await?;
        let Some(before) = rating::lock(tx, id, caller.user_id).await? else { return Ok(()) };
        let Some(after) = before.change(None, now) else { return Ok(()) };
        rating::save(tx, &after).await?;
        tell(app, tx, origin, vec![News::rating(&after)]).await
    });
    told(app, taken_back).await
}
