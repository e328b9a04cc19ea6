//! The rules once more, in the plainest words: everything is known, everything is counted anew
//! each time, and nothing is kept twice. Too slow for a sale, and meant to be read.

use uuid::Uuid;

use super::EVENT;
use crate::domain::booking::{Booking, BookingStatus, Part, Party};
use crate::domain::event::{EventStatus, SalesRules, Seating, WaitlistPolicy};
use crate::domain::fact::{Fact, FactKind};
use crate::domain::ids::{BookingId, UserId};
use crate::domain::inventory::{QueueChange, Request};
use crate::domain::waitlist::Decision;

/// Why not: a refusal's code and whatever else the caller learns.
pub type No = String;

/// An event and all its parties, and what happened since somebody last looked.
#[derive(Clone, Debug)]
pub struct Model {
    pub rules: SalesRules,
    pub capacity: u32,
    pub parties: Vec<Booking>,
    pub last_number: i64,
    pub facts: Vec<Fact>,
    pub ledger: Vec<(BookingId, Decision)>,
    pub queue: Vec<QueueChange>,
}

impl Model {
    pub fn new(capacity: u32, rules: SalesRules) -> Self {
        Self {
            rules,
            capacity,
            parties: Vec::new(),
            last_number: 0,
            facts: Vec::new(),
            ledger: Vec::new(),
            queue: Vec::new(),
        }
    }

    fn confirmed(&self) -> u32 {
        let sold = self.parties.iter().filter(|p| p.status == BookingStatus::Confirmed);
        sold.map(|p| p.seats).sum()
    }

    /// For newcomers: all that is free, unless somebody waits who could ever be served.
    fn available(&self) -> u32 {
        if self.somebody_waits() { 0 } else { self.capacity - self.confirmed() }
    }

    fn reserved(&self) -> u32 {
        self.capacity - self.confirmed() - self.available()
    }

    /// All seats, those sold, those for newcomers, those for the queue.
    pub fn sums(&self) -> [u32; 4] {
        let (capacity, confirmed) = (self.capacity, self.confirmed());
        match self.rules.status {
            EventStatus::Published => [capacity, confirmed, self.available(), self.reserved()],
            _ => [capacity, confirmed, capacity - confirmed, 0],
        }
    }

    /// The queue, in order.
    pub fn waiting(&self) -> Vec<Booking> {
        let waits = |p: &&Booking| p.status == BookingStatus::Waitlisted;
        let mut waiting: Vec<Booking> = self.parties.iter().filter(waits).cloned().collect();
        waiting.sort_by_key(|p| p.waiting_number);
        waiting
    }

    fn somebody_waits(&self) -> bool {
        self.waiting().iter().any(|p| p.seats <= self.capacity)
    }

    pub fn owner(&self, number: u32) -> Option<BookingId> {
        self.parties.iter().find(|p| p.seat_numbers.contains(&number)).map(|p| p.id)
    }

    fn lowest_free(&self, seats: u32) -> Vec<u32> {
        if self.rules.seating == Seating::General {
            return Vec::new();
        }
        let free = (1..=self.capacity).filter(|number| self.owner(*number).is_none());
        free.take(seats as usize).collect()
    }

