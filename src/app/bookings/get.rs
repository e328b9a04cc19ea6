//! One booking.

use super::visible;
use crate::app::{App, Result};
use crate::domain::account::Caller;
use crate::domain::booking::Booking;
use crate::domain::ids::BookingId;

/// The booking, to its owner, the event's organisers, and admins.
///
/// # Errors
/// [`NotFound`](crate::domain::refusal::Refusal::NotFound) for everybody else.
pub async fn get(app: &App, caller: &Caller, id: BookingId) -> Result<Booking> {
    let conn = app.db.get().await?;
    visible(&conn, caller, id).await
}
