//! An event goes on show.

use super::{event_of, require};
use crate::app::bookings::desk::{Command, Render};
use crate::app::once::{Answer, Submission};
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::event::Event;
use crate::domain::ids::EventId;

/// Publishes a draft; an event that is on show already stays as it is.
///
/// # Errors
/// [`EventNotOpen`](crate::domain::refusal::Refusal::EventNotOpen) when it is cancelled or over;
/// as `require`.
pub async fn publish(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    id: EventId,
    once: Option<(Submission, Render)>,
) -> Result<Answer<Event>> {
    require(app, caller, id).await?;
    let command = Command::Publish { by: caller.user_id };
    event_of(app.desk.submit(id, command, once, origin).await?)
}
