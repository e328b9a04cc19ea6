//! What PostgreSQL would hold, and commands that the desk would bring: loaded, folded and written
//! the way the desk does it (`app/bookings/settle/load.rs`), and checked.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use uuid::Uuid;

use super::model::{Model, No};
use super::{EVENT, NOW};
use crate::domain::booking::{Booking, BookingStatus, Part, Party};
use crate::domain::event::{EventStatus, SalesRules, Seating, Stock, WaitlistPolicy};
use crate::domain::ids::{BookingId, UserId};
use crate::domain::inventory::{Changes, Inventory, Kept, Pool, Queue, Request, SeatBook, Waiting};
use crate::domain::refusal::Refusal;

#[derive(Clone, Debug)]
pub enum Command {
    Book {
        seats: u32,
        waitlist: bool,
    },
    BookNumbered {
        seats: Vec<u32>,
        waitlist: bool,
        holds: bool,
    },
    Cancel {
        which: usize,
    },
    CancelPart {
        which: usize,
        seats: u32,
    },
    /// Those of its seats that the mask says, and perhaps one that is not its own.
    CancelNumbered {
        which: usize,
        mask: u8,
        foreign: Option<u32>,
    },
    Resize {
        capacity: u32,
    },
    Policy(WaitlistPolicy),
    Sweep,
    CancelEvent,
    Close {
        from: usize,
    },
}

impl Command {
    /// Whether seats may become free by it, or go to somebody else.
    fn frees(&self) -> bool {
        !matches!(
            self,
            Self::Book { .. } | Self::BookNumbered { .. } | Self::CancelEvent | Self::Close { .. }
        )
    }
}

fn rules(seating: Seating, policy: WaitlistPolicy) -> SalesRules {
    SalesRules {
        status: EventStatus::Published,
        seating,
        max_seats_per_booking: 5,
        policy,
        sales_open_at: None,
        sales_close_at: None,
        starts_at: NOW + SignedDuration::from_hours(48),
        ends_at: None,
    }
}

/// What PostgreSQL would hold: the truth between batches.
#[derive(Clone, Debug)]
pub struct Store {
    pub rules: SalesRules,
    pub stock: Stock,
    pub bookings: BTreeMap<BookingId, Booking>,
    pub seats: BTreeMap<u32, BookingId>,
    pub order: Vec<BookingId>,
    next: u128,
}

