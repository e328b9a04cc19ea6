//! A new event before it is kept: every value within its bounds, and all of them together an
//! event. The bounds of single values serve changes as well.

use jiff::Timestamp;

use super::event::{
    CAPACITY_MAX, Description, Event, MAX_BYPASS_DEFAULT, MAX_BYPASS_MAX, MAX_SEATS_MAX,
    SalesRules, Seating, Stock, WaitlistPolicy,
};
use super::ids::{EventId, OrganizationId};
use super::interest::{InterestCounts, Ratings};
use super::refusal::{FieldError, Refusal};
use super::seat_map::SeatMap;

/// What an organiser says of a new event. Each value was checked by itself.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// What it is.
    pub description: Description,
    /// By which rules it will be sold; a draft until it is published.
    pub rules: SalesRules,
    /// How many seats it has.
    pub capacity: u32,
    /// Where they are.
    pub seat_map: Option<SeatMap>,
}

impl EventDraft {
    /// The event, if what was said fits together.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when dates contradict each other or the seat map does not fit.
    pub fn into_event(
        self,
        id: EventId,
        organization_id: OrganizationId,
        now: Timestamp,
    ) -> Result<(Event, Option<SeatMap>), Refusal> {
        let Self { description, rules, capacity, seat_map } = self;
        let mut errors = rules.date_errors();
        if let Some(map) = &seat_map {
            if rules.seating == Seating::General {
                let detail = "only an event with numbered seats has a seat map";
                errors.push(FieldError::new("/seat_map", "not_numbered", detail));
            } else if let Err(Refusal::Invalid(mismatch)) = map.check_covers(capacity) {
                errors.extend(mismatch);
            }
        }
        if !errors.is_empty() {
            return Err(Refusal::Invalid(errors));
        }
        let event = Event {
            id,
            organization_id,
            description,
            rules,
            stock: Stock::new(capacity),
            has_seat_map: seat_map.is_some(),
            interest: InterestCounts::default(),
            ratings: Ratings::default(),
            cancel_reason: None,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        Ok((event, seat_map))
    }
}

/// How many seats an event has.
///
/// # Errors
/// `out_of_range`.
pub fn capacity(pointer: &str, raw: i64) -> Result<u32, FieldError> {
    within(pointer, raw, 1, CAPACITY_MAX)
}

/// Most seats in one booking.
///
/// # Errors
/// `out_of_range`.
pub fn max_seats_per_booking(pointer: &str, raw: i64) -> Result<u32, FieldError> {
    within(pointer, raw, 1, MAX_SEATS_MAX)
}

/// Whether seats have numbers.
///
/// # Errors
/// `unknown_seating`.
pub fn seating(pointer: &str, raw: &str) -> Result<Seating, FieldError> {
    let detail = "must be general or numbered";
    Seating::parse(raw).ok_or_else(|| FieldError::new(pointer, "unknown_seating", detail))
}

/// Who is promoted first; pointers start with `/waitlist`.
///
/// # Errors
/// `unknown_policy`, `out_of_range`.
pub fn policy(name: &str, max_bypass: Option<i64>) -> Result<WaitlistPolicy, FieldError> {
    let max = match max_bypass {
        Some(raw) => within("/waitlist/max_bypass", raw, 0, MAX_BYPASS_MAX)?,
        None => MAX_BYPASS_DEFAULT,
    };
    let detail = "must be strict or bypass";
    WaitlistPolicy::parse(name, max)
        .ok_or_else(|| FieldError::new("/waitlist/policy", "unknown_policy", detail))
}

fn within(pointer: &str, raw: i64, min: u32, max: u32) -> Result<u32, FieldError> {
    u32::try_from(raw)
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| FieldError::new(pointer, "out_of_range", format!("must be {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_both_ends() {
        for (raw, good) in [(0, false), (1, true), (1_000_000, true), (1_000_001, false)] {
            assert_eq!(capacity("/capacity", raw).is_ok(), good, "{raw}");
        }
        for raw in [-1, 0, 1001, 1 << 31, i64::MAX, i64::MIN] {
            assert!(max_seats_per_booking("/max_seats_per_booking", raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn policies_have_their_bounds() {
        assert_eq!(policy("strict", None), Ok(WaitlistPolicy::Strict));
        assert_eq!(policy("bypass", None), Ok(WaitlistPolicy::Bypass { max: 3 }));
        assert_eq!(policy("bypass", Some(0)), Ok(WaitlistPolicy::Bypass { max: 0 }));
        assert_eq!(policy("bypass", Some(1001)).unwrap_err().pointer, "/waitlist/max_bypass");
        assert_eq!(policy("fifo", None).unwrap_err().code, "unknown_policy");
    }
}
