//! Booking: seats now, or a place in the queue, or a reason why not.

use jiff::Timestamp;

use super::{Inventory, QueueChange, Waiting, out_of_range};
use crate::domain::booking::{Booking, BookingStatus, Party};
use crate::domain::event::Seating;
use crate::domain::fact::FactKind;
use crate::domain::ids::{BookingId, UserId};
use crate::domain::refusal::{FieldError, Refusal};
use crate::domain::waitlist::{Decision, LedgerEntry};

/// A wish for seats.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id that the booking will have.
    pub id: BookingId,
    /// Who asks.
    pub user_id: UserId,
    /// For what.
    pub party: Party,
    /// Whether they would wait.
    pub waitlist: bool,
    /// What the gate kept for them.
    pub kept: Kept,
}

/// What the gate kept for a party until it is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Seats for a party that does not choose.
    pub wish: Vec<u32>,
    /// Whether it holds the seats that it chose. It began to before the others had to wait: as
    /// long as anybody waits, nothing can be held. So it does not wait behind them.
    pub holds: bool,
}

impl Inventory {
    /// Books, or joins the queue.
    ///
    /// # Errors
    /// The event is not on sale; the party is too large; a wanted seat is taken
    /// ([`Refusal::SeatsUnavailable`]); too few seats are free and the caller would not wait
    /// ([`Refusal::SoldOut`]).
    pub fn book(&mut self, request: &Request, now: Timestamp) -> Result<Booking, Refusal> {
        self.rules.check_open(now)?;
        self.check_party(&request.party)?;
        let seats = request.party.size();
        let mut booking = Booking {
            id: request.id,
            event_id: self.event_id,
            user_id: request.user_id,
            status: BookingStatus::Confirmed,
            seats,
            cancelled_seats: 0,
            seat_numbers: Vec::new(),
            waiting_number: None,
            bypassed: 0,
            created_at: now,
        };
        if self.seat(request, &mut booking)? {
            self.fact(FactKind::BookingConfirmed, &booking, seats, booking.seat_numbers.clone());
        } else if request.waitlist {
            self.join(&mut booking);
        } else {
            return Err(Refusal::SoldOut);
        }
        self.changes.made(&booking);
        self.bookings.insert(booking.id, booking.clone());
        Ok(booking)
    }

    /// Gives the party its seats, if there are enough for it.
    fn seat(&mut self, request: &Request, booking: &mut Booking) -> Result<bool, Refusal> {
        let (seats, stock) = (booking.seats, self.stock);
        let kept = if request.kept.holds { stock.reserved } else { 0 };
        if seats > stock.available.saturating_add(kept) {
            return Ok(false);
        }
        if self.rules.seating == Seating::Numbered {
            match self.seats.take(&request.party, &request.kept.wish, booking.id) {
                Ok(numbers) => booking.seat_numbers = numbers,
                // Too many of the free seats are held: for this party they are not free.
                Err(Refusal::SoldOut) => return Ok(false),
                Err(refusal) => return Err(refusal),
            }
        }
        self.stock.available = stock.available.saturating_sub(seats);
        self.stock.reserved = stock.reserved - seats.saturating_sub(stock.available);
        self.stock.confirmed += seats;
        Ok(true)
    }

    /// Puts a party at the end of the queue. The seats that are left are not enough for it; from
    /// now on they are the queue's.
    fn join(&mut self, booking: &mut Booking) {
        self.stock.last_waiting_number = self.stock.last_waiting_number.saturating_add(1);
        self.stock.waitlist_length = self.stock.waitlist_length.saturating_add(1);
        booking.status = BookingStatus::Waitlisted;
        booking.waiting_number = Some(self.stock.last_waiting_number);
        let free = self.stock.capacity.saturating_sub(self.stock.confirmed);
        let why =
            format!("asks for {}, {} free for newcomers", booking.seats, self.stock.available);
        self.changes.ledger.push(LedgerEntry {
            booking_id: booking.id,
            what: Decision::Joined,
            why,
        });
        self.changes.queue.push(QueueChange::Joined(booking.user_id));
        self.fact(FactKind::BookingWaitlisted, booking, booking.seats, Vec::new());
        self.queue.push(Waiting {
            id: booking.id,
            seats: booking.seats,
            number: self.stock.last_waiting_number,
        });
        self.stock.available = 0;
        self.stock.reserved = free;
    }

    fn check_party(&self, party: &Party) -> Result<(), Refusal> {
        let limit = self.rules.max_seats_per_booking.min(self.stock.capacity);
        let seats = party.size();
        match party {
            Party::Seats(_) if seats == 0 || seats > limit => {
                Err(Refusal::Invalid(vec![out_of_range("/seats", limit)]))
            }
            Party::Seats(_) => Ok(()),
            Party::Numbered(_) if self.rules.seating == Seating::General => {
                let detail = "this event's seats have no numbers: send seats instead";
                Err(Refusal::invalid("/seat_numbers", "not_numbered", detail))
            }
            Party::Numbered(_) if seats == 0 || seats > limit => {
                let detail = format!("must name 1 to {limit} seats");
                Err(Refusal::invalid("/seat_numbers", "out_of_range", detail))
            }
            Party::Numbered(numbers) => {
                let wrong: Vec<FieldError> = numbers
                    .iter()
                    .filter(|&&number| number == 0 || number > self.stock.capacity)
                    .map(|number| {
                        let detail = format!(
                            "{number} is not a seat: they are 1 to {}",
                            self.stock.capacity
                        );
                        FieldError::new("/seat_numbers", "out_of_range", detail)
                    })
                    .collect();
                if !wrong.is_empty() {
                    return Err(Refusal::Invalid(wrong));
                }
                let taken = self.seats.taken_of(numbers);
                if taken.is_empty() { Ok(()) } else { Err(Refusal::SeatsUnavailable(taken)) }
            }
        }
    }
}
