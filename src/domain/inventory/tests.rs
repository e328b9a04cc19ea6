//! Random batches of commands against a model that is too simple to be wrong: after every batch
//! the invariants hold, whoever asked for what in which order.

#![expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Changes, Inventory, Kept, Pool, Queue, Request, SeatBook, Waiting};
use crate::domain::booking::{Booking, BookingStatus, Part, Party};
use crate::domain::event::{EventStatus, SalesRules, Seating, Stock, WaitlistPolicy};
use crate::domain::fact::FactKind;
use crate::domain::ids::{BookingId, EventId, UserId};
use crate::domain::refusal::Refusal;

#[derive(Clone, Debug)]
enum Command {
    Book { seats: u32, waitlist: bool },
    BookNumbered { seats: Vec<u32>, waitlist: bool },
    Cancel { which: usize },
    CancelPart { which: usize, seats: u32 },
    Resize { capacity: u32 },
    Sweep,
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        5 => (1..6_u32, any::<bool>()).prop_map(|(seats, waitlist)| Command::Book {
            seats,
            waitlist
        }),
        2 => (prop::collection::btree_set(1..14_u32, 1..4), any::<bool>()).prop_map(
            |(seats, waitlist)| Command::BookNumbered {
                seats: seats.into_iter().collect(),
                waitlist
            }
        ),
        3 => any::<usize>().prop_map(|which| Command::Cancel { which }),
        2 => (any::<usize>(), 1..4_u32)
            .prop_map(|(which, seats)| Command::CancelPart { which, seats }),
        1 => (1..16_u32).prop_map(|capacity| Command::Resize { capacity }),
        1 => Just(Command::Sweep),
    ]
}

/// What PostgreSQL would hold: the truth between batches.
#[derive(Clone, Debug)]
struct Store {
    rules: SalesRules,
    stock: Stock,
    bookings: BTreeMap<BookingId, Booking>,
    seats: BTreeMap<u32, BookingId>,
    order: Vec<BookingId>,
    next: u128,
}

const EVENT: EventId = EventId(Uuid::from_u128(7));

impl Store {
    fn new(capacity: u32, seating: Seating, policy: WaitlistPolicy) -> Self {
        Self {
            rules: SalesRules {
                status: EventStatus::Published,
                seating,
                max_seats_per_booking: 5,
                policy,
                sales_open_at: None,
                sales_close_at: None,
                starts_at: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(48),
                ends_at: None,
            },
            stock: Stock::new(capacity),
            bookings: BTreeMap::new(),
            seats: BTreeMap::new(),
            order: Vec::new(),
            next: 0,
        }
    }

    fn waiting(&self) -> Vec<&Booking> {
        let mut waiting: Vec<&Booking> =
            self.bookings.values().filter(|b| b.status == BookingStatus::Waitlisted).collect();
        waiting.sort_by_key(|b| b.waiting_number);
        waiting
    }

    /// Loads as the desk does: the queue's head and the pool only as far as a batch needs them.
    fn load(&self, freeing: bool, largest: u32, window: usize) -> Inventory {
        let wanted = 60;
        let mut waiting = self.waiting();
        let all = waiting.len() as u32;
        waiting.retain(|b| b.seats <= largest.max(self.stock.capacity));
        let queue = if freeing {
            let head = waiting.iter().take(window).map(|b| Waiting {
                id: b.id,
                seats: b.seats,
                number: b.waiting_number.unwrap(),
            });
            Queue::loaded(head, waiting.len() > window)
        } else {
            Queue::unseen(all)
        };
        let seats = if self.rules.seating == Seating::Numbered {
            let free = (self.stock.seat_cursor + 1..=self.stock.capacity)
                .filter(|n| !self.seats.contains_key(n))
                .take(wanted as usize)
                .collect();
            let pool = Pool { free, wanted };
            let taken = self.seats.keys().copied();
            SeatBook::new(taken, Some(pool), self.stock.seat_cursor, self.stock.capacity)
        } else {
            SeatBook::default()
        };
        let bookings = self.bookings.values().cloned();
        Inventory::new(EVENT, self.rules.clone(), self.stock, seats, queue, bookings)
    }

    fn save(&mut self, stock: Stock, changes: Changes) {
        self.stock = stock;
        for number in changes.freed {
            assert!(self.seats.remove(&number).is_some(), "freed a free seat {number}");
        }
        for (number, owner) in changes.taken {
            let before = self.seats.insert(number, owner);
            assert!(before.is_none(), "seat {number} was sold twice");
        }
        for booking in changes.made.into_iter().chain(changes.changed) {
            self.bookings.insert(booking.id, booking);
        }
    }

