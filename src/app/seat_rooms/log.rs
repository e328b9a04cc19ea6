//! A room's state: the seats as its watchers see them, and the last batches of changes, from which
//! whoever was away catches up. Pure; the hub feeds it, sockets read it at their own pace.
//!
//! A socket is a position in the log and has no queue of its own: one that is slow costs nothing
//! but its place, and finds the latest seats when it comes back.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::domain::seat_view::{Change, Delta, Fit, SeatView};

/// Batches that are kept.
const BATCHES_MAX: usize = 256;
/// Seats in all batches that are kept.
const MARKS_MAX: usize = 32_768;
/// A socket that is further behind gets the seats afresh.
const BEHIND_MAX: u64 = 16;

/// Changes that became known to the watchers together.
#[derive(Debug, Default)]
pub struct Batch {
    /// What changed.
    pub change: Change,
    /// The frame of plain WebSockets that tells it.
    pub frame: OnceLock<Bytes>,
}

/// The seats at one moment.
#[derive(Debug, Default)]
pub struct Sight {
    /// The seats.
    pub view: SeatView,
    /// How the faces tell them.
    pub written: Written,
}

/// What has been written once, for all who watch.
#[derive(Debug, Default)]
pub struct Written {
    /// The frame of plain WebSockets, without what is one's own.
    pub frame: OnceLock<Bytes>,
    /// What Socket.IO answers to a `join`, without what is one's own.
    pub joined: OnceLock<String>,
    /// What Socket.IO tells of holds.
    pub held: OnceLock<Box<RawValue>>,
}

/// What a socket has missed.
#[derive(Debug)]
pub enum Missed {
    /// Nothing.
    Nothing,
    /// These, in order.
    Batches(Vec<Arc<Batch>>),
    /// So much, or something that no delta can tell, that it has to begin afresh.
    Afresh(Arc<Sight>),
}

/// How many batches a socket has seen.
pub type Position = u64;

/// A room's state.
#[derive(Debug, Default)]
pub struct Log {
    view: Option<SeatView>,
    /// The batches that were ever published.
    head: Position,
    /// The last of them.
    batches: VecDeque<Arc<Batch>>,
    marks: usize,
    /// What has changed since the last of them, and out of how many deltas.
    pending: Option<Change>,
    drawn: u64,
    sight: Option<Arc<Sight>>,
    /// The head that the sockets were told of.
    told: Position,
}

impl Log {
    /// The version of the seats; `None` until they were loaded.
    pub fn version(&self) -> Option<i64> {
        self.view.as_ref().map(|view| view.version)
    }

    /// Applies a delta; `None` while the seats are not loaded.
    pub fn apply(&mut self, delta: &Delta) -> Option<Fit> {
        let fit = self.view.as_mut()?.apply(delta, &mut self.pending);
        if fit == Fit::Next {
            self.drawn = self.drawn.saturating_add(1);
        }
        Some(fit)
    }

    /// Puts freshly read seats in place of what was known.
    pub fn reload(&mut self, fresh: SeatView) {
        self.publish();
        match self.view.as_ref() {
            Some(known) if *known == fresh => return,
            Some(known) => match known.difference(&fresh) {
                Some(change) => self.push(change),
                // The counting began anew: nothing leads from there to here.
                None => self.restart(),
            },
            None => self.restart(),
        }
        self.view = Some(fresh);
        self.sight = None;
    }

    /// Makes what is pending known; tells how many deltas were drawn together.
    pub fn publish(&mut self) -> u64 {
        let Some(change) = self.pending.take() else { return 0 };
        self.push(change);
        std::mem::take(&mut self.drawn)
    }

    /// Whether there is something that the sockets were not told of.
    pub fn has_news(&self) -> bool {
        self.pending.is_some() || self.told != self.head
    }

    /// Notes that the sockets were told.
    pub fn mark_told(&mut self) {
        self.told = self.head;
    }

    /// The seats as they were last published, and where that is; `None` until they were loaded.
    pub fn sight(&mut self) -> Option<(Arc<Sight>, Position)> {
        self.publish();
        let view = self.view.as_ref()?;
        let sight = self.sight.get_or_insert_with(|| {
            Arc::new(Sight { view: view.clone(), written: Written::default() })
        });
        Some((Arc::clone(sight), self.head))
    }

