//! Gaps in a log that is read by a cursor. Numbers are drawn before transactions commit, so behind
//! a row that is there may be places that are still empty: of a transaction that goes on, or of one
//! that was rolled back. The reader passes them and remembers them, until a row appears there or
//! nobody is left who could write one.

/// Most gaps that are remembered. Whoever has so many stops at the next one until some close.
const MOST: usize = 10_000;

/// Places next to each other that were empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: i64,
    /// The last of them.
    pub last: i64,
    /// Whoever may still write there has a transaction id below this one: it was drawn after them.
    pub horizon: i64,
}

/// All gaps that the cursor has passed, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<Gap>);

impl Gaps {
    /// Those that somebody wrote down.
    pub fn new(gaps: Vec<Gap>) -> Self {
        Self(gaps)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// They, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Gap> {
        self.0.iter()
    }

    /// Moves the cursor from `after` over rows that were seen, in rising order, and remembers what
    /// is missing between them; `horizon` is a transaction id that was drawn after the rows were
    /// seen. Answers how many rows it may move over: all of them unless there are too many
    /// gaps.
    pub fn pass(&mut self, after: i64, seen: impl IntoIterator<Item = i64>, horizon: i64) -> usize {
        let (mut last, mut passed) = (after, 0);
        for seq in seen {
            let first = last.saturating_add(1);
            if first < seq {
                if self.0.len() >= MOST {
                    break;
                }
                self.0.push(Gap { first, last: seq.saturating_sub(1), horizon });
            }
            (last, passed) = (seq, passed + 1);
        }
        passed
    }

    /// A row appeared there.
    pub fn fill(&mut self, seq: i64) {
        let Some(at) = self.0.iter().position(|gap| (gap.first..=gap.last).contains(&seq)) else {
            return;
        };
        let gap = self.0.remove(at);
        let before = Gap { last: seq.saturating_sub(1), ..gap };
        let behind = Gap { first: seq.saturating_add(1), ..gap };
        let rest = [before, behind].into_iter().filter(|rest| rest.first <= rest.last);
        self.0.splice(at..at, rest);
    }

    /// Forgets those where nothing can appear any more: all transactions below `settled` were over
    /// when somebody last looked there. `next` is above the ids of all that are over, so horizons
    /// are below it: those that are not are of another life of the database, which was restored,
    /// and nobody of that life will write any more.
    pub fn close(&mut self, settled: i64, next: i64) {
        self.0.retain(|gap| settled < gap.horizon && gap.horizon < next);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn gap(first: i64, last: i64, horizon: i64) -> Gap {
        Gap { first, last, horizon }
    }

    #[test]
    fn what_is_missing_is_remembered_until_it_comes_or_nobody_can_write_it() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.pass(0, [1, 2, 5, 6, 8], 100), 5);
        assert_eq!(gaps.0, [gap(3, 4, 100), gap(7, 7, 100)]);
        assert_eq!(gaps.pass(8, [12], 200), 1);
        gaps.fill(10);
        assert_eq!(gaps.0, [gap(3, 4, 100), gap(7, 7, 100), gap(9, 9, 200), gap(11, 11, 200)]);
        gaps.fill(7);
        gaps.fill(5);
        gaps.close(99, 300);
        assert_eq!(gaps.0.len(), 3);
        gaps.close(100, 300);
        assert_eq!(gaps.0, [gap(9, 9, 200), gap(11, 11, 200)]);
    }

    #[test]
    fn nobody_of_another_life_writes_any_more() {
        let mut gaps = Gaps::new(vec![gap(3, 4, 1_000_000), gap(7, 7, 49)]);
        gaps.close(40, 50);
        assert_eq!(gaps.0, [gap(7, 7, 49)]);
    }

    #[test]
    fn the_cursor_stops_before_there_are_too_many() {
        let mut gaps = Gaps::default();
        let holes = i64::try_from(MOST).unwrap();
        assert_eq!(gaps.pass(0, (1..=holes + 5).map(|n| n * 2), 7), MOST);
        assert_eq!(gaps.pass(holes * 2, [holes * 2 + 1, holes * 2 + 3], 7), 1);
        gaps.fill(1);
        assert_eq!(gaps.pass(holes * 2, [holes * 2 + 2], 7), 1);
    }

    proptest! {
        /// Whatever comes in whatever order: every place is seen, or remembered, and never both.
        #[test]
        fn nothing_is_passed_unnoticed(
            written in proptest::collection::btree_set(1_i64..200, 0..100),
            late in proptest::collection::btree_set(1_i64..200, 0..100),
        ) {
            let mut gaps = Gaps::default();
            gaps.pass(0, written.iter().copied(), 9);
            let read_to = written.last().copied().unwrap_or(0);
            for seq in late.difference(&written) {
                gaps.fill(*seq);
            }
            let remembered: BTreeSet<i64> =
                gaps.iter().flat_map(|gap| gap.first..=gap.last).collect();
            let expected: BTreeSet<i64> = (1..=read_to)
                .filter(|seq| !written.contains(seq) && !late.contains(seq))
                .collect();
            prop_assert_eq!(remembered, expected);
        }
    }
}
