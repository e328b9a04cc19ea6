//! What will be asked for, by whom, in which order. A pure function of the options and a seed, so
//! that a run can be repeated and its demand is known before the first request.

use std::ops::RangeInclusive;
use std::time::Duration;

use uuid::Uuid;

/// When to stop asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After so many bookings were asked for.
    Bookings(u64),
    /// After this time.
    For(Duration),
}

/// A load: what the options come down to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Makes the keys of this run different from every other's.
    pub run: String,
    /// Decides all that is random.
    pub seed: u64,
    /// The events to book, in turn.
    pub events: Vec<Uuid>,
    /// Seats of each event.
    pub capacity: u32,
    /// How many people book, in turn.
    pub people: u64,
    /// Sizes of parties.
    pub parties: RangeInclusive<u32>,
    /// Of a hundred bookings, how many are cancelled once they are answered.
    pub cancel_percent: u8,
    /// Of a hundred bookings, how many are sent twice at once under one key.
    pub duplicate_percent: u8,
    /// Whether the seats have numbers; every second party then names those it wants.
    pub numbered: bool,
    /// Whether who gets no seats wants to wait for some.
    pub waitlist: bool,
    /// Whether bookings carry an `Idempotency-Key`.
    pub keys: bool,
    /// When to stop.
    pub limit: Limit,
}

/// One booking to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which, counted from 0.
    pub index: u64,
    /// Which of the people asks.
    pub person: usize,
    /// Which of the events it is for.
    pub event: usize,
    /// How many seats.
    pub seats: u32,
    /// The first of the adjoining seats asked for by number; `None`: any.
    pub first_seat: Option<u32>,
    /// Sent twice at once under one key.
    pub twice: bool,
    /// Cancelled once it is answered.
    pub cancel: bool,
}

impl Plan {
    /// The booking of that index.
    pub fn ask(&self, index: u64) -> Ask {
        let mut dice = Dice(self.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (least, most) = (*self.parties.start(), *self.parties.end());
        let seats = least.saturating_add(dice.below(u64::from(most.saturating_sub(least)) + 1));
        let events = u64::try_from(self.events.len()).unwrap_or(1).max(1);
        let twice = self.keys && dice.below(100) < u32::from(self.duplicate_percent);
        let cancel = dice.below(100) < u32::from(self.cancel_percent);
        let named = self.numbered && dice.below(2) == 0 && seats <= self.capacity;
        let starts = u64::from(self.capacity.saturating_sub(seats)) + 1;
        Ask {
            index,
            // Neighbours in time are different people, so no account's rate limit is met first.
            person: usize::try_from(index.checked_rem(self.people).unwrap_or(0)).unwrap_or(0),
            event: usize::try_from(index % events).unwrap_or(0),
            seats,
            first_seat: named.then(|| dice.below(starts).saturating_add(1)),
            twice,
            cancel,
        }
    }

    /// The key of that booking.
    pub fn key(&self, index: u64) -> String {
        format!("hammer-{}-{index}", self.run)
    }

    /// The body that asks for it.
    pub fn body(&self, ask: &Ask) -> String {
        let event = self.events.get(ask.event).copied().unwrap_or_default();
        let waitlist = if self.waitlist { "" } else { r#","waitlist":false"# };
        match ask.first_seat {
            None => format!(r#"{{"event_id":"{event}","seats":{}{waitlist}}}"#, ask.seats),
            Some(first) => {
                let numbers: Vec<u32> = (first..first.saturating_add(ask.seats)).collect();
                format!(r#"{{"event_id":"{event}","seat_numbers":{numbers:?}{waitlist}}}"#)
            }
        }
    }
}

/// `SplitMix64`: small, fast, and good enough to shuffle parties.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        u32::try_from(mixed.checked_rem(bound).unwrap_or(0)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::hammer) fn plan() -> Plan {
        Plan {
            run: "t".to_owned(),
            seed: 7,
            events: vec![Uuid::from_u128(1), Uuid::from_u128(2)],
            capacity: 10,
            people: 3,
            parties: 1..=4,
            cancel_percent: 20,
            duplicate_percent: 10,
            numbered: true,
            waitlist: true,
            keys: true,
            limit: Limit::Bookings(10),
        }
    }

    #[test]
    fn a_plan_repeats_itself_and_keeps_to_its_options() {
        let plan = plan();
        let asks: Vec<Ask> = (0..10_000).map(|index| plan.ask(index)).collect();
        assert_eq!(asks[77], plan.ask(77));
        assert!(asks.iter().all(|ask| (1..=4).contains(&ask.seats)));
        assert!(asks.iter().all(|ask| ask.event < 2 && ask.person < 3));
        let share = |of: fn(&Ask) -> bool| asks.iter().filter(|ask| of(ask)).count();
        assert!((1800..2200).contains(&share(|ask| ask.cancel)));
        assert!((900..1100).contains(&share(|ask| ask.twice)));
        assert!((4700..5300).contains(&share(|ask| ask.first_seat.is_some())));
        assert!((2300..2700).contains(&share(|ask| ask.seats == 4)));
        for ask in asks {
            let first = ask.first_seat.unwrap_or(1);
            assert!(first >= 1 && first + ask.seats - 1 <= 10);
        }
    }

    #[test]
    fn bodies_are_json_of_the_contract() {
        let mut plan = plan();
        plan.waitlist = false;
        let ask = Ask { first_seat: Some(3), seats: 2, ..plan.ask(0) };
        let body: serde_json::Value = serde_json::from_str(&plan.body(&ask)).unwrap();
        assert_eq!(body["seat_numbers"], serde_json::json!([3, 4]));
        assert_eq!(body["waitlist"], false);
        let body: serde_json::Value =
            serde_json::from_str(&plan.body(&Ask { first_seat: None, ..ask })).unwrap();
        assert_eq!(body["seats"], 2);
    }
}