impl Store {
    pub fn new(capacity: u32, seating: Seating, policy: WaitlistPolicy) -> Self {
        Self {
            rules: rules(seating, policy),
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

    /// Loads no more than the desk does (`app/bookings/settle/load.rs`): of the queue its head, of
    /// the seats those that are asked for and as many free ones as may be given out.
    pub fn load(&self, batch: &[Command], window: usize) -> Inventory {
        let frees = batch.iter().any(Command::frees);
        let (mut largest, mut least) = (self.stock.capacity, self.stock.capacity);
        let (mut any, mut asked) = (0, BTreeSet::new());
        for command in batch {
            if let Command::Resize { capacity } = command {
                largest = largest.max(*capacity);
                least = least.min(*capacity);
            }
        }
        for command in batch {
            match command {
                Command::Book { seats, .. } => any += (*seats).min(largest),
                Command::BookNumbered { seats, .. } => asked.extend(seats.iter().copied()),
                _ => {}
            }
        }
        let mut waiting = self.waiting();
        let all = waiting.len() as u32;
        waiting.retain(|b| b.seats <= largest);
        let queue = if frees {
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
            let grown = largest - self.stock.capacity;
            let promoted = if frees && self.stock.waitlist_length > 0 {
                self.stock.available + self.stock.reserved + grown
            } else {
                0
            };
            let wanted = any + promoted + asked.len() as u32;
            let free = (self.stock.seat_cursor + 1..=self.stock.capacity)
                .filter(|n| !self.seats.contains_key(n))
                .take(wanted as usize)
                .collect();
            let pool = (any + promoted > 0).then_some(Pool { free, wanted });
            let taken = self.seats.keys().copied();
            let taken = taken.filter(|n| asked.contains(n) || *n > least);
            SeatBook::new(taken, pool, self.stock.seat_cursor, self.stock.capacity)
        } else {
            SeatBook::default()
        };
        let bookings = self.bookings.values().cloned();
        Inventory::new(EVENT, self.rules.clone(), self.stock, seats, queue, bookings)
    }

    pub fn save(&mut self, stock: Stock, changes: Changes) {
        self.stock = stock;
        for number in changes.freed {
            assert!(self.seats.remove(&number).is_some(), "freed a free seat {number}");
        }
        for (number, owner) in changes.taken {
            let before = self.seats.insert(number, owner);
            assert!(before.is_none(), "seat {number} was sold twice");
        }
        for booking in changes.made {
            let before = self.bookings.insert(booking.id, booking);
            assert!(before.is_none(), "{before:?} was made twice");
        }
        for booking in changes.changed {
            let before = self.bookings.insert(booking.id, booking);
            assert!(before.is_some(), "a new booking was only changed");
        }
    }

    /// One of the bookings, and sometimes one that does not exist.
    fn pick(&self, which: usize) -> BookingId {
        let nobody = BookingId(Uuid::from_u128(u128::MAX));
        self.order.get(which % (self.order.len() + 1)).copied().unwrap_or(nobody)
    }

    /// Does it, in the model too, and says what each answers.
    pub fn apply(
        &mut self,
        inventory: &mut Inventory,
        model: &mut Model,
        command: &Command,
    ) -> (Result<(), Refusal>, Result<(), No>) {
        match command {
            Command::Book { seats, waitlist } => {
                let request = self.request(Party::Seats(*seats), *waitlist);
                (self.book(inventory, &request), model.book(&request))
            }
            Command::BookNumbered { seats, waitlist, holds } => {
                let mut request = self.request(Party::Numbered(seats.clone()), *waitlist);
                request.kept.holds = *holds;
                (self.book(inventory, &request), model.book(&request))
            }
            Command::Cancel { which } => cancel(inventory, model, self.pick(*which), &Part::Whole),
            Command::CancelPart { which, seats } => {
                cancel(inventory, model, self.pick(*which), &Part::Seats(*seats))
            }
            Command::CancelNumbered { which, mask, foreign } => {
                let id = self.pick(*which);
                let own = inventory.booking(id).map(|b| b.seat_numbers.clone()).unwrap_or_default();
                let some = own.iter().enumerate().filter(|(i, _)| mask >> (i % 8) & 1 == 1);
                let some: BTreeSet<u32> = some.map(|(_, n)| *n).chain(*foreign).collect();
                cancel(inventory, model, id, &Part::Numbered(some.into_iter().collect()))
            }
            Command::Resize { capacity } => (inventory.resize(*capacity), model.resize(*capacity)),
            Command::Policy(policy) => {
                self.rules.policy = *policy;
                inventory.set_rules(SalesRules { policy: *policy, ..inventory.rules().clone() });
                model.set_policy(*policy);
                (Ok(()), Ok(()))
            }
            Command::Sweep => {
                inventory.promote("sweep");
                model.sweep();
                (Ok(()), Ok(()))
            }
            Command::CancelEvent => {
                self.rules.status = EventStatus::Cancelled;
                model.rules.status = EventStatus::Cancelled;
                (inventory.cancel_event(), Ok(()))
            }
            Command::Close { from } => {
                if self.rules.status == EventStatus::Cancelled && !self.order.is_empty() {
                    let ids = &self.order[from % self.order.len()..];
                    inventory.close(ids);
                    model.close(ids);
                }
                (Ok(()), Ok(()))
            }
        }
    }

    pub fn request(&mut self, party: Party, waitlist: bool) -> Request {
        self.next += 1;
        let id = Uuid::from_u128(self.next);
        let kept = Kept::default();
        Request { id: BookingId(id), user_id: UserId(id), party, waitlist, kept }
    }

    /// For the examples below.
    pub fn ask(
        &mut self,
        inventory: &mut Inventory,
        seats: u32,
        wait: bool,
    ) -> Result<(), Refusal> {
        let request = self.request(Party::Seats(seats), wait);
        self.book(inventory, &request)
    }

    fn book(&mut self, inventory: &mut Inventory, request: &Request) -> Result<(), Refusal> {
        let booking = inventory.book(request, NOW)?;
        assert_eq!(Some(&booking), inventory.booking(request.id), "the answer is what is kept");
        self.order.push(request.id);
        Ok(())
    }

    /// What must hold, whatever the rules are.
    pub fn check(&self, before: &Self, batch: &[Command]) {
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
        if self.rules.status != EventStatus::Published {
            return self.check_seats();
        }
        if waiting.iter().any(|b| b.seats <= capacity) {
            assert_eq!(available, 0, "a newcomer could jump the queue");
        } else {
            assert_eq!(reserved, 0, "seats are kept for nobody");
        }
        if let Some(head) = waiting.iter().find(|b| b.seats <= capacity) {
            assert!(head.seats > reserved, "the head fits and was not promoted");
        }
        self.check_seats();
        // Meanwhile a party may have been too large, or others may have had other rights.
        let moved =
            |command: &Command| matches!(command, Command::Resize { .. } | Command::Policy(_));
        if !batch.iter().any(moved) {
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
                    let most = was.bypassed.max(max);
                    assert!(waits.bypassed <= most, "passed more often than allowed");
                }
                _ => {}
            }
        }
    }
}

fn cancel(
    inventory: &mut Inventory,
    model: &mut Model,
    id: BookingId,
    part: &Part,
) -> (Result<(), Refusal>, Result<(), No>) {
    let answer = inventory.cancel(id, part).map(|booking| {
        assert_eq!(Some(&booking), inventory.booking(id), "the answer is what is kept");
    });
    (answer, model.cancel(id, part))
}
