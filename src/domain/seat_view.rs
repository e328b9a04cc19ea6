//! What watchers see of an event's seats, and how deltas change it. Every list of a delta says what
//! its seats are from now on, so applying one twice does no harm, and the last word about a seat
//! wins when deltas are drawn together.

use std::collections::{BTreeMap, BTreeSet};

/// What changed between one version and the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The version that it leads to.
    pub version: i64,
    /// Seats that somebody holds now.
    pub held: Vec<u32>,
    /// Seats that nobody holds any more, and nobody has.
    pub released: Vec<u32>,
    /// Seats that are somebody's now.
    pub taken: Vec<u32>,
    /// Seats that were given back.
    pub freed: Vec<u32>,
    /// What a newcomer can book now, if that is known.
    pub available: Option<u32>,
    /// All seats, if that changed.
    pub total: Option<u32>,
    /// Hold tokens that lost seats without their owner's doing, and which.
    pub lost: BTreeMap<String, Vec<u32>>,
    /// Everything may have changed: look again.
    pub full: bool,
}

/// What became of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Somebody holds it.
    Held,
    /// Its hold ended.
    Released,
    /// It is somebody's.
    Taken,
    /// It was given back.
    Freed,
}

/// How a delta fits what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is the next one.
    Next,
    /// It is known already.
    Known,
    /// Something is missing before it, or it says that everything changed.
    Gap,
}

/// An event's seats at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeatView {
    /// Rises by one with every delta.
    pub version: i64,
    /// All seats.
    pub total: u32,
    /// What a newcomer can book now.
    pub available: u32,
    /// Numbered seats that are somebody's.
    pub taken: BTreeSet<u32>,
    /// Numbered seats that somebody holds.
    pub held: BTreeSet<u32>,
}

/// One or more deltas drawn together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The version before it.
    pub since: i64,
    /// The version after it.
    pub version: i64,
    /// What became of which seat.
    pub marks: BTreeMap<u32, Mark>,
    /// What a newcomer can book afterwards.
    pub available: u32,
    /// All seats, if that changed.
    pub total: Option<u32>,
    /// Hold tokens that lost seats, and which.
    pub lost: BTreeMap<String, Vec<u32>>,
}

impl SeatView {
    /// How `delta` fits.
    pub fn fit(&self, delta: &Delta) -> Fit {
        let next = self.version.saturating_add(1);
        if delta.full || delta.version > next {
            Fit::Gap
        } else if delta.version == next {
            Fit::Next
        } else {
            Fit::Known
        }
    }

    /// Applies the next delta, and notes it in `change`, which begins here if it is empty.
    /// Anything but [`Fit::Next`] changes nothing.
    pub fn apply(&mut self, delta: &Delta, change: &mut Option<Change>) -> Fit {
        let fit = self.fit(delta);
        if fit != Fit::Next {
            return fit;
        }
        let change = change.get_or_insert_with(|| Change {
            since: self.version,
            available: self.available,
            ..Change::default()
        });
        for (seats, mark) in [
            (&delta.released, Mark::Released),
            (&delta.freed, Mark::Freed),
            (&delta.held, Mark::Held),
            (&delta.taken, Mark::Taken),
        ] {
            for seat in seats {
                self.mark(*seat, mark);
                change.marks.insert(*seat, mark);
            }
        }
        for (token, seats) in &delta.lost {
            change.lost.entry(token.clone()).or_default().extend(seats);
        }
        self.version = delta.version;
        self.available = delta.available.unwrap_or(self.available);
        self.total = delta.total.unwrap_or(self.total);
        change.version = delta.version;
        change.available = self.available;
        change.total = delta.total.or(change.total);
        Fit::Next
    }

    /// What leads from here to `newer`; `None` if no delta can tell it.
    pub fn difference(&self, newer: &Self) -> Option<Change> {
        if newer.version <= self.version {
            return None;
        }
        let mut marks = BTreeMap::new();
        for seat in newer.taken.difference(&self.taken) {
            marks.insert(*seat, Mark::Taken);
        }
        for seat in newer.held.difference(&self.held) {
            marks.insert(*seat, Mark::Held);
        }
        let free = |seat: &u32| !newer.taken.contains(seat) && !newer.held.contains(seat);
        for seat in self.taken.iter().filter(|seat| free(seat)) {
            marks.insert(*seat, Mark::Freed);
        }
        for seat in self.held.iter().filter(|seat| free(seat)) {
            marks.insert(*seat, Mark::Released);
        }
        Some(Change {
            since: self.version,
            version: newer.version,
            marks,
            available: newer.available,
            total: (newer.total != self.total).then_some(newer.total),
            lost: BTreeMap::new(),
        })
    }

