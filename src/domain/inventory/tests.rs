//! Random batches of commands, loaded and folded as the desk does it, against a model that is too
//! simple to be wrong, and against what must hold whoever asked for what in which order.

#![expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "small numbers")]

mod model;
mod store;

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::collection::btree_set;
use proptest::prelude::*;
use uuid::Uuid;

use self::model::{Model, No};
use self::store::{Command, Store};
use super::{Inventory, Pool, Queue, SeatBook};
use crate::domain::booking::{Booking, BookingStatus, Part, Party};
use crate::domain::event::{EventStatus, SalesRules, Seating, Stock, WaitlistPolicy};
use crate::domain::fact::FactKind;
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::domain::waitlist::Decision;

/// So often a queue that was loaded in windows is looked at again, at most.
const ROUNDS_MAX: usize = 100;
const EVENT: EventId = EventId(Uuid::from_u128(7));
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// Mostly good, also what has to be refused: nothing, too much, seats that do not exist.
fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        50 => (1..6_u32, any::<bool>()).prop_map(|(seats, waitlist)| Command::Book {
            seats,
            waitlist
        }),
        2 => (0..9_u32, any::<bool>()).prop_map(|(seats, waitlist)| Command::Book {
            seats,
            waitlist
        }),
        20 => (btree_set(1..14_u32, 1..5), any::<bool>(), any::<bool>()).prop_map(numbered),
        5 => (btree_set(0..18_u32, 0..8), any::<bool>(), any::<bool>()).prop_map(numbered),
        30 => any::<usize>().prop_map(|which| Command::Cancel { which }),
        20 => (any::<usize>(), 0..6_u32)
            .prop_map(|(which, seats)| Command::CancelPart { which, seats }),
        10 => (any::<usize>(), any::<u8>(), prop::option::weighted(0.1, 1..18_u32))
            .prop_map(|(which, mask, foreign)| Command::CancelNumbered { which, mask, foreign }),
        10 => (1..16_u32).prop_map(|capacity| Command::Resize { capacity }),
        5 => policy().prop_map(Command::Policy),
        10 => Just(Command::Sweep),
        1 => Just(Command::CancelEvent),
        2 => any::<usize>().prop_map(|from| Command::Close { from }),
    ]
}

fn numbered((seats, waitlist, holds): (BTreeSet<u32>, bool, bool)) -> Command {
    Command::BookNumbered { seats: seats.into_iter().collect(), waitlist, holds }
}

fn policy() -> impl Strategy<Value = WaitlistPolicy> {
    prop_oneof![
        Just(WaitlistPolicy::Strict),
        (0..4_u32).prop_map(|max| WaitlistPolicy::Bypass { max }),
    ]
}

fn seating() -> impl Strategy<Value = Seating> {
    prop_oneof![Just(Seating::General), Just(Seating::Numbered)]
}

/// A refusal as the model puts it.
fn no(refusal: &Refusal) -> No {
    match refusal {
        Refusal::Invalid(errors) => {
            let errors = errors.iter().map(|error| format!(" {} {}", error.pointer, error.code));
            format!("invalid{}", errors.collect::<String>())
        }
        Refusal::EventNotOpen(status) => format!("event_not_open {status}"),
        Refusal::SeatsUnavailable(taken) => format!("seats_unavailable {taken:?}"),
        Refusal::CapacityBelowConfirmed { confirmed } => {
            format!("capacity_below_confirmed {confirmed}")
        }
        Refusal::SeatsAboveCapacity(above) => format!("seats_above_capacity {above:?}"),
        other => other.code().to_owned(),
    }
}

/// Whose the free seats of an event that is off are does not matter: nobody gets them.
fn sums(stock: &Stock, rules: &SalesRules) -> [u32; 4] {
    let Stock { capacity, available, confirmed, reserved, .. } = *stock;
    match rules.status {
        EventStatus::Published => [capacity, confirmed, available, reserved],
        _ => [capacity, confirmed, available + reserved, 0],
    }
}

/// The inventory in the middle of a batch is what the model says.
fn agree(inventory: &Inventory, model: &Model, command: &Command) {
    assert_eq!(sums(inventory.stock(), &model.rules), model.sums(), "the sums after {command:?}");
    assert_eq!(inventory.rules(), &model.rules);
    for party in &model.parties {
        assert_eq!(inventory.booking(party.id), Some(party), "after {command:?}");
    }
}

