//! An event will not take place.

use super::{event_of, require};
use crate::app::bookings::desk::{Command, Render};
use crate::app::once::{Answer, Submission};
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::event::Event;
use crate::domain::ids::EventId;

/// Closes sales now; the cascade cancels the bookings and tells everybody. An event that is
/// cancelled already stays as it is.
///
/// # Errors
/// [`EventNotOpen`](crate::domain::refusal::Refusal::EventNotOpen) when it is over; as
/// `require`.
pub async fn cancel(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    id: EventId,
    reason: Option<String>,
    once: Option<(Submission, Render)>,
) -> Result<Answer<Event>> {
    require(app, caller, id).await?;
    let command = Command::CancelEvent { reason, by: caller.user_id };
    event_of(app.desk.submit(id, command, once, origin).await?)
}