    /// Applies what was drawn together, as a watcher would.
    pub fn follow(&mut self, change: &Change) {
        for (seat, mark) in &change.marks {
            self.mark(*seat, *mark);
        }
        self.version = change.version;
        self.available = change.available;
        self.total = change.total.unwrap_or(self.total);
    }

    fn mark(&mut self, seat: u32, mark: Mark) {
        self.held.remove(&seat);
        self.taken.remove(&seat);
        match mark {
            Mark::Held => self.held.insert(seat),
            Mark::Taken => self.taken.insert(seat),
            Mark::Released | Mark::Freed => false,
        };
    }
}

impl Change {
    /// The seats of one kind, ascending.
    pub fn of(&self, mark: Mark) -> impl Iterator<Item = u32> + '_ {
        self.marks.iter().filter(move |(_, of)| **of == mark).map(|(seat, _)| *seat)
    }

    /// Whether anything about bookings changed, not only about holds.
    pub fn books(&self) -> bool {
        self.total.is_some()
            || self.marks.values().any(|mark| matches!(mark, Mark::Taken | Mark::Freed))
            || self.marks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delta() -> impl Strategy<Value = Delta> {
        let seats = || proptest::collection::vec(1_u32..20, 0..4);
        let total = proptest::option::of(20_u32..40);
        (seats(), seats(), seats(), seats(), proptest::option::of(0_u32..20), total).prop_map(
            |(held, released, taken, freed, available, total)| Delta {
                held,
                released,
                taken,
                freed,
                available,
                total,
                ..Delta::default()
            },
        )
    }

    proptest! {
        /// However a run of deltas is drawn together, who follows sees the same in the end.
        #[test]
        fn drawing_together_loses_nothing(
            deltas in proptest::collection::vec((delta(), any::<bool>()), 1..40)
        ) {
            let mut truth = SeatView { total: 20, available: 20, ..SeatView::default() };
            let mut watcher = truth.clone();
            let mut change = None;
            for (mut delta, publish) in deltas {
                delta.version = truth.version + 1;
                prop_assert_eq!(truth.apply(&delta, &mut change), Fit::Next);
                let before = (truth.clone(), change.clone());
                prop_assert_eq!(truth.apply(&delta, &mut change), Fit::Known);
                prop_assert_eq!(&before, &(truth.clone(), change.clone()));
                if publish && let Some(change) = change.take() {
                    prop_assert_eq!(change.since, watcher.version);
                    watcher.follow(&change);
                    prop_assert_eq!(&watcher, &truth);
                }
            }
            if let Some(change) = change {
                watcher.follow(&change);
            }
            prop_assert_eq!(watcher, truth);
        }

        /// The difference of two views leads from the one to the other.
        #[test]
        fn the_difference_leads_there(
            (a, b) in (
                proptest::collection::vec(delta(), 0..9),
                proptest::collection::vec(delta(), 1..9),
            )
        ) {
            let play = |mut view: SeatView, deltas: Vec<Delta>| {
                for mut delta in deltas {
                    delta.version = view.version + 1;
                    view.apply(&delta, &mut None);
                }
                view
            };
            let start = SeatView { total: 20, ..SeatView::default() };
            let older = play(start.clone(), a);
            let newer = SeatView { version: older.version + 5, ..play(start, b) };
            let mut watcher = older.clone();
            watcher.follow(&older.difference(&newer).unwrap());
            prop_assert_eq!(&watcher, &newer);
            prop_assert_eq!(newer.difference(&older), None);
        }
    }

    #[test]
    fn a_gap_changes_nothing() {
        let mut view = SeatView { version: 7, ..SeatView::default() };
        let before = view.clone();
        let gap = Delta { version: 9, held: vec![1], ..Delta::default() };
        let full = Delta { version: 8, full: true, ..Delta::default() };
        assert_eq!(view.apply(&gap, &mut None), Fit::Gap);
        assert_eq!(view.apply(&full, &mut None), Fit::Gap);
        assert_eq!(view, before);
    }
}
