//! The rules by examples, and any history of one alarm against what must hold of all of them.

use proptest::prelude::*;

use super::*;

const PATIENCE: Patience = Patience {
    open_after: SignedDuration::from_secs(60),
    close_after: SignedDuration::from_secs(300),
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn sighting(subject: &str, urgent: bool) -> Sighting {
    Sighting { urgent, ..Sighting::new(AlarmKind::BacklogOld, subject, (400, 300), "") }
}

/// What one thing does at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Bad,
    Well,
    Blind,
}

/// -1: closed, 0: nothing, 1: opened.
fn step(watch: &mut Watch, look: Look, second: i64, urgent: bool) -> i32 {
    let seen = if look == Look::Bad { vec![sighting("a", urgent)] } else { Vec::new() };
    let changes = watch.look(seen, |_, _| look == Look::Blind, at(second), PATIENCE);
    changes
        .iter()
        .map(|change| match change {
            Change::Opened(..) => 1,
            Change::Closed(..) => -1,
        })
        .sum()
}

#[test]
fn it_opens_after_a_while_and_closes_after_a_while() {
    use Look::{Bad, Blind, Well};
    let mut watch = Watch::default();
    let mut look = |look, second| step(&mut watch, look, second, false);
    assert_eq!(look(Bad, 0), 0);
    assert_eq!(look(Bad, 59), 0);
    assert_eq!(look(Well, 60), 0);
    assert_eq!(look(Bad, 61), 0, "it begins anew");
    assert_eq!(look(Bad, 121), 1);
    assert_eq!(look(Bad, 500), 0, "once");
    assert_eq!(look(Well, 501), 0);
    assert_eq!(look(Bad, 799), 0, "it comes and goes: still the same one");
    assert_eq!(look(Well, 800), 0);
    assert_eq!(look(Blind, 1099), 0);
    assert_eq!(look(Well, 1100), 0, "nobody saw that it was well all the time");
    assert_eq!(look(Well, 1400), -1);
    assert_eq!(look(Well, 2000), 0);
    assert_eq!(watch.count(AlarmKind::BacklogOld), 0);
}

#[test]
fn what_is_urgent_opens_at_once_and_others_are_not_touched_by_it() {
    let mut watch = Watch::default();
    let seen = vec![sighting("a", true), sighting("b", false)];
    let changes = watch.look(seen, |_, _| false, at(0), PATIENCE);
    assert_eq!(changes, [Change::Opened(sighting("a", true), at(0))]);
    assert_eq!((watch.count(AlarmKind::BacklogOld), watch.count(AlarmKind::ErrorRate)), (1, 0));
    let bad: Vec<_> = watch.bad().map(|(one, open, _)| (one.subject.as_str(), open)).collect();
    assert_eq!(bad, [("a", true), ("b", false)]);
    // What cannot be seen goes on if it is an alarm, and is nothing if it is none.
    watch.look(Vec::new(), |_, _| true, at(10), PATIENCE);
    let bad: Vec<_> = watch.bad().map(|(one, _, _)| one.subject.as_str()).collect();
    assert_eq!(bad, ["a"]);
}

proptest! {
    /// Opened and closed take turns; what opens was bad, or not seen to be well, for long enough;
    /// what closes was seen to be well at every look for long enough.
    #[test]
    fn no_history_makes_it_flap(
        looks in prop::collection::vec((0_u8..3, 1_i64..120, any::<bool>()), 1..200),
    ) {
        let mut watch = Watch::default();
        let (mut second, mut open) = (0, false);
        let (mut bad_since, mut well_since, mut last_change) = (None, None, None::<i64>);
        for (look, pause, urgent) in looks {
            second += pause;
            let look = [Look::Bad, Look::Well, Look::Blind][usize::from(look)];
            match look {
                Look::Bad => {
                    bad_since.get_or_insert(second);
                    well_since = None;
                }
                Look::Well => {
                    well_since.get_or_insert(second);
                    if !open {
                        bad_since = None;
                    }
                }
                Look::Blind => well_since = None,
            }
            let change = step(&mut watch, look, second, urgent);
            let long_bad = bad_since.is_some_and(|since| second - since >= 60) || urgent;
            let long_well = well_since.is_some_and(|since| second - since >= 300);
            let expected = match (look, open) {
                (Look::Bad, false) if long_bad => 1,
                (Look::Well, true) if long_well => -1,
                _ => 0,
            };
            prop_assert_eq!(change, expected);
            if change == -1 {
                prop_assert!(last_change.is_some_and(|opened| second - opened >= 300));
                bad_since = None;
            }
            if change != 0 {
                open = change == 1;
                last_change = Some(second);
            }
            prop_assert_eq!(watch.count(AlarmKind::BacklogOld) == 1, open);
            prop_assert!(watch.0.len() <= 1);
        }
    }
}
