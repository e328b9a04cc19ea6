//! A booking, or a part of it, is given back.

use super::desk::{Command, Render};
use super::{booking_of, visible};
use crate::app::once::{Answer, Submission};
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::booking::{Booking, Part};
use crate::domain::ids::BookingId;

/// Cancels at the desk, which serves the queue in the same commit. The owner may, the event's
/// organisers may, and admins.
///
/// # Errors
/// [`NotFound`](crate::domain::refusal::Refusal::NotFound) for everybody else; what the inventory
/// refuses.
pub async fn cancel(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    id: BookingId,
    part: Part,
    once: Option<(Submission, Render)>,
) -> Result<Answer<Booking>> {
    let conn = app.db.get().await?;
    let event = visible(&conn, caller, id).await?.event_id;
    drop(conn);
    let command = Command::Cancel { booking: id, part };
    booking_of(app.desk.submit(event, command, once, origin).await?)
}
