//! Bookings: everything that changes an event's inventory, and what reads it.

pub mod book;
pub mod cancel;
pub mod desk;
pub mod gate;
pub mod get;
pub mod list;
pub mod settle;
pub mod show;
pub mod sweep;
pub mod waitlist;

use self::desk::Outcome;
use crate::app::events;
use crate::app::once::Answer;
use crate::app::{Error, Result};
use crate::domain::account::Caller;
use crate::domain::booking::Booking;
use crate::domain::ids::BookingId;
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, booking_views};

/// The booking, if it is the caller's or of an event that they run.
///
/// # Errors
/// [`Refusal::NotFound`]: strangers may not know of it.
async fn visible(conn: &Conn, caller: &Caller, id: BookingId) -> Result<Booking> {
    let found = booking_views::find(conn, id).await?;
    let (booking, organization) = found.ok_or(Refusal::NotFound("booking"))?;
    if booking.user_id == caller.user_id || events::runs(conn, caller, organization).await? {
        Ok(booking)
    } else {
        Err(Refusal::NotFound("booking").into())
    }
}

/// What the desk answered to a command about a booking.
fn booking_of(answer: Answer<Outcome>) -> Result<Answer<Booking>> {
    match answer {
        Answer::Fresh(Outcome::Booking(booking)) => Ok(Answer::Fresh(booking)),
        Answer::Replayed(reply) => Ok(Answer::Replayed(reply)),
        Answer::Fresh(other) => {
            Err(Error::Fault(anyhow::anyhow!("the desk answered {other:?} about a booking")))
        }
    }
}
