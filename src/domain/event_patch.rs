//! A change of an event: which fields, and whether the event is still one afterwards.

use jiff::Timestamp;

use super::event::{Event, EventStatus, Seating, WaitlistPolicy};
use super::refusal::Refusal;
use super::seat_map::SeatMap;

/// The fields to change; `None` leaves one as it is, `Some(None)` empties one that may be empty.
/// Each value was checked by itself; [`EventPatch::apply`] checks them together.
#[derive(Clone, Debug, Default)]
pub struct EventPatch {
    /// What it is called.
    pub title: Option<String>,
    /// What it is about.
    pub description: Option<Option<String>>,
    /// For filters.
    pub category: Option<Option<String>>,
    /// Where.
    pub venue: Option<Option<String>>,
    /// When it starts.
    pub starts_at: Option<Timestamp>,
    /// When it ends.
    pub ends_at: Option<Option<Timestamp>>,
    /// When sales open.
    pub sales_open_at: Option<Option<Timestamp>>,
    /// When sales close.
    pub sales_close_at: Option<Option<Timestamp>>,
    /// How many seats.
    pub capacity: Option<u32>,
    /// Most seats in one booking.
    pub max_seats_per_booking: Option<u32>,
    /// Who is promoted first.
    pub policy: Option<WaitlistPolicy>,
    /// Where the seats are.
    pub seat_map: Option<Option<SeatMap>>,
}

impl EventPatch {
    /// The event with the changes of description and rules, as of `now`; its stock is the
    /// inventory's affair. If nothing is different, the event comes back as it was, with the same
    /// version, and there is nothing to write or tell.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when dates contradict each other or the seat map does not fit;
    /// [`Refusal::EventNotOpen`] when the event is cancelled or over.
    pub fn apply(&self, event: &Event, now: Timestamp) -> Result<Event, Refusal> {
        if matches!(event.rules.status, EventStatus::Cancelled | EventStatus::Completed) {
            return Err(Refusal::EventNotOpen(event.rules.status.name()));
        }
        let mut changed = event.clone();
        let Event { description, rules, has_seat_map, .. } = &mut changed;
        set(&mut description.title, self.title.as_ref());
        set(&mut description.description, self.description.as_ref());
        set(&mut description.category, self.category.as_ref());
        set(&mut description.venue, self.venue.as_ref());
        set(&mut rules.starts_at, self.starts_at.as_ref());
        set(&mut rules.ends_at, self.ends_at.as_ref());
        set(&mut rules.sales_open_at, self.sales_open_at.as_ref());
        set(&mut rules.sales_close_at, self.sales_close_at.as_ref());
        set(&mut rules.max_seats_per_booking, self.max_seats_per_booking.as_ref());
        set(&mut rules.policy, self.policy.as_ref());
        set(has_seat_map, self.seat_map.as_ref().map(Option::is_some).as_ref());
        let dates = changed.rules.date_errors();
        if !dates.is_empty() {
            return Err(Refusal::Invalid(dates));
        }
        self.check_map(event)?;
        let resized = self.capacity.is_some_and(|capacity| capacity != event.stock.capacity);
        let mapped = matches!(self.seat_map, Some(Some(_)));
        if changed != *event || resized || mapped {
            changed.version = event.version.saturating_add(1);
            changed.updated_at = now;
        }
        Ok(changed)
    }

    /// A map has every seat of the event, before and after the change.
    fn check_map(&self, event: &Event) -> Result<(), Refusal> {
        let capacity = self.capacity.unwrap_or(event.stock.capacity);
        match &self.seat_map {
            Some(Some(_)) if event.rules.seating == Seating::General => {
                let detail = "only an event with numbered seats has a seat map";
                Err(Refusal::invalid("/seat_map", "not_numbered", detail))
            }
            Some(Some(map)) => map.check_covers(capacity),
            None if event.has_seat_map && capacity != event.stock.capacity => {
                let detail = "the event has a seat map: send the new one with the new capacity";
                Err(Refusal::invalid("/seat_map", "required", detail))
            }
            Some(None) | None => Ok(()),
        }
    }
}

