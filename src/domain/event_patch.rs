//! A change of an event: which fields, and whether the event is still one afterwards.

use jiff::Timestamp;

use super::event::{Event, WaitlistPolicy};
use super::refusal::Refusal;

/// The fields to change; `None` leaves one as it is, `Some(None)` empties one that may be empty.
/// Each value was checked by itself; [`EventPatch::apply`] checks them together.
#[derive(Clone, Debug, Default)]
pub struct EventPatch {
    /// What it is called.
    pub title: Option<String>,
    /// What it is about.
    pub description: Option<Option<String>>,
    /// For filters.
    pub category: Option<Option<String>>,
    /// Where.
    pub venue: Option<Option<String>>,
    /// When it starts.
    pub starts_at: Option<Timestamp>,
    /// When it ends.
    pub ends_at: Option<Option<Timestamp>>,
    /// When sales open.
    pub sales_open_at: Option<Option<Timestamp>>,
    /// When sales close.
    pub sales_close_at: Option<Option<Timestamp>>,
    /// How many seats.
    pub capacity: Option<u32>,
    /// Most seats in one booking.
    pub max_seats_per_booking: Option<u32>,
    /// Who is promoted first.
    pub policy: Option<WaitlistPolicy>,
}

impl EventPatch {
    /// The event with the changes of description and rules; its stock is the inventory's affair.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when dates contradict each other; [`Refusal::EventNotOpen`] when the
    /// event is cancelled or over.
    pub fn apply(&self, event: &Event) -> Result<Event, Refusal> {
        let _ = event;
        Err(Refusal::NotFound("event"))
    }
}
