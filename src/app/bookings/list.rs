//! Lists of bookings: one's own, an event's, and its queue.

use uuid::Uuid;

use crate::app::events;
use crate::app::{App, Page, Result};
use crate::domain::account::Caller;
use crate::domain::booking::{Booking, BookingStatus};
use crate::domain::ids::EventId;
use crate::postgres::booking_views::{self, Named};

/// The caller's bookings, newest first.
pub async fn own(
    app: &App,
    caller: &Caller,
    status: Option<BookingStatus>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Page<Booking>> {
    let conn = app.db.get().await?;
    let limit_and_one = limit.saturating_add(1);
    let found =
        booking_views::of_user(&conn, caller.user_id, status, before, limit_and_one).await?;
    Ok(Page::cut(found, limit, |booking| booking.id.to_string()))
}

/// Leave to read who booked an event, for its organisers and admins.
#[derive(Clone, Copy, Debug)]
pub struct Access(EventId);

/// Checks that the caller may read who booked the event.
///
/// # Errors
/// As of every verb on events that their organisers alone may do.
pub async fn access(app: &App, caller: &Caller, event: EventId) -> Result<Access> {
    events::require(app, caller, event).await?;
    Ok(Access(event))
}

/// The event's bookings, oldest first.
pub async fn of_event(
    app: &App,
    Access(event): Access,
    status: Option<BookingStatus>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Page<Named>> {
    let conn = app.db.get().await?;
    let limit_and_one = limit.saturating_add(1);
    let found = booking_views::of_event(&conn, event, status, after, limit_and_one).await?;
    Ok(Page::cut(found, limit, |(booking, _)| booking.id.to_string()))
}

/// A place in the queue: its number from 1, and who has it.
pub type Place = (u32, Named);

/// The event's queue, first in line first, after the party with the waiting number `after`.
pub async fn queue(
    app: &App,
    Access(event): Access,
    after: Option<i64>,
    limit: i64,
) -> Result<Page<Place>> {
    let conn = app.db.get().await?;
    let limit_and_one = limit.saturating_add(1);
    let before = match after {
        Some(number) => booking_views::waiting_up_to(&conn, event, number).await?,
        None => 0,
    };
    let found = booking_views::waiting(&conn, event, after.unwrap_or(0), limit_and_one).await?;
    let places = (before.saturating_add(1)..).zip(found).collect();
    Ok(Page::cut(places, limit, |(_, (booking, _))| {
        booking.waiting_number.unwrap_or_default().to_string()
    }))
}
