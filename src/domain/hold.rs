//! Holds: seats that are kept for somebody while they decide. They belong to a token, not to a
//! connection: whoever comes back with it in time finds them.

use std::fmt;

use jiff::Timestamp;

use super::event::{EventStatus, SalesRules, Seating};
use super::ids::EventId;
use super::refusal::{FieldError, Refusal};

/// The length of a token: 32 bytes in base64url.
const TOKEN_LEN: usize = 43;

/// Names one party's holds in one event, and proves them. A secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HoldToken(String);

impl HoldToken {
    /// The token that is written so; `None` if none is: 43 characters of base64url.
    pub fn parse(raw: &str) -> Option<Self> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let good = raw.len() == TOKEN_LEN && raw.bytes().all(known);
        good.then(|| Self(raw.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HoldToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HoldToken(…)")
    }
}

/// What a token holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// In which event.
    pub event: EventId,
    /// Which token.
    pub token: HoldToken,
    /// The seats, ascending.
    pub seats: Vec<u32>,
    /// Until when. By the clock of [`Hold::server_time`], not by the caller's.
    pub expires_at: Timestamp,
    /// How often it can be renewed.
    pub renewals_left: u32,
    /// When this was said.
    pub server_time: Timestamp,
}

/// Whose share of what may be held at once is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldLimit {
    /// The person's.
    User,
    /// The address's.
    Address,
    /// The event's.
    Event,
}

/// Checks a wish for seats against the rules of the event.
///
/// # Errors
/// [`Refusal::NotFound`] for a draft; the event is not on sale; its seats have no numbers;
/// [`Refusal::Invalid`] when there are too many, or some are none of its seats.
pub fn check(
    rules: &SalesRules,
    capacity: u32,
    now: Timestamp,
    seats: &[u32],
) -> Result<(), Refusal> {
    check_event(rules, now)?;
    let limit = rules.max_seats_per_booking.min(capacity);
    if u32::try_from(seats.len()).map_or(true, |count| count > limit) {
        let detail = format!("must name at most {limit} seats");
        return Err(Refusal::invalid("/seat_numbers", "out_of_range", detail));
    }
    let wrong: Vec<FieldError> = seats
        .iter()
        .filter(|seat| !(1..=capacity).contains(*seat))
        .map(|seat| {
            let detail = format!("{seat} is not a seat: they are 1 to {capacity}");
            FieldError::new("/seat_numbers", "out_of_range", detail)
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(Refusal::Invalid(wrong)) }
}

/// Checks whether seats of the event can be held at all.
///
/// # Errors
/// [`Refusal::NotFound`] for a draft; the event is not on sale; its seats have no numbers.
pub fn check_event(rules: &SalesRules, now: Timestamp) -> Result<(), Refusal> {
    if rules.status == EventStatus::Draft {
        return Err(Refusal::NotFound("event"));
    }
    rules.check_open(now)?;
    if rules.seating == Seating::General {
        let detail = "this event's seats have no numbers: book how many";
        return Err(Refusal::invalid("/seat_numbers", "not_numbered", detail));
    }
    Ok(())
}

/// How many seats may be held at once in one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldQuotas {
    /// By one person.
    pub per_user: u32,
    /// From one address.
    pub per_address: u32,
    /// By all.
    pub per_event: u32,
}

impl HoldQuotas {
    /// The quotas of an event of `capacity` seats: as many a person as one booking may have, so
    /// many an address, and of all seats so many per cent (rounded up), so that nobody can block a
    /// whole house without buying.
    pub fn new(max_seats: u32, per_address: u32, capacity: u32, event_percent: u32) -> Self {
        let share = u64::from(capacity) * u64::from(event_percent);
        let per_event = u32::try_from(share.div_ceil(100)).unwrap_or(u32::MAX);
        Self { per_user: max_seats.min(capacity), per_address, per_event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_43_characters_of_base64url() {
        let good = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN-_0";
        assert_eq!(HoldToken::parse(good).unwrap().as_str(), good);
        assert!(!format!("{:?}", HoldToken::parse(good)).contains("abc"), "a secret is not logged");
        for bad in [
            "",
            "short",
            &good[1..],
            &format!("{good}x"),
            &good.replace('-', ":"),
            &good.replace('a', "\n"),
            &good.replace("ab", "ä"),
        ] {
            assert_eq!(HoldToken::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_small_house_can_still_be_held_in_part() {
        assert_eq!(HoldQuotas::new(10, 50, 1, 90).per_event, 1);
        assert_eq!(HoldQuotas::new(10, 50, 10, 90).per_event, 9);
        assert_eq!(HoldQuotas::new(10, 50, 1_000_000, 100).per_event, 1_000_000);
        assert_eq!(HoldQuotas::new(10, 50, 4, 90).per_user, 4);
    }
}