/// What was written is what the model says.
fn written(store: &Store, model: &Model) {
    assert_eq!(sums(&store.stock, &store.rules), model.sums());
    let queue = (store.stock.waitlist_length as usize, store.stock.last_waiting_number);
    assert_eq!(queue, (model.waiting().len(), model.last_number), "the queue");
    let bookings: Vec<&Booking> = store.bookings.values().collect();
    let mut parties: Vec<&Booking> = model.parties.iter().collect();
    parties.sort_by_key(|party| party.id);
    assert_eq!(bookings, parties);
    for number in 1..=model.capacity {
        assert_eq!(store.seats.get(&number).copied(), model.owner(number), "seat {number}");
    }
}

/// Batches against the model, which is asked after every command.
fn run(mut store: Store, batches: &[Vec<Command>]) {
    let mut model = Model::new(store.stock.capacity, store.rules.clone());
    for batch in batches {
        let before = store.clone();
        let mut inventory = store.load(batch, usize::MAX);
        assert_eq!(inventory.loaded_version(), before.stock.version);
        for command in batch {
            let (said, expected) = store.apply(&mut inventory, &mut model, command);
            assert_eq!(said.map_err(|refusal| no(&refusal)), expected, "{command:?}");
            assert_eq!(inventory.broken(), None, "{command:?}");
            assert_eq!(inventory.take_facts(), std::mem::take(&mut model.facts), "{command:?}");
            assert_eq!(inventory.take_facts(), [], "facts are told once");
            agree(&inventory, &model, command);
        }
        assert!(!inventory.unfinished(), "the whole queue was there");
        let (stock, changes) = inventory.finish();
        let ledger = std::mem::take(&mut model.ledger);
        let told: Vec<_> = changes.ledger.iter().map(|line| (line.booking_id, line.what)).collect();
        let skipped = Decision::Skipped;
        let told: Vec<_> = told.into_iter().filter(|(_, what)| *what != skipped).collect();
        assert_eq!(told, ledger, "the ledger");
        assert_eq!(changes.queue, std::mem::take(&mut model.queue), "the view of the queue");
        store.save(stock, changes);
        written(&store, &model);
        let rises = before.bookings != store.bookings
            || Stock { version: stock.version, ..before.stock } != stock
            || !ledger.is_empty();
        let version = before.stock.version + i64::from(rises);
        assert_eq!(stock.version, version, "the version rises with a change, and only then");
        store.check(&before, batch);
    }
}

/// The same with a queue that is only seen in windows. Command by command it comes to the same in
/// the end; in a batch, who asks before the queue was served to its end may have to join it.
fn run_in_windows(mut store: Store, batches: &[Vec<Command>], window: usize) {
    let mut model = Model::new(store.stock.capacity, store.rules.clone());
    let exact =
        store.rules.policy == WaitlistPolicy::Strict && batches.iter().all(|b| b.len() == 1);
    for batch in batches {
        let before = store.clone();
        let mut inventory = store.load(batch, window);
        for command in batch {
            let (said, expected) = store.apply(&mut inventory, &mut model, command);
            assert!(!exact || said.map_err(|refusal| no(&refusal)) == expected, "{command:?}");
            assert_eq!(inventory.broken(), None, "{command:?}");
        }
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "the queue is looked at for ever");
            let again = inventory.unfinished();
            let (stock, changes) = inventory.finish();
            assert!(!again || stock.reserved > 0, "there is nothing to look again for");
            store.save(stock, changes);
            if !again {
                break;
            }
            inventory = store.load(&[Command::Sweep], window);
            inventory.promote("continued");
            assert_eq!(inventory.broken(), None, "continued");
        }
        if exact {
            written(&store, &model);
        }
        store.check(&before, batch);
    }
}

proptest! {
    #[test]
    fn what_happens_is_what_the_rules_say(
        capacity in 1..14_u32,
        seating in seating(),
        policy in policy(),
        batches in prop::collection::vec(prop::collection::vec(command(), 1..6), 1..25),
    ) {
        run(Store::new(capacity, seating, policy), &batches);
    }

    #[test]
    fn a_long_queue_is_served_in_windows(
        capacity in 1..14_u32,
        seating in seating(),
        commands in prop::collection::vec(command(), 1..60),
        window in 1..4_usize,
    ) {
        let strict = commands.into_iter().filter(|one| !matches!(one, Command::Policy(_)));
        let batches: Vec<Vec<Command>> = strict.map(|command| vec![command]).collect();
        run_in_windows(Store::new(capacity, seating, WaitlistPolicy::Strict), &batches, window);
    }

    #[test]
    fn nobody_overtakes_those_whom_a_window_does_not_show(
        capacity in 1..14_u32,
        seating in seating(),
        policy in policy(),
        batches in prop::collection::vec(prop::collection::vec(command(), 1..6), 1..25),
        window in 1..4_usize,
    ) {
        run_in_windows(Store::new(capacity, seating, policy), &batches, window);
    }
}

