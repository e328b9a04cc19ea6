//! The one promotion function, for every trigger: cancel, part-cancel, growth, new rules, sweep.

use super::{Inventory, QueueChange};
use crate::domain::booking::{BookingStatus, Party};
use crate::domain::event::{EventStatus, Seating, WaitlistPolicy};
use crate::domain::fact::FactKind;
use crate::domain::ids::BookingId;
use crate::domain::waitlist::{Decision, LedgerEntry};

impl Inventory {
    /// Serves the queue in order with what is free, by the published policy, and parks the rest.
    /// Parties larger than the event are skipped, whoever they are: they would block it for good.
    pub fn promote(&mut self, trigger: &str) {
        let parked_before = self.stock.reserved;
        self.park();
        if self.rules.status != EventStatus::Published || self.stock.reserved == 0 {
            return;
        }
        let mut free = match self.rules.seating {
            Seating::General => self.stock.reserved,
            Seating::Numbered => self.stock.reserved.min(self.seats.free_known()),
        };
        let mut passed: Vec<BookingId> = Vec::new();
        let mut served: Vec<(BookingId, u32, Vec<BookingId>)> = Vec::new();
        for (id, seats) in self.queue.iter() {
            if free == 0 {
                break;
            }
            if seats > self.stock.capacity {
                continue;
            }
            if !passed.is_empty() && !self.may_be_passed(&passed, &served) {
                break;
            }
            if seats <= free {
                free -= seats;
                served.push((id, seats, passed.clone()));
            } else {
                passed.push(id);
            }
        }
        for (id, seats, passed) in served {
            self.serve(id, seats, &passed, trigger);
        }
        self.park();
        self.note_head(parked_before);
    }

    /// Whether another party may overtake all of those already passed in this round.
    fn may_be_passed(
        &self,
        passed: &[BookingId],
        served: &[(BookingId, u32, Vec<BookingId>)],
    ) -> bool {
        let WaitlistPolicy::Bypass { max } = self.rules.policy else { return false };
        passed.iter().all(|id| {
            let before = self.bookings.get(id).map_or(0, |booking| booking.bypassed);
            let now = served.iter().filter(|(_, _, over)| over.contains(id)).count();
            u64::from(before) + u64::try_from(now).unwrap_or(u64::MAX) < u64::from(max)
        })
    }

    fn serve(&mut self, id: BookingId, seats: u32, passed: &[BookingId], trigger: &str) {
        let Some(mut booking) = self.bookings.get(&id).cloned() else { return };
        if self.rules.seating == Seating::Numbered {
            match self.seats.take(&Party::Seats(seats), &[], id) {
                Ok(numbers) => booking.seat_numbers = numbers,
                Err(_) => return,
            }
        }
        for over in passed {
            if let Some(earlier) = self.bookings.get_mut(over) {
                earlier.bypassed = earlier.bypassed.saturating_add(1);
                self.changes.changed(*over);
                self.changes.ledger.push(LedgerEntry {
                    booking_id: *over,
                    what: Decision::Bypassed,
                    why: format!("too few seats for it; a party of {seats} behind it fits"),
                });
            }
        }
        booking.status = BookingStatus::Confirmed;
        self.stock.confirmed += seats;
        self.stock.waitlist_length = self.stock.waitlist_length.saturating_sub(1);
        self.queue.remove(id);
        self.changes.queue.push(QueueChange::Left(booking.user_id));
        self.changes.ledger.push(LedgerEntry {
            booking_id: id,
            what: Decision::Promoted,
            why: trigger.to_owned(),
        });
        self.fact(FactKind::WaitlistPromoted, &booking, seats, booking.seat_numbers.clone());
        self.keep(&booking);
    }

    /// Tells the head that seats are kept for it, when their number changed.
    fn note_head(&mut self, parked_before: u32) {
        let reserved = self.stock.reserved;
        if reserved == 0 || reserved == parked_before {
            return;
        }
        let mut notes = Vec::new();
        for (id, seats) in self.queue.iter() {
            if seats <= self.stock.capacity {
                let why = format!("{reserved} of {seats} seats are kept for it");
                notes.push(LedgerEntry { booking_id: id, what: Decision::Parked, why });
                break;
            }
            let why = format!("asks for {seats}, the event has {}", self.stock.capacity);
            notes.push(LedgerEntry { booking_id: id, what: Decision::Skipped, why });
        }
        self.changes.ledger.append(&mut notes);
    }
}
