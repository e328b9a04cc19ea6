//! Cancelling: all or part of a booking, by its owner or because the event will not take place.
//! Freed seats serve the queue at once.

use super::{Inventory, QueueChange, Waiting, out_of_range};
use crate::domain::booking::{Booking, BookingStatus, Part};
use crate::domain::fact::FactKind;
use crate::domain::ids::BookingId;
use crate::domain::refusal::{FieldError, Refusal};
use crate::domain::waitlist::{Decision, LedgerEntry};

impl Inventory {
    /// Cancels a booking or a part of it, and serves the queue. Cancelling what is cancelled
    /// answers as the first time did.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Refusal::BookingCancelled`] for a part of what is cancelled;
    /// [`Refusal::Invalid`] when the part is not of this booking.
    pub fn cancel(&mut self, id: BookingId, part: &Part) -> Result<Booking, Refusal> {
        let booking = self.bookings.get(&id).cloned().ok_or(Refusal::NotFound("booking"))?;
        if booking.status == BookingStatus::Cancelled {
            return match part {
                Part::Whole => Ok(booking),
                _ => Err(Refusal::BookingCancelled),
            };
        }
        let part = part_of(&booking, part)?;
        let booking = match part {
            Part::Whole => self.cancel_whole(booking, FactKind::BookingCancelled),
            Part::Seats(seats) => self.cancel_part(booking, seats, Vec::new()),
            Part::Numbered(numbers) => {
                let seats = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                self.cancel_part(booking, seats, numbers)
            }
        };
        self.promote("seats were given back");
        // Who asks for less may be served by that.
        Ok(self.bookings.get(&id).cloned().unwrap_or(booking))
    }

    /// Cancels bookings of a cancelled event; each person is told that the event is off.
    pub fn close(&mut self, ids: &[BookingId]) {
        for id in ids {
            let Some(booking) = self.bookings.get(id).cloned() else { continue };
            if booking.status != BookingStatus::Cancelled {
                self.cancel_whole(booking, FactKind::EventCancelled);
            }
        }
        self.park();
    }

    fn cancel_whole(&mut self, mut booking: Booking, kind: FactKind) -> Booking {
        if booking.status == BookingStatus::Confirmed {
            self.stock.confirmed -= booking.seats;
            self.seats.free(&booking.seat_numbers, booking.id);
        } else {
            self.leave(&booking);
        }
        booking.status = BookingStatus::Cancelled;
        let numbers = std::mem::take(&mut booking.seat_numbers);
        self.fact(kind, &booking, booking.seats, numbers);
        self.keep(&booking);
        booking
    }

    fn cancel_part(&mut self, mut booking: Booking, seats: u32, numbers: Vec<u32>) -> Booking {
        booking.seats -= seats;
        booking.cancelled_seats = booking.cancelled_seats.saturating_add(seats);
        if booking.status == BookingStatus::Confirmed {
            self.stock.confirmed -= seats;
            self.seats.free(&numbers, booking.id);
            booking.seat_numbers.retain(|number| !numbers.contains(number));
        } else {
            self.queue.resize(Waiting {
                id: booking.id,
                seats: booking.seats,
                number: booking.waiting_number.unwrap_or_default(),
            });
            self.changes.ledger.push(LedgerEntry {
                booking_id: booking.id,
                what: Decision::Reduced,
                why: format!("asks for {} now", booking.seats),
            });
        }
        self.fact(FactKind::BookingCancelled, &booking, seats, numbers);
        self.keep(&booking);
        booking
    }

    fn leave(&mut self, booking: &Booking) {
        self.queue.remove(booking.id);
        self.stock.waitlist_length = self.stock.waitlist_length.saturating_sub(1);
        self.changes.queue.push(QueueChange::Left(booking.user_id));
        self.changes.ledger.push(LedgerEntry {
            booking_id: booking.id,
            what: Decision::Left,
            why: "cancelled".to_owned(),
        });
    }

    pub(super) fn keep(&mut self, booking: &Booking) {
        self.changes.changed(booking.id);
        self.bookings.insert(booking.id, booking.clone());
    }
}

/// What the part comes to: all the seats are the whole; a count of numbered seats means those
/// with the highest numbers.
fn part_of(booking: &Booking, part: &Part) -> Result<Part, Refusal> {
    match part {
        Part::Whole => Ok(Part::Whole),
        Part::Seats(seats) if *seats == 0 || *seats > booking.seats => {
            Err(Refusal::Invalid(vec![out_of_range("/seats", booking.seats)]))
        }
        Part::Seats(seats) if *seats == booking.seats => Ok(Part::Whole),
        Part::Seats(seats) if booking.seat_numbers.is_empty() => Ok(Part::Seats(*seats)),
        Part::Seats(seats) => {
            let count = usize::try_from(*seats).unwrap_or(usize::MAX);
            let mut last: Vec<u32> =
                booking.seat_numbers.iter().rev().take(count).copied().collect();
            last.reverse();
            Ok(Part::Numbered(last))
        }
        Part::Numbered(numbers) => {
            let foreign: Vec<FieldError> = numbers
                .iter()
                .filter(|number| !booking.seat_numbers.contains(number))
                .map(|number| {
                    let detail = format!("{number} is not a seat of this booking");
                    FieldError::new("/seat_numbers", "not_yours", detail)
                })
                .collect();
            if numbers.is_empty() {
                let detail = "must name at least one seat";
                return Err(Refusal::invalid("/seat_numbers", "required", detail));
            }
            if !foreign.is_empty() {
                return Err(Refusal::Invalid(foreign));
            }
            let all = numbers.len() == booking.seat_numbers.len();
            Ok(if all { Part::Whole } else { Part::Numbered(numbers.clone()) })
        }
    }
}
