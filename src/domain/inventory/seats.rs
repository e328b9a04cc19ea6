//! What is known of an event's numbered seats while a batch is folded.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::booking::Party;
use crate::domain::ids::BookingId;
use crate::domain::refusal::Refusal;

/// The lowest free seats of an event, as far as a batch may need them.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// Free seats, lowest first, without a gap in the knowledge: any other seat up to the last of
    /// them is taken.
    pub free: Vec<u32>,
    /// How many were asked for; fewer came if there are no more.
    pub wanted: u32,
}

/// The seats that the batch is about: who has those it asks for, and the lowest free ones, which
/// are given to parties that do not choose. Empty with general seating.
#[derive(Clone, Debug, Default)]
pub struct SeatBook {
    taken: BTreeMap<u32, Option<BookingId>>,
    free: BTreeSet<u32>,
    /// Every seat up to here that is not in `free` is taken.
    known_to: u32,
    wanted: u32,
    capacity: u32,
    /// Held by somebody: for nobody who did not choose them.
    held: BTreeSet<u32>,
    newly_taken: BTreeMap<u32, BookingId>,
    newly_freed: BTreeSet<u32>,
}

impl SeatBook {
    /// Seats as they were loaded: `taken` of those asked for, and the lowest free ones above
    /// `cursor` if the batch gives some out.
    pub fn new(
        taken: impl IntoIterator<Item = u32>,
        pool: Option<Pool>,
        cursor: u32,
        capacity: u32,
    ) -> Self {
        let mut book = Self {
            taken: taken.into_iter().map(|number| (number, None)).collect(),
            known_to: cursor,
            capacity,
            ..Self::default()
        };
        if let Some(pool) = pool {
            let all = pool.free.len() < usize::try_from(pool.wanted).unwrap_or(usize::MAX);
            let last = pool.free.last().copied().unwrap_or(cursor);
            book.known_to = if all { capacity } else { last };
            book.wanted = pool.wanted;
            book.free = pool.free.into_iter().collect();
        }
        book
    }

    /// The same while seats are held: parties that do not choose get others.
    #[must_use]
    pub fn avoiding(mut self, held: BTreeSet<u32>) -> Self {
        self.held = held;
        self
    }

    /// Which of `numbers` are somebody's.
    pub(super) fn taken_of(&self, numbers: &[u32]) -> Vec<u32> {
        numbers.iter().copied().filter(|number| self.taken.contains_key(number)).collect()
    }

    /// Which seats above `capacity` are somebody's (loaded for a batch that shrinks the event).
    pub(super) fn taken_above(&self, capacity: u32) -> Vec<u32> {
        self.taken.keys().copied().filter(|number| *number > capacity).collect()
    }

    /// Gives seats to a booking: those it asks for; or, if it does not choose, those that the gate
    /// kept for it (`wish`), else the lowest free ones that nobody holds.
    pub(super) fn take(
        &mut self,
        party: &Party,
        wish: &[u32],
        owner: BookingId,
    ) -> Result<Vec<u32>, Refusal> {
        let numbers: Vec<u32> = match party {
            Party::Numbered(numbers) => {
                let taken = self.taken_of(numbers);
                if !taken.is_empty() {
                    return Err(Refusal::SeatsUnavailable(taken));
                }
                numbers.clone()
            }
            Party::Seats(seats) => {
                let count = usize::try_from(*seats).unwrap_or(usize::MAX);
                let kept = wish.len() == count
                    && self.taken_of(wish).is_empty()
                    && wish.iter().all(|seat| (1..=self.capacity).contains(seat));
                let lowest: Vec<u32> = if kept {
                    wish.to_vec()
                } else {
                    self.free.difference(&self.held).copied().take(count).collect()
                };
                if lowest.len() < count {
                    return Err(Refusal::SoldOut);
                }
                lowest
            }
        };
        for number in &numbers {
            self.free.remove(number);
            self.taken.insert(*number, Some(owner));
            self.newly_taken.insert(*number, owner);
        }
        Ok(numbers)
    }

    /// Takes seats back from a booking.
    pub(super) fn free(&mut self, numbers: &[u32], owner: BookingId) {
        for number in numbers {
            self.taken.remove(number);
            if *number <= self.capacity {
                self.free.insert(*number);
            }
            if self.newly_taken.get(number) == Some(&owner) {
                self.newly_taken.remove(number);
            } else {
                self.newly_freed.insert(*number);
            }
        }
    }

    /// Follows a change of capacity: new seats are free, lost ones are not seats any more.
    pub(super) fn resize(&mut self, old: u32, new: u32) {
        self.capacity = new;
        self.free.retain(|number| *number <= new);
        if new > old && self.known_to == old {
            // As many as the batch may need; the rest is found from the cursor next time.
            self.known_to = new.min(old.saturating_add(self.wanted));
            self.free.extend(old.saturating_add(1)..=self.known_to);
        }
        self.known_to = self.known_to.min(new);
    }

    /// How many seats can be given to parties that do not choose, without looking for more.
    pub(super) fn free_known(&self) -> u32 {
        u32::try_from(self.free.difference(&self.held).count()).unwrap_or(u32::MAX)
    }

    /// The highest number up to which every seat is known to be taken.
    pub(super) fn cursor(&self) -> u32 {
        let before_free = self.free.first().map_or(u32::MAX, |first| first.saturating_sub(1));
        before_free.min(self.known_to)
    }

    pub(super) fn newly_taken(&self) -> impl Iterator<Item = (u32, BookingId)> + '_ {
        self.newly_taken.iter().map(|(number, owner)| (*number, *owner))
    }

    pub(super) fn newly_freed(&self) -> impl Iterator<Item = u32> + '_ {
        self.newly_freed.iter().copied()
    }

    pub(super) fn broken(&self) -> Option<&'static str> {
        if self.free.iter().any(|number| self.taken.contains_key(number)) {
            return Some("a seat is both free and taken");
        }
        None
    }
}