    /// Where somebody stands who saw the seats at `version`, if what came after is still known.
    pub fn since(&mut self, version: i64) -> Option<Position> {
        self.publish();
        let mut at = self.oldest();
        for batch in &self.batches {
            if batch.change.version > version {
                return (batch.change.since <= version).then_some(at);
            }
            at = at.saturating_add(1);
        }
        (self.version()? == version).then_some(self.head)
    }

    /// What somebody at `position` has missed, and where they stand afterwards.
    pub fn missed(&mut self, position: Position) -> (Missed, Position) {
        if self.view.is_none() || position >= self.head {
            return (Missed::Nothing, position);
        }
        let behind = self.head.saturating_sub(position);
        if position < self.oldest() || behind > BEHIND_MAX {
            return match self.sight() {
                Some((sight, at)) => (Missed::Afresh(sight), at),
                None => (Missed::Nothing, position),
            };
        }
        let skip = self.batches.len().saturating_sub(usize::try_from(behind).unwrap_or(0));
        (Missed::Batches(self.batches.iter().skip(skip).cloned().collect()), self.head)
    }

    fn oldest(&self) -> Position {
        self.head.saturating_sub(u64::try_from(self.batches.len()).unwrap_or(0))
    }

    fn push(&mut self, change: Change) {
        self.marks = self.marks.saturating_add(change.marks.len());
        self.batches.push_back(Arc::new(Batch { change, frame: OnceLock::new() }));
        self.head = self.head.saturating_add(1);
        self.sight = None;
        while self.batches.len() > BATCHES_MAX || self.marks > MARKS_MAX {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.marks = self.marks.saturating_sub(oldest.change.marks.len());
        }
    }

