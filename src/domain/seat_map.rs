//! The plan of a numbered event: where each seat is and what it is called. It only describes;
//! which seats are free is the inventory's affair.

use std::collections::HashSet;

use super::best_available::Point;
use super::event::CAPACITY_MAX;
use super::refusal::{FieldError, FieldErrors, Refusal};
use super::text;

/// Coordinates lie between minus and plus this, in the map's own unit.
const COORDINATE_MAX: f64 = 1_000_000.0;
/// Most seats that a map can have: larger houses do without.
pub const MAPPED_MAX: usize = 100_000;
/// Most mistakes that are told at once: a map may have thousands of seats.
const ERRORS_MAX: usize = 20;

/// A part of the house.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// What it is called.
    pub name: String,
    /// Its rows.
    pub rows: Vec<SeatRow>,
}

/// Seats in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct SeatRow {
    /// What it is called.
    pub name: String,
    /// Its seats.
    pub seats: Vec<MappedSeat>,
}

/// Where a seat is.
#[derive(Clone, Debug, PartialEq)]
pub struct MappedSeat {
    /// Which: 1 to the capacity.
    pub number: u32,
    /// What is written on it, if not the number.
    pub label: Option<String>,
    /// Where it is drawn.
    pub x: Option<f64>,
    /// Where it is drawn.
    pub y: Option<f64>,
    /// What kind of seat it is.
    pub category: Option<String>,
}

/// A map in which no seat comes twice.
#[derive(Clone, Debug, PartialEq)]
pub struct SeatMap {
    sections: Vec<Section>,
    stage: Option<Point>,
}

impl SeatMap {
    /// Checks a map by itself; pointers start with `/seat_map`.
    ///
    /// # Errors
    /// What is wrong with names, coordinates and numbers, the first few of it.
    pub fn new(sections: Vec<Section>, stage: Option<Point>) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let at = |stage: Point| [("x", Some(stage.x)), ("y", Some(stage.y))];
        errors
            .extend(stage.map(|stage| misplaced("/seat_map/stage", at(stage))).unwrap_or_default());
        let mut seen = HashSet::new();
        for (s, section) in sections.iter().enumerate() {
            let at = format!("/seat_map/sections/{s}");
            errors.extend(text::line(&format!("{at}/name"), &section.name, text::NAME_MAX).err());
            for (r, row) in section.rows.iter().enumerate() {
                let at = format!("{at}/rows/{r}");
                errors.extend(text::line(&format!("{at}/name"), &row.name, text::NAME_MAX).err());
                for (i, seat) in row.seats.iter().enumerate() {
                    let fresh = seen.insert(seat.number);
                    errors.extend(seat.mistakes(&format!("{at}/seats/{i}"), fresh));
                }
                if errors.len() >= ERRORS_MAX {
                    errors.truncate(ERRORS_MAX);
                    return Err(errors);
                }
            }
        }
        if seen.len() > MAPPED_MAX {
            let detail = format!("can have at most {MAPPED_MAX} seats");
            errors.push(FieldError::new("/seat_map", "too_many", detail));
        }
        if errors.is_empty() { Ok(Self { sections, stage }) } else { Err(errors) }
    }

    /// The sections, with their rows and seats.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Where people look to, if the map says so.
    pub fn stage(&self) -> Option<Point> {
        self.stage
    }

    /// Whether it is a map of an event with this many seats.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] unless each of the seats 1 to `capacity` is in it.
    pub fn check_covers(&self, capacity: u32) -> Result<(), Refusal> {
        let seats = self.sections.iter().flat_map(|section| &section.rows).flat_map(|r| &r.seats);
        let (count, last) = seats.fold((0_u32, 0), |(count, last), seat| {
            (count.saturating_add(1), seat.number.max(last))
        });
        // Numbers are distinct and start at 1: so many, none of them higher, are all of them.
        if count == capacity && last == capacity {
            return Ok(());
        }
        let mut errors = FieldErrors::default();
        let detail = format!(
            "must have each seat from 1 to {capacity}; it has {count}, the last of them {last}"
        );
        errors.push(FieldError::new("/seat_map", "seat_map_mismatch", detail));
        errors.check()
    }
}

impl MappedSeat {
    fn mistakes(&self, at: &str, fresh: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let number = format!("{at}/number");
        if self.number == 0 || self.number > CAPACITY_MAX {
            let detail = format!("must be 1 to {CAPACITY_MAX}");
            errors.push(FieldError::new(&number, "out_of_range", detail));
        } else if !fresh {
            let detail = format!("seat {} is in the map already", self.number);
            errors.push(FieldError::new(&number, "duplicate", detail));
        }
        for (name, value) in [("label", &self.label), ("category", &self.category)] {
            let pointer = format!("{at}/{name}");
            let checked = value.as_ref().map(|value| text::line(&pointer, value, text::NAME_MAX));
            errors.extend(checked.and_then(Result::err));
        }
        errors.extend(misplaced(at, [("x", self.x), ("y", self.y)]));
        errors
    }
}

/// Coordinates that are out of range, or no numbers.
fn misplaced(at: &str, coordinates: [(&str, Option<f64>); 2]) -> Vec<FieldError> {
    let wrong = |value: &Option<f64>| !value.is_none_or(|value| value.abs() <= COORDINATE_MAX);
    let wrong = coordinates.into_iter().filter(|(_, value)| wrong(value));
    wrong
        .map(|(name, _)| {
            let detail = format!("must be between -{COORDINATE_MAX} and {COORDINATE_MAX}");
            FieldError::new(&format!("{at}/{name}"), "out_of_range", detail)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(numbers: &[u32]) -> Result<SeatMap, Vec<FieldError>> {
        let seat = |number: &u32| MappedSeat {
            number: *number,
            label: Some(format!("A{number}")),
            x: Some(f64::from(*number)),
            y: None,
            category: None,
        };
        let row = SeatRow { name: "A".to_owned(), seats: numbers.iter().map(seat).collect() };
        SeatMap::new(vec![Section { name: "Stalls".to_owned(), rows: vec![row] }], None)
    }

    #[test]
    fn every_seat_is_in_it_once() {
        map(&[3, 1, 2]).unwrap().check_covers(3).unwrap();
        let errors = map(&[1, 2, 2]).unwrap_err();
        assert_eq!(errors[0].pointer, "/seat_map/sections/0/rows/0/seats/2/number");
        assert_eq!(errors[0].code, "duplicate");
    }

    #[test]
    fn a_map_of_another_house_is_refused() {
        for numbers in [&[1, 2][..], &[1, 2, 4], &[1, 2, 3, 4], &[]] {
            let refusal = map(numbers).unwrap().check_covers(3).unwrap_err();
            assert_eq!(refusal.code(), "invalid", "{numbers:?}");
        }
    }

    #[test]
    fn impossible_seats_are_named() {
        let errors = map(&[0]).unwrap_err();
        assert_eq!(errors[0].code, "out_of_range");
        let nowhere = MappedSeat {
            number: 1,
            label: None,
            x: Some(f64::NAN),
            y: Some(f64::INFINITY),
            category: Some(String::new()),
        };
        let row = SeatRow { name: "A".to_owned(), seats: vec![nowhere] };
        let made = SeatMap::new(vec![Section { name: "S".to_owned(), rows: vec![row] }], None);
        assert_eq!(made.unwrap_err().len(), 3);
        let stage = Point { x: f64::NAN, y: 0.0 };
        let made = SeatMap::new(Vec::new(), Some(stage));
        assert_eq!(made.unwrap_err()[0].pointer, "/seat_map/stage/x");
    }
}