    pub fn book(&mut self, request: &Request) -> Result<(), No> {
        if self.rules.status != EventStatus::Published {
            return Err(format!("event_not_open {}", self.rules.status.name()));
        }
        self.may_ask_for(&request.party)?;
        let seats = request.party.size();
        // Who holds seats has chosen them before the others had to wait.
        let kept = if request.kept.holds { self.reserved() } else { 0 };
        let fits = seats <= self.available() + kept;
        if !fits && !request.waitlist {
            return Err("sold_out".to_owned());
        }
        let numbers = match &request.party {
            _ if !fits => Vec::new(),
            Party::Seats(seats) => self.lowest_free(*seats),
            Party::Numbered(numbers) => numbers.clone(),
        };
        if !fits {
            self.last_number += 1;
            self.ledger.push((request.id, Decision::Joined));
            self.queue.push(QueueChange::Joined(request.user_id));
        }
        let status = if fits { BookingStatus::Confirmed } else { BookingStatus::Waitlisted };
        self.parties.push(Booking {
            id: request.id,
            event_id: EVENT,
            user_id: request.user_id,
            status,
            seats,
            cancelled_seats: 0,
            seat_numbers: numbers.clone(),
            waiting_number: (!fits).then_some(self.last_number),
            bypassed: 0,
            created_at: jiff::Timestamp::UNIX_EPOCH,
        });
        let kind = if fits { FactKind::BookingConfirmed } else { FactKind::BookingWaitlisted };
        self.tell(kind, request.id, seats, numbers);
        Ok(())
    }

    fn may_ask_for(&self, party: &Party) -> Result<(), No> {
        let largest = self.rules.max_seats_per_booking.min(self.capacity);
        let right_size = (1..=largest).contains(&party.size());
        let Party::Numbered(numbers) = party else {
            return if right_size { Ok(()) } else { Err("invalid /seats out_of_range".into()) };
        };
        if self.rules.seating == Seating::General {
            return Err("invalid /seat_numbers not_numbered".into());
        }
        if !right_size {
            return Err("invalid /seat_numbers out_of_range".into());
        }
        let unknown = numbers.iter().filter(|n| !(1..=self.capacity).contains(*n)).count();
        if unknown > 0 {
            return Err(format!("invalid{}", " /seat_numbers out_of_range".repeat(unknown)));
        }
        let taken: Vec<u32> =
            numbers.iter().copied().filter(|n| self.owner(*n).is_some()).collect();
        if taken.is_empty() { Ok(()) } else { Err(format!("seats_unavailable {taken:?}")) }
    }

    pub fn cancel(&mut self, id: BookingId, part: &Part) -> Result<(), No> {
        let reserved = self.reserved();
        let Some(at) = self.parties.iter().position(|p| p.id == id) else {
            return Err("not_found".to_owned());
        };
        let party = self.parties[at].clone();
        if party.status == BookingStatus::Cancelled {
            let same = *part == Part::Whole;
            return if same { Ok(()) } else { Err("booking_cancelled".to_owned()) };
        }
        let numbers: Vec<u32> = match part {
            Part::Whole => party.seat_numbers.clone(),
            Part::Seats(seats) if !(1..=party.seats).contains(seats) => {
                return Err("invalid /seats out_of_range".into());
            }
            Part::Seats(seats) => {
                let kept = (party.seats - seats) as usize;
                party.seat_numbers.iter().skip(kept).copied().collect()
            }
            Part::Numbered(numbers) => {
                let foreign = numbers.iter().filter(|n| !party.seat_numbers.contains(n)).count();
                if numbers.is_empty() {
                    return Err("invalid /seat_numbers required".into());
                }
                if foreign > 0 {
                    return Err(format!("invalid{}", " /seat_numbers not_yours".repeat(foreign)));
                }
                numbers.clone()
            }
        };
        let seats = match part {
            Part::Whole => party.seats,
            Part::Seats(seats) => *seats,
            Part::Numbered(numbers) => numbers.len() as u32,
        };
        if seats == party.seats {
            self.end(at, FactKind::BookingCancelled);
        } else {
            let left = &mut self.parties[at];
            left.seats -= seats;
            left.cancelled_seats += seats;
            left.seat_numbers.retain(|n| !numbers.contains(n));
            if left.status == BookingStatus::Waitlisted {
                self.ledger.push((id, Decision::Reduced));
            }
            self.tell(FactKind::BookingCancelled, id, seats, numbers);
        }
        self.promote(reserved);
        Ok(())
    }

