//! What a fold changed, ready to be written in one go.

use std::collections::{HashMap, HashSet};

use crate::domain::booking::Booking;
use crate::domain::ids::{BookingId, UserId};
use crate::domain::waitlist::LedgerEntry;

/// How the queue changed, for its view in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueChange {
    /// Somebody stands at its end.
    Joined(UserId),
    /// Somebody was promoted or left: the first entry of that person goes.
    Left(UserId),
}

/// The differences between the loaded inventory and the folded one.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// New bookings, as they ended up.
    pub made: Vec<Booking>,
    /// Bookings that were there before and are different now.
    pub changed: Vec<Booking>,
    /// Seats that were somebody's and are not any more. Written first.
    pub freed: Vec<u32>,
    /// Seats that are somebody's now.
    pub taken: Vec<(u32, BookingId)>,
    /// Why the queue is as it is.
    pub ledger: Vec<LedgerEntry>,
    /// How the queue changed, in order.
    pub queue: Vec<QueueChange>,
    made_ids: Vec<BookingId>,
    changed_ids: HashSet<BookingId>,
}

impl Changes {
    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.made_ids.is_empty() && self.changed_ids.is_empty() && self.ledger.is_empty()
    }

    pub(super) fn made(&mut self, booking: &Booking) {
        self.made_ids.push(booking.id);
    }

    pub(super) fn changed(&mut self, id: BookingId) {
        self.changed_ids.insert(id);
    }

    /// Collects the final form of every booking that was touched.
    pub(super) fn gather(&mut self, bookings: &mut HashMap<BookingId, Booking>) {
        for id in std::mem::take(&mut self.made_ids) {
            self.changed_ids.remove(&id);
            self.made.extend(bookings.remove(&id));
        }
        let mut changed: Vec<BookingId> = self.changed_ids.drain().collect();
        changed.sort_unstable();
        self.changed = changed.iter().filter_map(|id| bookings.remove(id)).collect();
    }
}
