//! Saying how much one is interested in an event, and taking it back.

use super::{News, alive, known, saying, tell, told};
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::event::EventStatus;
use crate::domain::ids::EventId;
use crate::domain::interest::{Interest, InterestState, Privacy};
use crate::domain::refusal::Refusal;
use crate::postgres::interest;

/// Makes it so that the caller is interested that much. Saying the same again changes nothing and
/// tells nobody. Without a privacy the one that was chosen before stays.
///
/// # Errors
/// [`Refusal::NotFound`], also for drafts; [`Refusal::EventNotOpen`] when the event is cancelled
/// or over.
pub async fn set(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    id: EventId,
    (state, privacy): (InterestState, Option<Privacy>),
) -> Result<Interest> {
    let now = app.clock.now();
    let set = saying(app, async |tx| {
        alive(tx, caller).await?;
        let status = known(tx, id).await?.rules.status;
        if status != EventStatus::Published {
            return Err(Refusal::EventNotOpen(status.name()).into());
        }
        let before = interest::reserve(tx, id, caller.user_id, now).await?;
        let Some(after) = before.change(Some(state), privacy, now) else { return Ok(before) };
        interest::save(tx, &after).await?;
        tell(app, tx, origin, vec![News::interest(&after, before.state)]).await?;
        Ok(after)
    });
    told(app, set).await
}

/// Makes it so that the caller is not interested. Whoever was not is not.
///
/// # Errors
/// [`Refusal::NotFound`], also for drafts.
pub async fn withdraw(app: &App, caller: &Caller, origin: &Origin, id: EventId) -> Result<()> {
    let now = app.clock.now();
    let withdrawn = saying(app, async |tx| {
        known(tx, id).await?;
        let Some(before) = interest::lock(tx, id, caller.user_id).await? else { return Ok(()) };
        let Some(after) = before.change(None, None, now) else { return Ok(()) };
        interest::save(tx, &after).await?;
        tell(app, tx, origin, vec![News::interest(&after, before.state)]).await
    });
    told(app, withdrawn).await
}
