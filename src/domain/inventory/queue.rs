//! The head of an event's waitlist, as far as it was loaded, in order of waiting number.

use std::collections::VecDeque;

use crate::domain::ids::BookingId;

/// A waiting party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub id: BookingId,
    /// How many seats it asks for.
    pub seats: u32,
    /// Its place.
    pub number: i64,
}

/// Waiting parties in order. When `truncated`, more wait behind the last one loaded; parties that
/// join during the batch stand behind those and are not looked at until the next one. Parties
/// that are larger than the event are left out when loading: they cannot be served.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    parties: VecDeque<Waiting>,
    truncated: bool,
    loaded: bool,
    /// Parties in the queue that were not loaded because nothing in the batch can serve them.
    unseen: u32,
}

impl Queue {
    /// A queue whose head was loaded.
    pub fn loaded(parties: impl IntoIterator<Item = Waiting>, truncated: bool) -> Self {
        Self { parties: parties.into_iter().collect(), truncated, loaded: true, unseen: 0 }
    }

    /// A queue of `length` parties that was not looked at, because nothing in the batch can free
    /// a seat or change who is served.
    pub fn unseen(length: u32) -> Self {
        Self { unseen: length, ..Self::default() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (BookingId, u32)> + '_ {
        self.parties.iter().map(|party| (party.id, party.seats))
    }

    pub(super) fn push(&mut self, party: Waiting) {
        if self.loaded && !self.truncated {
            self.parties.push_back(party);
        } else {
            self.unseen = self.unseen.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, id: BookingId) {
        self.parties.retain(|party| party.id != id);
    }

    /// A party asks for fewer seats. One that was too large for the event was not loaded; now it
    /// may stand in the queue again, at its old place.
    pub(super) fn resize(&mut self, party: Waiting) {
        self.remove(party.id);
        let place = self.parties.partition_point(|other| other.number < party.number);
        if !self.truncated || place < self.parties.len() {
            self.parties.insert(place, party);
        }
    }

    /// Whether somebody waits who fits into an event of `capacity` seats.
    pub(super) fn has_eligible(&self, capacity: u32) -> bool {
        self.unseen > 0
            || self.truncated
            || self.parties.iter().any(|party| party.seats <= capacity)
    }

    /// Whether nobody that was loaded can be served, and more wait.
    pub(super) fn is_exhausted_but_truncated(&self, capacity: u32) -> bool {
        self.truncated && self.parties.iter().all(|party| party.seats > capacity)
    }
}