fn set<T: Clone>(field: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::event::{Description, SalesRules, Stock};
    use crate::domain::ids::{EventId, OrganizationId};
    use crate::domain::interest::{InterestCounts, Ratings};
    use crate::domain::seat_map::{MappedSeat, SeatRow, Section};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn event(seating: Seating) -> Event {
        Event {
            id: EventId(Uuid::nil()),
            organization_id: OrganizationId(Uuid::nil()),
            description: Description {
                title: "Concert".to_owned(),
                description: Some("Loud".to_owned()),
                category: None,
                venue: None,
            },
            rules: SalesRules {
                status: EventStatus::Published,
                seating,
                max_seats_per_booking: 10,
                policy: WaitlistPolicy::Strict,
                sales_open_at: None,
                sales_close_at: None,
                starts_at: at(1000),
                ends_at: Some(at(2000)),
            },
            stock: Stock::new(2),
            has_seat_map: false,
            interest: InterestCounts::default(),
            ratings: Ratings::default(),
            cancel_reason: None,
            created_at: at(0),
            updated_at: at(0),
            version: 7,
        }
    }

    fn map(seats: u32) -> SeatMap {
        let seat = |number| MappedSeat { number, label: None, x: None, y: None, category: None };
        let row = SeatRow { name: "A".to_owned(), seats: (1..=seats).map(seat).collect() };
        SeatMap::new(vec![Section { name: "Stalls".to_owned(), rows: vec![row] }], None).unwrap()
    }

    #[test]
    fn changes_what_it_names_and_keeps_the_rest() {
        let before = event(Seating::General);
        let patch = EventPatch {
            title: Some("Gala".to_owned()),
            description: Some(None),
            policy: Some(WaitlistPolicy::Bypass { max: 2 }),
            ..EventPatch::default()
        };
        let after = patch.apply(&before, at(5)).unwrap();
        assert_eq!(after.description.title, "Gala");
        assert_eq!(after.description.description, None);
        assert_eq!(after.rules.policy, WaitlistPolicy::Bypass { max: 2 });
        assert_eq!(after.rules.ends_at, before.rules.ends_at);
        assert_eq!((after.version, after.updated_at), (8, at(5)));
    }

    #[test]
    fn nothing_different_is_no_change() {
        let before = event(Seating::General);
        let patch = EventPatch {
            title: Some("Concert".to_owned()),
            capacity: Some(2),
            ..EventPatch::default()
        };
        assert_eq!(patch.apply(&before, at(5)).unwrap(), before);
        assert_eq!(EventPatch::default().apply(&before, at(5)).unwrap(), before);
        let grown = EventPatch { capacity: Some(3), ..EventPatch::default() };
        assert_eq!(grown.apply(&before, at(5)).unwrap().version, 8);
    }

    #[test]
    fn contradicting_dates_are_all_named() {
        let patch = EventPatch {
            ends_at: Some(Some(at(1000))),
            sales_open_at: Some(Some(at(3000))),
            sales_close_at: Some(Some(at(3000))),
            ..EventPatch::default()
        };
        let Err(Refusal::Invalid(errors)) = patch.apply(&event(Seating::General), at(5)) else {
            panic!("it was accepted");
        };
        let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/ends_at", "/sales_close_at", "/sales_open_at"]);
    }

    #[test]
    fn what_is_over_stays_as_it_was() {
        for status in [EventStatus::Cancelled, EventStatus::Completed] {
            let mut over = event(Seating::General);
            over.rules.status = status;
            let refused = EventPatch::default().apply(&over, at(5));
            assert_eq!(refused, Err(Refusal::EventNotOpen(status.name())));
        }
    }

    #[test]
    fn the_map_follows_the_capacity() {
        let capacity = |capacity, seat_map| EventPatch {
            capacity: Some(capacity),
            seat_map,
            ..EventPatch::default()
        };
        let mut numbered = event(Seating::Numbered);
        assert!(capacity(3, None).apply(&numbered, at(5)).is_ok());
        numbered.has_seat_map = true;
        assert_eq!(capacity(3, None).apply(&numbered, at(5)).unwrap_err().code(), "invalid");
        assert!(capacity(3, Some(Some(map(2)))).apply(&numbered, at(5)).is_err());
        let grown = capacity(3, Some(Some(map(3)))).apply(&numbered, at(5)).unwrap();
        assert!(grown.has_seat_map);
        let bare = capacity(3, Some(None)).apply(&numbered, at(5)).unwrap();
        assert!(!bare.has_seat_map);
        let general = event(Seating::General);
        assert!(capacity(2, Some(Some(map(2)))).apply(&general, at(5)).is_err());
    }
}