    fn pick(&self, which: usize) -> Option<BookingId> {
        (!self.order.is_empty()).then(|| self.order[which % self.order.len()])
    }

    fn apply(&mut self, inventory: &mut Inventory, command: &Command) -> Result<(), Refusal> {
        let now = Timestamp::UNIX_EPOCH;
        match command {
            Command::Book { seats, waitlist } => {
                self.book(inventory, Party::Seats(*seats), *waitlist, now)
            }
            Command::BookNumbered { seats, waitlist } => {
                self.book(inventory, Party::Numbered(seats.clone()), *waitlist, now)
            }
            Command::Cancel { which } => match self.pick(*which) {
                Some(id) => inventory.cancel(id, &Part::Whole).map(drop),
                None => Ok(()),
            },
            Command::CancelPart { which, seats } => match self.pick(*which) {
                Some(id) => inventory.cancel(id, &Part::Seats(*seats)).map(drop),
                None => Ok(()),
            },
            Command::Resize { capacity } => inventory.resize(*capacity),
            Command::Sweep => {
                inventory.promote("sweep");
                Ok(())
            }
        }
    }

    fn book(
        &mut self,
        inventory: &mut Inventory,
        party: Party,
        waitlist: bool,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.next += 1;
        let id = BookingId(Uuid::from_u128(self.next));
        let user_id = UserId(Uuid::from_u128(self.next));
        inventory.book(&Request { id, user_id, party, waitlist, kept: Kept::default() }, now)?;
        self.order.push(id);
        Ok(())
    }

    fn check(&self, before: &Self) {
        let Stock { capacity, available, confirmed, reserved, waitlist_length, .. } = self.stock;
        assert_eq!(available + confirmed + reserved, capacity, "conservation");
        let sold: u32 = self
            .bookings
            .values()
            .filter(|b| b.status == BookingStatus::Confirmed)
            .map(|b| b.seats)
            .sum();
        assert_eq!(sold, confirmed, "confirmed is what was sold");
        let waiting = self.waiting();
        assert_eq!(waiting.len() as u32, waitlist_length, "waitlist length");
        if waiting.iter().any(|b| b.seats <= capacity) {
            assert_eq!(available, 0, "a newcomer could jump the queue");
        } else {
            assert_eq!(reserved, 0, "seats are kept for nobody");
        }
        if let Some(head) = waiting.iter().find(|b| b.seats <= capacity) {
            assert!(head.seats > reserved, "the head fits and was not promoted");
        }
        self.check_seats();
        // A party that was too large for a while may rightly have been skipped meanwhile.
        if before.stock.capacity == capacity {
            self.check_order(before);
        }
    }

    fn check_seats(&self) {
        if self.rules.seating == Seating::General {
            return;
        }
        let mut owned: BTreeMap<BookingId, BTreeSet<u32>> = BTreeMap::new();
        for (number, owner) in &self.seats {
            assert!(*number <= self.stock.capacity, "a sold seat is above the capacity");
            owned.entry(*owner).or_default().insert(*number);
        }
        for booking in self.bookings.values() {
            let numbers: BTreeSet<u32> = booking.seat_numbers.iter().copied().collect();
            assert_eq!(owned.get(&booking.id).cloned().unwrap_or_default(), numbers);
            if booking.status == BookingStatus::Confirmed {
                assert_eq!(numbers.len() as u32, booking.seats);
            }
        }
        for number in 1..=self.stock.seat_cursor {
            assert!(self.seats.contains_key(&number), "the cursor passed the free seat {number}");
        }
    }

    /// Nobody still waiting was passed more often than the policy allows.
    fn check_order(&self, before: &Self) {
        let promoted: Vec<&Booking> = self
            .bookings
            .values()
            .filter(|b| {
                b.status == BookingStatus::Confirmed
                    && before
                        .bookings
                        .get(&b.id)
                        .is_some_and(|was| was.status == BookingStatus::Waitlisted)
            })
            .collect();
        for waits in self.waiting() {
            let Some(was) = before.bookings.get(&waits.id) else { continue };
            let eligible = waits.seats <= self.stock.capacity && waits.seats == was.seats;
            let past =
                promoted.iter().filter(|b| b.waiting_number > waits.waiting_number).count() as u32;
            match self.rules.policy {
                WaitlistPolicy::Strict if eligible => {
                    assert_eq!(past, 0, "strict: somebody was passed");
                }
                WaitlistPolicy::Bypass { max } if eligible => {
                    assert!(waits.bypassed >= was.bypassed + past, "each pass is counted");
                    assert!(waits.bypassed <= max, "passed more often than allowed");
                }
                _ => {}
            }
        }
    }
}

