//! Where a party stands, why it still waits, and what was decided about it.

use crate::app::events;
use crate::app::{App, Result};
use crate::domain::account::Caller;
use crate::domain::booking::{Booking, BookingStatus};
use crate::domain::event::EventStatus;
use crate::domain::ids::BookingId;
use crate::domain::refusal::Refusal;
use crate::domain::waitlist::Standing;
use crate::postgres::booking_views::{self, Entry, Queued};

/// Most lines of the ledger that are told.
const HISTORY_MAX: i64 = 1_000;

/// A party and the queue.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its place; `None`: it does not wait.
    pub standing: Option<Standing>,
    /// Why it waits, or why not, for people.
    pub reason: String,
    /// What was decided about it, oldest first.
    pub history: Vec<Entry>,
}

/// Where the booking stands in the queue.
///
/// # Errors
/// [`Refusal::NotFound`] for everybody but its owner, the event's organisers and admins.
pub async fn waitlist(app: &App, caller: &Caller, id: BookingId) -> Result<Waiting> {
    let conn = app.db.get().await?;
    let queued = booking_views::standing(&conn, id).await?.ok_or(Refusal::NotFound("booking"))?;
    let own = queued.booking.user_id == caller.user_id;
    if !own && !events::runs(&conn, caller, queued.organization_id).await? {
        return Err(Refusal::NotFound("booking").into());
    }
    let history = booking_views::history(&conn, id, HISTORY_MAX).await?;
    let reason = reason(&queued, history.last());
    Ok(Waiting { standing: queued.standing, reason, history })
}

fn reason(queued: &Queued, last: Option<&Entry>) -> String {
    let Queued { booking, standing, capacity, reserved, event_status, .. } = queued;
    match (booking.status, standing) {
        (BookingStatus::Waitlisted, Some(_)) if *event_status != EventStatus::Published => {
            format!("the event is {}: nobody is promoted any more", event_status.name())
        }
        (BookingStatus::Waitlisted, Some(standing)) => {
            standing.reason(booking.seats, *reserved, *capacity)
        }
        (BookingStatus::Cancelled, _) => "the booking is cancelled".to_owned(),
        (_, _) => confirmed(booking, last),
    }
}

fn confirmed(booking: &Booking, last: Option<&Entry>) -> String {
    match (booking.waiting_number, last) {
        (Some(_), Some(entry)) => format!("confirmed after waiting: {}", entry.why),
        (Some(_), None) => "confirmed after waiting".to_owned(),
        (None, _) => "confirmed at once: it never had to wait".to_owned(),
    }
}
