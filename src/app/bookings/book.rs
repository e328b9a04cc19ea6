//! Seats, or a place in the queue.

use super::booking_of;
use super::desk::{Command, Render};
use crate::app::once::{Answer, Submission};
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::booking::{Booking, Party};
use crate::domain::ids::{BookingId, EventId};
use crate::domain::inventory::{Kept, Request};

/// What a party asks for.
#[derive(Debug)]
pub struct Wish {
    /// Of which event.
    pub event: EventId,
    /// Which seats, or how many.
    pub party: Party,
    /// The hold that the party books from.
    pub hold_token: Option<String>,
    /// Whether it would wait.
    pub waitlist: bool,
}

/// Hands the wish to the desk. Nothing is read here: this is the hottest path there is.
///
/// # Errors
/// What the inventory refuses.
pub async fn book(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    wish: Wish,
    once: Option<(Submission, Render)>,
) -> Result<Answer<Booking>> {
    let Wish { event, party, hold_token, waitlist } = wish;
    let id = BookingId(app.ids.uuid());
    let kept = Kept::default();
    let request = Request { id, user_id: caller.user_id, party, waitlist, kept };
    let command = Command::Book { request, hold_token };
    booking_of(app.desk.submit(event, command, once, origin).await?)
}