fn run(mut store: Store, batches: &[Vec<Command>], window: usize) {
    for batch in batches {
        let before = store.clone();
        let freeing =
            batch.iter().any(|c| !matches!(c, Command::Book { .. } | Command::BookNumbered { .. }));
        let largest = batch.iter().map(|c| match c {
            Command::Resize { capacity } => *capacity,
            _ => 0,
        });
        let mut inventory = store.load(freeing, largest.max().unwrap_or(0), window);
        for command in batch {
            let stock = *inventory.stock();
            let refused = store.apply(&mut inventory, command).is_err();
            let facts = inventory.take_facts();
            assert_eq!(inventory.broken(), None, "{command:?}");
            if refused {
                assert_eq!(stock, *inventory.stock(), "a refusal changed something: {command:?}");
                assert!(facts.is_empty(), "a refusal told somebody: {command:?}");
            }
        }
        let unfinished = inventory.unfinished();
        let (stock, changes) = inventory.finish();
        store.save(stock, changes);
        let mut again = unfinished;
        while again {
            let mut inventory = store.load(true, 0, window);
            inventory.promote("continued");
            again = inventory.unfinished();
            let (stock, changes) = inventory.finish();
            store.save(stock, changes);
        }
        store.check(&before);
    }
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

proptest! {
    #[test]
    fn the_invariants_hold_after_any_batches(
        capacity in 1..14_u32,
        seating in seating(),
        policy in policy(),
        batches in prop::collection::vec(prop::collection::vec(command(), 1..6), 1..25),
    ) {
        run(Store::new(capacity, seating, policy), &batches, 1000);
    }

    #[test]
    fn a_long_queue_is_served_in_windows(
        capacity in 1..14_u32,
        batches in prop::collection::vec(prop::collection::vec(command(), 1..4), 1..25),
        window in 1..4_usize,
    ) {
        run(Store::new(capacity, Seating::Numbered, WaitlistPolicy::Strict), &batches, window);
    }
}

#[test]
fn a_freed_seat_goes_to_the_head_in_the_same_batch() {
    let mut store = Store::new(2, Seating::General, WaitlistPolicy::Strict);
    let mut inventory = store.load(true, 0, 10);
    for _ in 0..3 {
        store.book(&mut inventory, Party::Seats(1), true, Timestamp::UNIX_EPOCH).unwrap();
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
    let mut inventory = store.load(true, 0, 10);
    let now = Timestamp::UNIX_EPOCH;
    store.book(&mut inventory, Party::Seats(2), true, now).unwrap();
    store.book(&mut inventory, Party::Seats(2), true, now).unwrap();
    store.book(&mut inventory, Party::Seats(1), true, now).unwrap();
    assert_eq!(inventory.booking(store.order[2]).unwrap().status, BookingStatus::Waitlisted);
    assert_eq!((inventory.stock().available, inventory.stock().reserved), (0, 1));
    let refused = store.book(&mut inventory, Party::Seats(1), false, now);
    assert_eq!(refused, Err(Refusal::SoldOut));
}

#[test]
fn bypass_lets_a_fitting_party_pass_but_not_too_often() {
    let mut store = Store::new(4, Seating::General, WaitlistPolicy::Bypass { max: 1 });
    let mut inventory = store.load(true, 0, 10);
    let now = Timestamp::UNIX_EPOCH;
    store.book(&mut inventory, Party::Seats(4), true, now).unwrap();
    store.book(&mut inventory, Party::Seats(3), true, now).unwrap();
    store.book(&mut inventory, Party::Seats(1), true, now).unwrap();
    store.book(&mut inventory, Party::Seats(1), true, now).unwrap();
    inventory.cancel(store.order[0], &Part::Seats(2)).unwrap();
    let status = |i: usize| inventory.booking(store.order[i]).unwrap().status;
    assert_eq!(status(1), BookingStatus::Waitlisted);
    assert_eq!(status(2), BookingStatus::Confirmed);
    assert_eq!(status(3), BookingStatus::Waitlisted, "the head was passed once, which is all");
}
