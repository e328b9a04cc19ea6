//! Events: what people attend, when seats are on sale, and by which rules.

use jiff::{SignedDuration, Timestamp};

use super::ids::{EventId, OrganizationId};
use super::interest::{InterestCounts, Ratings};
use super::refusal::{FieldError, Refusal};

/// Largest capacity of one event.
pub const CAPACITY_MAX: u32 = 1_000_000;
/// Seats in one booking unless the organiser says otherwise.
pub const MAX_SEATS_DEFAULT: u32 = 10;
/// Most seats in one booking that an organiser may allow.
pub const MAX_SEATS_MAX: u32 = 1_000;
/// Largest bound on how often a party may be passed.
pub const MAX_BYPASS_MAX: u32 = 1_000;
/// How often a party may be passed under `bypass` unless the organiser says otherwise.
pub const MAX_BYPASS_DEFAULT: u32 = 3;
/// How long after its start an event without an end is over.
pub const OPEN_END: SignedDuration = SignedDuration::from_hours(24);

/// Where an event is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStatus {
    /// Seen by its organisers only.
    Draft,
    /// On show; seats can be booked while sales are open.
    Published,
    /// Will not take place.
    Cancelled,
    /// Has taken place.
    Completed,
}

impl EventStatus {
    /// The name in answers and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Draft, Self::Published, Self::Cancelled, Self::Completed]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// Whether seats have numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seating {
    /// Any seat is as good as another.
    General,
    /// Seats are numbered 1 to the capacity, and each is somebody's.
    Numbered,
}

impl Seating {
    /// The name in answers and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Numbered => "numbered",
        }
    }

    /// The seating of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::General, Self::Numbered].into_iter().find(|seating| seating.name() == name)
    }
}

/// Who is promoted when the head of the waitlist needs more seats than are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitlistPolicy {
    /// Nobody: freed seats are parked for the head.
    Strict,
    /// A later party that fits, but any party is passed at most so many times.
    Bypass {
        /// How often one party may be passed.
        max: u32,
    },
}

impl WaitlistPolicy {
    /// The name in answers and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Bypass { .. } => "bypass",
        }
    }

    /// How often one party may be passed.
    pub fn max_bypass(self) -> u32 {
        match self {
            Self::Strict => 0,
            Self::Bypass { max } => max,
        }
    }

    /// The policy of that name; a bound means nothing to `strict`.
    pub fn parse(name: &str, max: u32) -> Option<Self> {
        match name {
            "strict" => Some(Self::Strict),
            "bypass" => Some(Self::Bypass { max }),
            _ => None,
        }
    }
}

/// The rules under which seats of an event are sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalesRules {
    /// Where the event is in its life.
    pub status: EventStatus,
    /// Whether seats have numbers.
    pub seating: Seating,
    /// Most seats in one booking.
    pub max_seats_per_booking: u32,
    /// Who is promoted first.
    pub policy: WaitlistPolicy,
    /// Sales open then; `None`: when published.
    pub sales_open_at: Option<Timestamp>,
    /// Sales close then; `None`: when the event ends.
    pub sales_close_at: Option<Timestamp>,
    /// The event starts then.
    pub starts_at: Timestamp,
    /// The event ends then.
    pub ends_at: Option<Timestamp>,
}

impl SalesRules {
    /// Whether seats may be asked for at `now`.
    ///
    /// # Errors
    /// [`Refusal::EventNotOpen`] or [`Refusal::SalesClosed`].
    pub fn check_open(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.status != EventStatus::Published {
            return Err(Refusal::EventNotOpen(self.status.name()));
        }
        let opened = self.sales_open_at.is_none_or(|open| open <= now);
        let closed = self.sales_close_at.unwrap_or_else(|| self.over_at()) <= now;
        if opened && !closed { Ok(()) } else { Err(Refusal::SalesClosed) }
    }

    /// What is wrong with the dates together.
    pub fn date_errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.ends_at.is_some_and(|end| end <= self.starts_at) {
            errors.push(FieldError::new("/ends_at", "out_of_order", "must be after starts_at"));
        }
        let over = self.over_at();
        let close = self.sales_close_at.unwrap_or(over);
        if close > over {
            let detail = "must not be after the event's end";
            errors.push(FieldError::new("/sales_close_at", "out_of_order", detail));
        }
        if self.sales_open_at.is_some_and(|open| open >= close) {
            let detail = "must be before sales close";
            errors.push(FieldError::new("/sales_open_at", "out_of_order", detail));
        }
        errors
    }

    /// When the event is over.
    pub fn over_at(&self) -> Timestamp {
        self.ends_at
            .unwrap_or_else(|| self.starts_at.checked_add(OPEN_END).unwrap_or(Timestamp::MAX))
    }
}

/// What an event is, apart from its seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What it is called.
    pub title: String,
    /// What it is about.
    pub description: Option<String>,
    /// For filters.
    pub category: Option<String>,
    /// Where.
    pub venue: Option<String>,
}

/// The sums that one row keeps of an event's seats. `available + confirmed + reserved = capacity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stock {
    /// All seats.
    pub capacity: u32,
    /// What a newcomer can book now.
    pub available: u32,
    /// Sold.
    pub confirmed: u32,
    /// Parked for the waitlist.
    pub reserved: u32,
    /// Parties waiting.
    pub waitlist_length: u32,
    /// The last waiting number given out.
    pub last_waiting_number: i64,
    /// Numbered seating: every seat up to this one is taken.
    pub seat_cursor: u32,
    /// Rises by one with every change of the inventory.
    pub version: i64,
}

impl Stock {
    /// The stock of a new event: everything is free.
    pub fn new(capacity: u32) -> Self {
        Self {
            capacity,
            available: capacity,
            confirmed: 0,
            reserved: 0,
            waitlist_length: 0,
            last_waiting_number: 0,
            seat_cursor: 0,
            version: 1,
        }
    }
}

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub id: EventId,
    /// Whose.
    pub organization_id: OrganizationId,
    /// What it is.
    pub description: Description,
    /// By which rules it is sold.
    pub rules: SalesRules,
    /// Its seats.
    pub stock: Stock,
    /// Whether it has a seat map, which is read by itself: it is large and rarely needed.
    pub has_seat_map: bool,
    /// Who is interested, as far as it is counted.
    pub interest: InterestCounts,
    /// How it was rated, as far as it is counted.
    pub ratings: Ratings,
    /// Why it was cancelled, if it was and a reason was given.
    pub cancel_reason: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// Last changed (not by bookings).
    pub updated_at: Timestamp,
    /// Rises with every change of the description and rules (`ETag`).
    pub version: i64,
}
