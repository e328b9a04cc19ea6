//! Bookings: a party's seats, or its place in the waitlist.

use jiff::Timestamp;

use super::ids::{BookingId, EventId, UserId};

/// How a booking stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookingStatus {
    /// The seats are theirs.
    Confirmed,
    /// They wait.
    Waitlisted,
    /// They neither have seats nor wait any more.
    Cancelled,
}

impl BookingStatus {
    /// The name in answers and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Waitlisted => "waitlisted",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Confirmed, Self::Waitlisted, Self::Cancelled]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// A party's seats, or its place in the waitlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// Which.
    pub id: BookingId,
    /// Of which event.
    pub event_id: EventId,
    /// Whose.
    pub user_id: UserId,
    /// How it stands.
    pub status: BookingStatus,
    /// Seats it has or waits for; once cancelled, those it had last.
    pub seats: u32,
    /// Seats given back while the rest was kept.
    pub cancelled_seats: u32,
    /// Its seats by number, ascending; empty with general seating and while waiting.
    pub seat_numbers: Vec<u32>,
    /// Its place in the waitlist if it ever waited; later parties have higher numbers.
    pub waiting_number: Option<i64>,
    /// How many later parties were promoted past it.
    pub bypassed: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a party asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// So many seats, whichever.
    Seats(u32),
    /// These seats: distinct, ascending.
    Numbered(Vec<u32>),
}

impl Party {
    /// How many seats that is.
    pub fn size(&self) -> u32 {
        match self {
            Self::Seats(seats) => *seats,
            Self::Numbered(numbers) => u32::try_from(numbers.len()).unwrap_or(u32::MAX),
        }
    }
}

/// How much of a booking is cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// So many seats; with numbered seating those with the highest numbers.
    Seats(u32),
    /// These seats: distinct, ascending.
    Numbered(Vec<u32>),
}