#[test]
fn a_freed_seat_goes_to_the_head_in_the_same_batch() {
    let mut store = Store::new(2, Seating::General, WaitlistPolicy::Strict);
    let mut inventory = store.load(&[Command::Sweep], 10);
    for _ in 0..3 {
        store.ask(&mut inventory, 1, true).unwrap();
    }
    inventory.take_facts();
    let first = store.order[0];
    inventory.cancel(first, &Part::Whole).unwrap();
    let kinds: Vec<FactKind> = inventory.take_facts().iter().map(|fact| fact.kind).collect();
    assert_eq!(kinds, [FactKind::BookingCancelled, FactKind::WaitlistPromoted]);
    assert_eq!(inventory.booking(store.order[2]).unwrap().status, BookingStatus::Confirmed);
}

#[test]
fn strict_parks_what_the_head_cannot_use_yet_and_newcomers_wait() {
    let mut store = Store::new(3, Seating::General, WaitlistPolicy::Strict);
    let mut inventory = store.load(&[Command::Sweep], 10);
    store.ask(&mut inventory, 2, true).unwrap();
    store.ask(&mut inventory, 2, true).unwrap();
    store.ask(&mut inventory, 1, true).unwrap();
    assert_eq!(inventory.booking(store.order[2]).unwrap().status, BookingStatus::Waitlisted);
    assert_eq!((inventory.stock().available, inventory.stock().reserved), (0, 1));
    let refused = store.ask(&mut inventory, 1, false);
    assert_eq!(refused, Err(Refusal::SoldOut));
}

#[test]
fn bypass_lets_a_fitting_party_pass_but_not_too_often() {
    let mut store = Store::new(4, Seating::General, WaitlistPolicy::Bypass { max: 1 });
    let mut inventory = store.load(&[Command::Sweep], 10);
    store.ask(&mut inventory, 4, true).unwrap();
    store.ask(&mut inventory, 3, true).unwrap();
    store.ask(&mut inventory, 1, true).unwrap();
    store.ask(&mut inventory, 1, true).unwrap();
    inventory.cancel(store.order[0], &Part::Seats(2)).unwrap();
    let status = |i: usize| inventory.booking(store.order[i]).unwrap().status;
    assert_eq!(status(1), BookingStatus::Waitlisted);
    assert_eq!(status(2), BookingStatus::Confirmed);
    assert_eq!(status(3), BookingStatus::Waitlisted, "the head was passed once, which is all");
}

#[test]
fn an_event_that_is_over_cannot_be_cancelled_any_more() {
    let mut store = Store::new(4, Seating::General, WaitlistPolicy::Strict);
    store.rules.status = EventStatus::Completed;
    let mut inventory = store.load(&[], 10);
    assert_eq!(inventory.cancel_event(), Err(Refusal::EventNotOpen("completed")));
    assert_eq!(inventory.rules().status, EventStatus::Completed);
}

#[test]
fn a_touched_inventory_has_a_new_version_though_no_seat_changed_hands() {
    let store = Store::new(4, Seating::General, WaitlistPolicy::Strict);
    let mut inventory = store.load(&[], 10);
    inventory.touch();
    assert_eq!(inventory.finish().0, Stock { version: 2, ..Stock::new(4) });
}

#[test]
fn what_is_broken_is_seen() {
    let mut store = Store::new(4, Seating::Numbered, WaitlistPolicy::Strict);
    store.stock.available = 3;
    assert!(store.load(&[], 10).broken().is_some(), "a seat is missing from the sums");
    store.stock.available = 4;
    assert_eq!(store.load(&[], 10).broken(), None);
    let pool = Pool { free: vec![1, 2], wanted: 2 };
    let seats = SeatBook::new([2], Some(pool), 0, 4);
    assert!(seats.broken().is_some(), "seat 2 is both free and taken");
}

