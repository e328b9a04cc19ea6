//! Counting what people say of events and organisers, by differences: of all that a batch tells of
//! one person and thing only the latest counts, and what is counted of it is the difference to
//! what was counted before. So it does not matter how often, in what order, or in what company a
//! message comes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::ids::MessageId;
use super::interest::{InterestState, Privacy};

/// The event or organisation, and the person.
pub type Pair = (Uuid, Uuid);

/// What a message tells of a pair. The order is that of versions; among messages of one version,
/// which nobody should send, it is at least the same for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said<T> {
    /// Rises with every change.
    pub version: i64,
    /// What is so since then.
    pub what: T,
    /// When it was said.
    pub at: Timestamp,
    /// By which message.
    pub message: MessageId,
}

/// An interest as it was said.
pub type SaidInterest = Said<(Option<InterestState>, Privacy)>;

/// Keeps of each pair the latest that was said, in the order in which rows are locked: everybody
/// who locks several rows has to do it in the same order.
pub fn fold<T: Ord>(said: impl IntoIterator<Item = (Pair, Said<T>)>) -> BTreeMap<Pair, Said<T>> {
    let mut latest: BTreeMap<Pair, Said<T>> = BTreeMap::new();
    for (pair, said) in said {
        match latest.get(&pair) {
            Some(known) if *known >= said => {}
            _ => drop(latest.insert(pair, said)),
        }
    }
    latest
}

/// By how much the counters of an event or of a person change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Interests of that state.
    pub sure: i32,
    /// Interests of that state.
    pub maybe: i32,
    /// Interests of that state.
    pub interested: i32,
    /// Ratings.
    pub ratings: i32,
    /// Their sum.
    pub rating_sum: i64,
    /// Organisations that a person follows.
    pub follows: i32,
}

impl Delta {
    fn interest(&mut self, state: Option<InterestState>, by: i32) {
        match state {
            Some(InterestState::Sure) => self.sure += by,
            Some(InterestState::Maybe) => self.maybe += by,
            Some(InterestState::Interested) => self.interested += by,
            None => {}
        }
    }

    fn rating(&mut self, rating: Option<i32>, by: i32) {
        if let Some(rating) = rating {
            self.ratings += by;
            self.rating_sum += i64::from(rating * by);
        }
    }
}

/// What a batch does to the counters, in the order in which rows are locked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Of events.
    pub events: BTreeMap<Uuid, Delta>,
    /// Of people.
    pub users: BTreeMap<Uuid, Delta>,
    /// Followers of organisations.
    pub organizations: BTreeMap<Uuid, i32>,
}

impl Tally {
    /// An interest counts as `after`, no longer as `before`.
    pub fn interest(
        &mut self,
        (event, user): Pair,
        before: Option<InterestState>,
        after: Option<InterestState>,
    ) {
        if before != after {
            for delta in
                [self.events.entry(event).or_default(), self.users.entry(user).or_default()]
            {
                delta.interest(before, -1);
                delta.interest(after, 1);
            }
        }
    }

    /// A rating counts as `after`, no longer as `before`.
    pub fn rating(&mut self, (event, user): Pair, before: Option<i32>, after: Option<i32>) {
        if before != after {
            for delta in
                [self.events.entry(event).or_default(), self.users.entry(user).or_default()]
            {
                delta.rating(before, -1);
                delta.rating(after, 1);
            }
        }
    }

