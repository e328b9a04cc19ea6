//! A change of an event.

use super::{event_of, require};
use crate::app::bookings::desk::Command;
use crate::app::once::Answer;
use crate::app::{App, Error, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::event::Event;
use crate::domain::event_patch::EventPatch;
use crate::domain::ids::EventId;

/// Changes an event at the desk, where growth serves the waitlist at once.
///
/// # Errors
/// [`VersionMismatch`](crate::domain::refusal::Refusal::VersionMismatch) unless `if_version` is
/// the current one; what [`EventPatch::apply`] and the inventory refuse; as `require`.
pub async fn change(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    id: EventId,
    patch: EventPatch,
    if_version: Option<i64>,
) -> Result<Event> {
    require(app, caller, id).await?;
    let command = Command::Change { patch: Box::new(patch), if_version, by: caller.user_id };
    match event_of(app.desk.submit(id, command, None, origin).await?)? {
        Answer::Fresh(event) => Ok(event),
        Answer::Replayed(_) => Err(Error::Fault(anyhow::anyhow!("a replay without a key"))),
    }
}