    fn restart(&mut self) {
        self.batches.clear();
        self.marks = 0;
        self.head = self.head.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view(version: i64) -> SeatView {
        SeatView { version, total: 50, available: 50, ..SeatView::default() }
    }

    fn held(version: i64, seat: u32) -> Delta {
        Delta { version, held: vec![seat], ..Delta::default() }
    }

    fn loaded(version: i64) -> Log {
        let mut log = Log::default();
        log.reload(view(version));
        log
    }

    /// What happens in a room.
    #[derive(Clone, Debug)]
    enum Act {
        Change(Delta),
        Publish,
        Look(usize),
        Sight,
        Lose(Delta),
        Restart(i64),
    }

    fn act() -> impl Strategy<Value = Act> {
        let seats = || proptest::collection::vec(1_u32..12, 0..4);
        let delta =
            || {
                (seats(), seats(), seats(), seats()).prop_map(|(held, released, taken, freed)| {
                    Delta { held, released, taken, freed, ..Delta::default() }
                })
            };
        prop_oneof![
            6 => delta().prop_map(Act::Change),
            3 => Just(Act::Publish),
            6 => (0_usize..4).prop_map(Act::Look),
            1 => Just(Act::Sight),
            1 => delta().prop_map(Act::Lose),
            1 => (1_i64..9).prop_map(Act::Restart),
        ]
    }

    struct Watcher {
        seen: SeatView,
        at: Position,
    }

    impl Watcher {
        fn look(&mut self, log: &mut Log) {
            let (missed, at) = log.missed(self.at);
            self.at = at;
            match missed {
                Missed::Nothing => {}
                Missed::Batches(batches) => {
                    for batch in batches {
                        // The rule for clients: what begins at or before what I know fits.
                        assert!(batch.change.since <= self.seen.version);
                        self.seen.follow(&batch.change);
                    }
                }
                Missed::Afresh(sight) => self.seen = sight.view.clone(),
            }
        }
    }

    proptest! {
        /// Whatever happens, and however rarely somebody looks, they end with the truth.
        #[test]
        fn watchers_end_with_the_truth(acts in proptest::collection::vec(act(), 0..120)) {
            let mut truth = view(1 << 20);
            let mut log = loaded(1 << 20);
            let start = log.sight().unwrap();
            let mut watchers: Vec<Watcher> = (0..4)
                .map(|_| Watcher { seen: start.0.view.clone(), at: start.1 })
                .collect();
            for act in acts {
                match act {
                    Act::Change(mut delta) => {
                        delta.version = truth.version + 1;
                        truth.apply(&delta, &mut None);
                        prop_assert_eq!(log.apply(&delta), Some(Fit::Next));
                    }
                    Act::Lose(mut delta) => {
                        // Lost on the way: the next one shows the gap, and the hub reads again.
                        for _ in 0..2 {
                            delta.version = truth.version + 1;
                            truth.apply(&delta, &mut None);
                        }
                        prop_assert_eq!(log.apply(&delta), Some(Fit::Gap));
                        log.reload(truth.clone());
                    }
                    Act::Restart(version) => {
                        truth.version = version.min(truth.version);
                        truth.held.clear();
                        log.reload(truth.clone());
                    }
                    Act::Publish => {
                        log.publish();
                    }
                    Act::Look(who) => watchers[who].look(&mut log),
                    Act::Sight => prop_assert_eq!(&log.sight().unwrap().0.view, &truth),
                }
            }
            log.publish();
            for watcher in &mut watchers {
                watcher.look(&mut log);
                prop_assert_eq!(&watcher.seen, &truth);
            }
        }
    }

    #[test]
    fn nothing_is_known_before_the_seats_are_loaded() {
        let mut log = Log::default();
        assert_eq!((log.version(), log.apply(&held(1, 1)), log.since(0)), (None, None, None));
        assert!(log.sight().is_none() && !log.has_news());
        assert!(matches!(log.missed(0), (Missed::Nothing, 0)));
    }

    #[test]
    fn whoever_comes_back_gets_what_they_missed() {
        let mut log = loaded(10);
        for version in 11..=14 {
            log.apply(&held(version, 1));
            if version != 12 {
                log.publish();
            }
        }
        // Batches 10-11, 11-13, 13-14.
        let versions = |log: &mut Log, since| {
            let at = log.since(since)?;
            let (Missed::Batches(batches), _) = log.missed(at) else { return Some(vec![]) };
            Some(batches.iter().map(|batch| batch.change.version).collect::<Vec<_>>())
        };
        assert_eq!(versions(&mut log, 10), Some(vec![11, 13, 14]));
        assert_eq!(versions(&mut log, 11), Some(vec![13, 14]));
        assert_eq!(versions(&mut log, 12), Some(vec![13, 14]), "in the middle of a batch");
        assert_eq!(versions(&mut log, 13), Some(vec![14]));
        assert_eq!(versions(&mut log, 14), Some(vec![]), "nothing was missed");
        assert_eq!(versions(&mut log, 9), None, "forgotten");
        assert_eq!(versions(&mut log, 15), None, "of another time");
    }

    #[test]
    fn the_log_is_bounded_and_the_slow_begin_afresh() {
        let mut log = loaded(0);
        for version in 1..=1_000 {
            log.apply(&held(version, 1));
            log.publish();
        }
        assert_eq!(log.batches.len(), BATCHES_MAX);
        assert!(matches!(log.missed(1), (Missed::Afresh(_), 1_001)));
        assert!(matches!(log.missed(1_001 - BEHIND_MAX), (Missed::Batches(_), 1_001)));
        let many: Vec<u32> = (0..20_000).collect();
        for version in 1_001..=1_003 {
            log.apply(&Delta { version, held: many.clone(), ..Delta::default() });
            log.publish();
        }
        assert!(log.marks <= MARKS_MAX && log.batches.len() == 1);
    }

    #[test]
    fn one_sight_serves_all_until_something_changes() {
        let mut log = loaded(1);
        let first = log.sight().unwrap().0;
        assert!(Arc::ptr_eq(&first, &log.sight().unwrap().0));
        log.apply(&held(2, 3));
        let second = log.sight().unwrap().0;
        assert_eq!((first.view.version, second.view.version), (1, 2));
        assert!(log.has_news());
        log.mark_told();
        assert!(!log.has_news());
        log.reload(second.view.clone());
        assert!(!log.has_news(), "the same again is no news");
    }
}
