//! Each promise, broken on purpose, and the finding that must say so.

use uuid::Uuid;

use crate::cli::hammer::load::{Cancelled, Outcome, Run, Seen};
use crate::cli::hammer::plan::Plan;
use crate::cli::hammer::verdict::{Ending, Evidence, Notices, Standing, expected_notices, judge};
use crate::domain::fact::FactKind;

/// A truthful run: an event with 3 seats; three parties of one are confirmed, two wait.
struct Case {
    plan: Plan,
    run: Run,
    ending: Ending,
    notices: Notices,
}

fn id(n: u64) -> Uuid {
    Uuid::from_u128(u128::from(n) + 100)
}

fn truth() -> Case {
    let plan = Plan { capacity: 3, parties: 1..=1, duplicate_percent: 0, ..super::plan(5) };
    let number = |n: u64| (n >= 3).then(|| i64::try_from(n).unwrap() - 2);
    let seen = |n: u64| Seen {
        index: n,
        booking: Some(id(n)),
        outcome: number(n).map_or(Outcome::Confirmed, Outcome::Waitlisted),
        sent_us: n * 100,
        answered_us: n * 100 + 50,
        cancelled: Cancelled::No,
    };
    let standing = |n: u64| Standing {
        id: id(n),
        status: if n < 3 { "confirmed" } else { "waitlisted" }.to_owned(),
        seats: 1,
        seat_numbers: None,
        waiting_number: number(n),
    };
    let run = Run { seen: (0..5).map(seen).collect(), ..Run::default() };
    let ending = Ending {
        capacity: 3,
        available: 0,
        confirmed: 3,
        waiting: 2,
        max_bypass: None,
        bookings: (0..5).map(standing).collect(),
    };
    let expected = expected_notices(&plan, &run, std::slice::from_ref(&ending));
    let notices = expected.into_iter().map(|(id, kind, least, _)| ((id, kind), least)).collect();
    Case { plan, run, ending, notices }
}

/// The names of the promises found broken.
fn broken(spoil: impl FnOnce(&mut Case)) -> Vec<&'static str> {
    let mut case = truth();
    spoil(&mut case);
    let findings = judge(&Evidence {
        plan: &case.plan,
        run: &case.run,
        endings: std::slice::from_ref(&case.ending),
        notices: Some(&case.notices),
    });
    findings.iter().filter(|finding| !finding.holds).map(|finding| finding.name).collect()
}

#[test]
fn the_truth_holds() {
    assert_eq!(broken(|_| {}), [""; 0]);
}

#[test]
fn lost_and_changed_bookings_are_found() {
    let lost = broken(|case| {
        case.ending.bookings.remove(4);
        case.ending.waiting = 1;
    });
    assert_eq!(lost, ["acknowledged_bookings_exist"]);
    let undone = broken(|case| case.run.seen[4].cancelled = Cancelled::Yes);
    assert!(undone.contains(&"acknowledged_bookings_exist"));
    let resized = broken(|case| case.ending.bookings[4].seats = 2);
    assert!(resized.contains(&"acknowledged_bookings_exist"));
}

#[test]
fn bookings_made_twice_are_found_unless_an_answer_was_lost() {
    let double = |case: &mut Case| {
        case.ending.bookings.push(Standing {
            id: id(9),
            waiting_number: Some(3),
            ..case.ending.bookings[4].clone()
        });
        case.ending.waiting = 3;
    };
    assert_eq!(broken(double), ["no_booking_twice"]);
    let lost = broken(|case| {
        double(case);
        let lost = Seen { booking: None, outcome: Outcome::Unknown, ..case.run.seen[4].clone() };
        case.run.seen.push(lost);
    });
    assert_eq!(lost, [""; 0]);
    assert_eq!(
        broken(|case| case.run.unequal.push("booking 1: this but that".to_owned())),
        ["one_booking_per_key"]
    );
}

#[test]
fn overselling_and_wrong_sums_are_found() {
    let over = broken(|case| {
        case.ending.bookings[3].status = "confirmed".to_owned();
        case.ending.confirmed = 4;
        case.ending.waiting = 1;
    });
    assert!(over.contains(&"nothing_oversold"), "{over:?}");
    assert_eq!(broken(|case| case.ending.available = 1), ["every_seat_accounted_for"]);
    assert_eq!(broken(|case| case.ending.waiting = 1), ["every_seat_accounted_for"]);
}

