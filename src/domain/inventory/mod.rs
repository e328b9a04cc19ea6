//! The heart: what an event's seats are, and every rule by which they change hands. A batch of
//! commands is folded through one [`Inventory`], loaded under the event's lock; what comes out is
//! the difference to be written.
//!
//! Held always (`Inventory::broken` says which is not):
//! - `available + confirmed + reserved = capacity`, and none is negative;
//! - a numbered seat has one owner, and a confirmed party has as many seats as it booked;
//! - free seats are `available` to newcomers only while nobody who could be served waits; else all
//!   of them are `reserved` for the queue, so a newcomer never jumps it;
//! - nobody is promoted past an earlier party except as the policy says.
//!
//! A command that is refused changes nothing.

mod book;
mod cancel;
mod changes;
mod promote;
mod queue;
mod seats;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use self::book::{Kept, Request};
pub use self::changes::{Changes, QueueChange};
pub use self::queue::{Queue, Waiting};
pub use self::seats::{Pool, SeatBook};
use super::booking::Booking;
use super::event::{EventStatus, SalesRules, Stock};
use super::fact::{Fact, FactKind};
use super::ids::{BookingId, EventId};
use super::refusal::{FieldError, Refusal};

/// An event's seats while a batch of commands is folded.
#[derive(Clone, Debug)]
pub struct Inventory {
    event_id: EventId,
    rules: SalesRules,
    stock: Stock,
    loaded: Stock,
    seats: SeatBook,
    queue: Queue,
    bookings: HashMap<BookingId, Booking>,
    changes: Changes,
    facts: Vec<Fact>,
    touched: bool,
}

impl Inventory {
    /// An inventory as it was loaded: the event's row, what is known of its numbered seats, the
    /// head of its queue, and the bookings that the batch is about.
    pub fn new(
        event_id: EventId,
        rules: SalesRules,
        stock: Stock,
        seats: SeatBook,
        queue: Queue,
        bookings: impl IntoIterator<Item = Booking>,
    ) -> Self {
        Self {
            event_id,
            rules,
            stock,
            loaded: stock,
            seats,
            queue,
            bookings: bookings.into_iter().map(|booking| (booking.id, booking)).collect(),
            changes: Changes::default(),
            facts: Vec::new(),
            touched: false,
        }
    }

    /// The sums as they are now.
    pub fn stock(&self) -> &Stock {
        &self.stock
    }

    /// The version under which it was loaded.
    pub fn loaded_version(&self) -> i64 {
        self.loaded.version
    }

    /// Makes sure that the version rises, though no seat may have changed hands.
    pub fn touch(&mut self) {
        self.touched = true;
    }

    /// The rules as they are now.
    pub fn rules(&self) -> &SalesRules {
        &self.rules
    }

    /// A booking as it is now.
    pub fn booking(&self, id: BookingId) -> Option<&Booking> {
        self.bookings.get(&id)
    }

    /// What the last command made known; asked after each, so that each fact keeps its cause.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// Whether parties may be left that could be promoted, but were not loaded.
    pub fn unfinished(&self) -> bool {
        self.stock.reserved > 0 && self.queue.is_exhausted_but_truncated(self.stock.capacity)
    }

    /// Ends the fold: the new sums, and everything that has to be written.
    pub fn finish(mut self) -> (Stock, Changes) {
        if self.changes.is_empty() && self.stock == self.loaded && !self.touched {
            return (self.stock, self.changes);
        }
        self.stock.version = self.loaded.version.saturating_add(1);
        self.stock.seat_cursor = self.seats.cursor();
        let stock = self.stock;
        self.changes.taken = self.seats.newly_taken().collect();
        self.changes.freed = self.seats.newly_freed().collect();
        self.changes.gather(&mut self.bookings);
        (stock, self.changes)
    }

    /// Changes the number of seats. Growth serves the waitlist.
    ///
    /// # Errors
    /// [`Refusal::CapacityBelowConfirmed`], or [`Refusal::SeatsAboveCapacity`] when sold seats
    /// have numbers above the new capacity.
    pub fn resize(&mut self, capacity: u32) -> Result<(), Refusal> {
        if capacity < self.stock.confirmed {
            return Err(Refusal::CapacityBelowConfirmed { confirmed: self.stock.confirmed });
        }
        let above = self.seats.taken_above(capacity);
        if !above.is_empty() {
            return Err(Refusal::SeatsAboveCapacity(above));
        }
        self.seats.resize(self.stock.capacity, capacity);
        self.stock.capacity = capacity;
        self.promote("the capacity changed");
        Ok(())
    }

    /// Takes the place of the old rules, e.g. another policy; serves the waitlist by the new ones.
    pub fn set_rules(&mut self, rules: SalesRules) {
        self.rules = rules;
        self.promote("the rules changed");
    }

    /// Cancels the event: from now on nobody can book. Its bookings are cancelled by
    /// [`Inventory::close`], chunk by chunk.
    ///
    /// # Errors
    /// [`Refusal::EventNotOpen`] when it is over.
    pub fn cancel_event(&mut self) -> Result<(), Refusal> {
        if self.rules.status == EventStatus::Completed {
            return Err(Refusal::EventNotOpen("completed"));
        }
        self.rules.status = EventStatus::Cancelled;
        self.park();
        Ok(())
    }

    /// What is wrong with it, if anything is: for tests, and for the desk's last look before it
    /// writes.
    pub fn broken(&self) -> Option<&'static str> {
        let Stock { capacity, available, confirmed, reserved, .. } = self.stock;
        let sum = u64::from(available) + u64::from(confirmed) + u64::from(reserved);
        if sum != u64::from(capacity) {
            return Some("available + confirmed + reserved is not the capacity");
        }
        self.seats.broken()
    }

    fn fact(&mut self, kind: FactKind, booking: &Booking, seats: u32, numbers: Vec<u32>) {
        self.facts.push(Fact {
            kind,
            aggregate_id: booking.id.0,
            event_id: Some(self.event_id),
            user_id: Some(booking.user_id),
            seats: Some(seats),
            seat_numbers: numbers,
            booking_id: Some(booking.id),
            invitation: None,
            alert: None,
            alarms: Vec::new(),
        });
    }

    /// Divides the free seats anew: the queue's if somebody who could be served waits.
    fn park(&mut self) {
        let free = self.stock.capacity.saturating_sub(self.stock.confirmed);
        let waiting = self.queue.has_eligible(self.stock.capacity);
        let (available, reserved) = if waiting { (0, free) } else { (free, 0) };
        self.stock.available = available;
        self.stock.reserved = reserved;
    }
}

fn out_of_range(pointer: &str, max: u32) -> FieldError {
    FieldError::new(pointer, "out_of_range", format!("must be 1 to {max}"))
}