    /// A follow counts as `after`, no longer as `before`.
    pub fn follow(&mut self, (organization, user): Pair, before: bool, after: bool) {
        let by = i32::from(after) - i32::from(before);
        if by != 0 {
            *self.organizations.entry(organization).or_default() += by;
            self.users.entry(user).or_default().follows += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// What is counted of each pair, with its version, and the counters; as the tables are.
    #[derive(Default)]
    struct Store {
        counted: HashMap<Pair, (i64, Option<InterestState>)>,
        sums: HashMap<Uuid, Delta>,
    }

    impl Store {
        fn count(&mut self, batch: &[(Pair, SaidInterest)]) {
            let mut tally = Tally::default();
            for (pair, said) in fold(batch.iter().copied()) {
                let counted = self.counted.entry(pair).or_default();
                if counted.0 < said.version {
                    tally.interest(pair, counted.1, said.what.0);
                    *counted = (said.version, said.what.0);
                }
            }
            for (id, delta) in tally.events.into_iter().chain(tally.users) {
                let sum = self.sums.entry(id).or_default();
                sum.sure += delta.sure;
                sum.maybe += delta.maybe;
                sum.interested += delta.interested;
            }
        }
    }

    fn said() -> impl Strategy<Value = (Pair, i64)> {
        (0_u128..3, 10_u128..14, 1_i64..6).prop_map(|(event, user, version)| {
            ((Uuid::from_u128(event), Uuid::from_u128(user)), version)
        })
    }

    /// What a person said in a version is the same whenever it is told.
    fn message((pair, version): (Pair, i64)) -> (Pair, SaidInterest) {
        let dice = pair.0.as_u128() * 7 + pair.1.as_u128() * 3 + u128::from(version.unsigned_abs());
        let state = InterestState::ALL.get(usize::try_from(dice % 4).unwrap()).copied();
        let at = Timestamp::UNIX_EPOCH;
        let message = MessageId(Uuid::from_u128(dice));
        (pair, Said { version, what: (state, Privacy::Public), at, message })
    }

    proptest! {
        /// Whatever comes twice, late or together: in the end the counters are the sums of what
        /// everybody said last.
        #[test]
        fn counters_are_the_sums_of_what_was_said_last(
            told in proptest::collection::vec(said(), 0..60),
            cuts in proptest::collection::vec(1_usize..8, 1..20),
        ) {
            let all: Vec<_> = told.into_iter().map(message).collect();
            let mut store = Store::default();
            let mut rest = all.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (batch, after) = rest.split_at((*cut).min(rest.len()));
                store.count(batch);
                rest = after;
            }
            let mut expected: HashMap<Uuid, Delta> = HashMap::new();
            for (pair, said) in fold(all.iter().copied()) {
                for id in [pair.0, pair.1] {
                    expected.entry(id).or_default().interest(said.what.0, 1);
                }
            }
            let some = |sums: HashMap<Uuid, Delta>| {
                let some = sums.into_iter().filter(|(_, delta)| *delta != Delta::default());
                some.collect::<HashMap<_, _>>()
            };
            prop_assert_eq!(some(store.sums), some(expected));
        }

        /// What a fold keeps does not depend on the order or on repetitions.
        #[test]
        fn a_fold_keeps_the_latest(
            told in proptest::collection::vec(said(), 1..40),
            by in 0_usize..40,
        ) {
            let all: Vec<_> = told.into_iter().map(message).collect();
            let kept = fold(all.iter().copied());
            let mut turned = all.clone();
            turned.rotate_left(by % all.len());
            turned.reverse();
            turned.extend(all.iter().copied());
            prop_assert_eq!(&fold(turned), &kept);
            for (pair, said) in &all {
                prop_assert!(kept.get(pair).is_some_and(|latest| latest.version >= said.version));
            }
        }
    }

    #[test]
    fn ratings_and_follows_count_by_their_difference() {
        let (event, user) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut tally = Tally::default();
        tally.rating((event, user), Some(2), Some(5));
        assert_eq!((tally.events[&event].ratings, tally.events[&event].rating_sum), (0, 3));
        tally.rating((event, user), Some(5), None);
        assert_eq!((tally.users[&user].ratings, tally.users[&user].rating_sum), (-1, -2));
        tally.follow((event, user), false, true);
        tally.follow((event, user), true, true);
        assert_eq!((tally.organizations[&event], tally.users[&user].follows), (1, 1));
    }
}