    /// Nothing is left of a party but its record.
    fn end(&mut self, at: usize, kind: FactKind) {
        let party = &mut self.parties[at];
        let (id, user, seats) = (party.id, party.user_id, party.seats);
        let waited = party.status == BookingStatus::Waitlisted;
        party.status = BookingStatus::Cancelled;
        let numbers = std::mem::take(&mut party.seat_numbers);
        if waited {
            self.ledger.push((id, Decision::Left));
            self.queue.push(QueueChange::Left(user));
        }
        self.tell(kind, id, seats, numbers);
    }

    pub fn resize(&mut self, capacity: u32) -> Result<(), No> {
        let reserved = self.reserved();
        if capacity < self.confirmed() {
            return Err(format!("capacity_below_confirmed {}", self.confirmed()));
        }
        let sold = capacity + 1..=self.capacity;
        let above: Vec<u32> = sold.filter(|number| self.owner(*number).is_some()).collect();
        if !above.is_empty() {
            return Err(format!("seats_above_capacity {above:?}"));
        }
        self.capacity = capacity;
        self.promote(reserved);
        Ok(())
    }

    pub fn set_policy(&mut self, policy: WaitlistPolicy) {
        let reserved = self.reserved();
        self.rules.policy = policy;
        self.promote(reserved);
    }

    pub fn sweep(&mut self) {
        self.promote(self.reserved());
    }

    pub fn close(&mut self, ids: &[BookingId]) {
        for id in ids {
            let active = |p: &Booking| p.id == *id && p.status != BookingStatus::Cancelled;
            if let Some(at) = self.parties.iter().position(active) {
                self.end(at, FactKind::EventCancelled);
            }
        }
    }

    /// In order, whoever fits; `strict` ends with the first who does not, `bypass` with the first
    /// who was passed as often as is allowed.
    fn promote(&mut self, reserved_before: u32) {
        if self.rules.status != EventStatus::Published {
            return;
        }
        let eligible: Vec<Booking> =
            self.waiting().into_iter().filter(|p| p.seats <= self.capacity).collect();
        let mut passed: Vec<BookingId> = Vec::new();
        for party in &eligible {
            let may_pass = match self.rules.policy {
                WaitlistPolicy::Strict => passed.is_empty(),
                WaitlistPolicy::Bypass { max } => {
                    self.parties.iter().all(|p| !passed.contains(&p.id) || p.bypassed < max)
                }
            };
            if !may_pass {
                break;
            }
            if party.seats > self.capacity - self.confirmed() {
                passed.push(party.id);
                continue;
            }
            for over in self.parties.iter_mut().filter(|p| passed.contains(&p.id)) {
                over.bypassed += 1;
            }
            self.ledger.extend(passed.iter().map(|id| (*id, Decision::Bypassed)));
            self.serve(party);
        }
        let head = self.waiting().into_iter().find(|p| p.seats <= self.capacity);
        if let Some(head) = head
            && self.reserved() > 0
            && self.reserved() != reserved_before
        {
            self.ledger.push((head.id, Decision::Parked));
        }
    }

    fn serve(&mut self, party: &Booking) {
        let numbers = self.lowest_free(party.seats);
        for served in self.parties.iter_mut().filter(|p| p.id == party.id) {
            served.status = BookingStatus::Confirmed;
            served.seat_numbers.clone_from(&numbers);
        }
        self.queue.push(QueueChange::Left(party.user_id));
        self.ledger.push((party.id, Decision::Promoted));
        self.tell(FactKind::WaitlistPromoted, party.id, party.seats, numbers);
    }

    fn tell(&mut self, kind: FactKind, id: BookingId, seats: u32, seat_numbers: Vec<u32>) {
        self.facts.push(Fact {
            kind,
            aggregate_id: id.0,
            event_id: Some(EVENT),
            user_id: Some(UserId(Uuid::from_u128(id.0.as_u128()))),
            seats: Some(seats),
            seat_numbers,
            booking_id: Some(id),
            invitation: None,
            alert: None,
            alarms: Vec::new(),
        });
    }
}