#[test]
fn a_queue_that_was_not_looked_at_counts() {
    let mut store = Store::new(4, Seating::General, WaitlistPolicy::Strict);
    store.stock = Stock { available: 0, reserved: 4, waitlist_length: 1, ..store.stock };
    let mut inventory = Inventory::new(
        EVENT,
        store.rules.clone(),
        store.stock,
        SeatBook::default(),
        Queue::unseen(1),
        [],
    );
    inventory.cancel_event().unwrap();
    assert_eq!((inventory.stock().available, inventory.stock().reserved), (0, 4));
}

#[test]
fn the_cursor_follows_the_seats_that_are_taken_from_the_front() {
    let mut store = Store::new(4, Seating::Numbered, WaitlistPolicy::Strict);
    let mut inventory = store.load(&[Command::Book { seats: 3, waitlist: false }], 10);
    store.ask(&mut inventory, 3, false).unwrap();
    assert_eq!(inventory.finish().0.seat_cursor, 3);
}

#[test]
fn who_would_get_too_few_seats_by_number_gets_none() {
    let mut store = Store::new(4, Seating::Numbered, WaitlistPolicy::Strict);
    let mut inventory = store.load(&[Command::Book { seats: 1, waitlist: false }], 10);
    assert_eq!(store.ask(&mut inventory, 2, false), Err(Refusal::SoldOut), "one was looked for");
    assert_eq!((inventory.stock().confirmed, inventory.broken()), (0, None));
}

#[test]
fn a_head_that_asks_for_less_keeps_its_place_in_front_of_a_window() {
    let mut store = Store::new(3, Seating::General, WaitlistPolicy::Strict);
    let mut inventory = store.load(&[Command::Sweep], 10);
    for seats in [3, 3, 1, 1] {
        store.ask(&mut inventory, seats, true).unwrap();
    }
    inventory.cancel(store.order[0], &Part::Seats(1)).unwrap();
    let (stock, changes) = inventory.finish();
    store.save(stock, changes);
    let mut inventory = store.load(&[Command::Sweep], 2);
    inventory.cancel(store.order[1], &Part::Seats(1)).unwrap();
    let status = |i: usize| inventory.booking(store.order[i]).unwrap().status;
    assert_eq!(status(1), BookingStatus::Waitlisted, "it still asks for more than is free");
    assert_eq!(status(2), BookingStatus::Waitlisted, "nobody passes it");
}

/// Four numbered seats, of which number 1 is somebody's and `held` are held.
fn four_seats(held: &[u32]) -> (Store, Inventory) {
    let mut store = Store::new(4, Seating::Numbered, WaitlistPolicy::Strict);
    store.stock = Stock { available: 3, confirmed: 1, ..store.stock };
    let pool = Pool { free: vec![2, 3, 4], wanted: 4 };
    let seats = SeatBook::new([1], Some(pool), 0, 4).avoiding(held.iter().copied().collect());
    let rules = store.rules.clone();
    let inventory = Inventory::new(EVENT, rules, store.stock, seats, Queue::loaded([], false), []);
    (store, inventory)
}

#[test]
fn who_does_not_choose_gets_no_seat_that_somebody_holds() {
    let (mut store, mut inventory) = four_seats(&[2]);
    let refused = store.ask(&mut inventory, 3, false);
    assert_eq!(refused, Err(Refusal::SoldOut), "one of three is held");
    store.ask(&mut inventory, 2, false).unwrap();
    assert_eq!(inventory.booking(store.order[0]).unwrap().seat_numbers, [3, 4]);
}

#[test]
fn who_does_not_choose_gets_what_was_kept_for_it_if_it_still_can() {
    for (wish, given) in [
        (vec![3, 4], [3, 4]),
        (vec![2, 4], [2, 4]),
        (vec![1, 4], [2, 3]), // taken meanwhile
        (vec![4, 5], [2, 3]), // no seat of this event any more
        (vec![0, 4], [2, 3]), // never was one
        (vec![4], [2, 3]),    // too few
    ] {
        let (mut store, mut inventory) = four_seats(&[]);
        let mut request = store.request(Party::Seats(2), false);
        request.kept.wish.clone_from(&wish);
        let booking = inventory.book(&request, NOW).unwrap();
        assert_eq!(booking.seat_numbers, given, "kept: {wish:?}");
    }
}