#[test]
fn seats_sold_twice_or_not_as_promised_are_found() {
    let numbers = |case: &mut Case, seats: [u32; 3]| {
        case.plan.numbered = true;
        for (standing, seat) in case.ending.bookings.iter_mut().zip(seats) {
            standing.seat_numbers = Some(vec![seat]);
        }
    };
    let named = (0..3).find_map(|index| {
        let plan = Plan { numbered: true, capacity: 3, parties: 1..=1, ..super::plan(5) };
        Some((index, plan.ask(index).first_seat?))
    });
    let (index, seat) = named.expect("the seed makes one of the first three name a seat");
    let right = [seat, seat % 3 + 1, (seat + 1) % 3 + 1];
    let mut placed = right;
    placed.swap(0, usize::try_from(index).unwrap());
    let others = |name: &&str| *name != "sold_is_min_of_capacity_and_demand";
    let twice = broken(|case| numbers(case, [1, 1, 2]));
    assert!(twice.contains(&"no_seat_sold_twice"));
    let beyond = broken(|case| numbers(case, [1, 2, 4]));
    assert!(beyond.iter().filter(|name| others(name)).any(|name| *name == "no_seat_sold_twice"));
    let mut wrong = placed;
    wrong.rotate_left(1);
    assert_eq!(broken(|case| numbers(case, wrong)), ["no_seat_sold_twice"]);
}

#[test]
fn seats_left_though_somebody_wants_them_are_found() {
    let left = broken(|case| {
        case.ending.bookings[2].status = "cancelled".to_owned();
        case.run.seen[2].cancelled = Cancelled::Yes;
        case.ending.confirmed = 2;
        case.notices.insert((id(2), FactKind::BookingCancelled), 1);
    });
    assert_eq!(left, ["sold_is_min_of_capacity_and_demand"]);
    let refused = broken(|case| {
        case.ending.bookings.truncate(2);
        case.run.seen.truncate(2);
        (case.ending.confirmed, case.ending.available, case.ending.waiting) = (2, 1, 0);
        case.run.seen.push(Seen {
            index: 2,
            booking: None,
            outcome: Outcome::Refused("sold_out".into()),
            sent_us: 0,
            answered_us: 1,
            cancelled: Cancelled::No,
        });
    });
    assert_eq!(refused, ["sold_is_min_of_capacity_and_demand"]);
}

#[test]
fn a_queue_out_of_order_is_found() {
    let swapped = broken(|case| {
        case.run.seen[3].outcome = Outcome::Waitlisted(2);
        case.run.seen[4].outcome = Outcome::Waitlisted(1);
        case.ending.bookings[3].waiting_number = Some(2);
        case.ending.bookings[4].waiting_number = Some(1);
    });
    assert_eq!(swapped, ["waitlist_order_kept"]);
    let twice = broken(|case| {
        case.run.seen[4].outcome = Outcome::Waitlisted(1);
        case.ending.bookings[4].waiting_number = Some(1);
    });
    assert_eq!(twice, ["waitlist_order_kept"]);
    let jumped = broken(|case| {
        case.run.seen[2].sent_us = 1000;
        case.run.seen[2].answered_us = 1050;
    });
    assert_eq!(jumped, ["waitlist_order_kept"]);
}

#[test]
fn promotion_past_an_earlier_party_is_found_unless_the_policy_allows_it() {
    let pass = |case: &mut Case| {
        case.ending.bookings[4].status = "confirmed".to_owned();
        case.ending.bookings[0].status = "cancelled".to_owned();
        case.run.seen[0].cancelled = Cancelled::Yes;
        case.ending.waiting = 1;
        case.notices.insert((id(4), FactKind::WaitlistPromoted), 1);
        case.notices.insert((id(0), FactKind::BookingCancelled), 1);
    };
    assert_eq!(broken(pass), ["waitlist_order_kept"]);
    let allowed = broken(|case| {
        pass(case);
        case.ending.max_bypass = Some(1);
    });
    assert_eq!(allowed, [""; 0]);
}

#[test]
fn missing_and_repeated_notifications_are_found() {
    let confirmed = (id(0), FactKind::BookingConfirmed);
    let missing = broken(|case| _ = case.notices.remove(&confirmed));
    assert_eq!(missing, ["notified_exactly_once"]);
    let twice = broken(|case| _ = case.notices.insert(confirmed, 2));
    assert_eq!(twice, ["notified_exactly_once"]);
    let untrue = broken(|case| {
        case.notices.insert((id(1), FactKind::BookingCancelled), 1);
    });
    assert_eq!(untrue, ["notified_exactly_once"]);
}
