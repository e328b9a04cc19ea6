//! Seat maps for organisers without a drawing: rows of seats with aisles, section behind section,
//! centred before the stage. Seats are numbered through, front to back and left to right; rows are
//! called A, B, … Z, AA, … and never by the same name twice; a seat is labelled by its row and its
//! place in it (`C7`).

use super::best_available::Point;
use super::refusal::FieldError;
use super::seat_map::{MAPPED_MAX, MappedSeat, SeatMap, SeatRow, Section};

/// Most rows of a section, and most seats of a row.
const SIDE_MAX: u32 = 1_000;
/// Most sections.
const BLOCKS_MAX: usize = 100;
/// An aisle, and the way between two sections, are as wide as this many seats.
const GAP: u32 = 1;

/// A section to be generated.
#[derive(Clone, Debug)]
pub struct Block {
    /// What it is called.
    pub section: String,
    /// How many rows.
    pub rows: u32,
    /// How many seats in each.
    pub seats_per_row: u32,
    /// After which places of a row there is an aisle, counted from the left, ascending.
    pub aisles_after: Vec<u32>,
    /// What kind of seats these are.
    pub category: Option<String>,
}

/// The map that is described.
///
/// # Errors
/// Everything that is wrong, with pointers that start with `/seat_map/generate`.
pub fn generate(blocks: &[Block]) -> Result<SeatMap, Vec<FieldError>> {
    let errors = mistakes(blocks);
    if !errors.is_empty() {
        return Err(errors);
    }
    let (mut number, mut row_number, mut depth) = (1, 0, 0_u32);
    let mut sections = Vec::with_capacity(blocks.len());
    for block in blocks {
        let aisles = u32::try_from(block.aisles_after.len()).unwrap_or(0);
        let width = block.seats_per_row - 1 + GAP * aisles;
        let mut rows = Vec::new();
        for _ in 0..block.rows {
            let name = letters(row_number);
            let seats = (1..=block.seats_per_row).map(|place| {
                let crossed = block.aisles_after.iter().filter(|after| **after < place).count();
                let x = place - 1 + GAP * u32::try_from(crossed).unwrap_or(0);
                MappedSeat {
                    number: number + place - 1,
                    label: Some(format!("{name}{place}")),
                    x: Some(f64::from(x) - f64::from(width) / 2.0),
                    y: Some(f64::from(depth)),
                    category: block.category.clone(),
                }
            });
            let seats = seats.collect();
            rows.push(SeatRow { name, seats });
            number += block.seats_per_row;
            row_number += 1;
            depth += 1;
        }
        depth += GAP;
        sections.push(Section { name: block.section.clone(), rows });
    }
    SeatMap::new(sections, Some(Point { x: 0.0, y: -2.0 }))
}

fn mistakes(blocks: &[Block]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if blocks.is_empty() || blocks.len() > BLOCKS_MAX {
        let detail = format!("must describe 1 to {BLOCKS_MAX} sections");
        errors.push(FieldError::new("/seat_map/generate", "out_of_range", detail));
    }
    for (index, block) in blocks.iter().enumerate() {
        let at = format!("/seat_map/generate/{index}");
        for (name, value) in [("rows", block.rows), ("seats_per_row", block.seats_per_row)] {
            if !(1..=SIDE_MAX).contains(&value) {
                let detail = format!("must be 1 to {SIDE_MAX}");
                errors.push(FieldError::new(&format!("{at}/{name}"), "out_of_range", detail));
            }
        }
        let inside = |after: &u32| (1..block.seats_per_row).contains(after);
        let ascending = block.aisles_after.is_sorted_by(|a, b| a < b);
        if !ascending || !block.aisles_after.iter().all(inside) {
            let detail = "must be places within the row, ascending, before the last one";
            errors.push(FieldError::new(&format!("{at}/aisles_after"), "out_of_range", detail));
        }
    }
    let all = blocks.iter().map(|block| u64::from(block.rows) * u64::from(block.seats_per_row));
    if usize::try_from(all.sum::<u64>()).map_or(true, |all| all > MAPPED_MAX) {
        let detail = format!("can have at most {MAPPED_MAX} seats");
        errors.push(FieldError::new("/seat_map/generate", "too_many", detail));
    }
    errors
}

/// A, B, … Z, AA, AB, …
fn letters(mut row: u32) -> String {
    let mut name = Vec::new();
    loop {
        name.push(char::from_digit(row % 26 + 10, 36).unwrap_or('a').to_ascii_uppercase());
        if row < 26 {
            break;
        }
        row = row / 26 - 1;
    }
    name.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(rows: u32, seats_per_row: u32, aisles_after: &[u32]) -> Block {
        let (section, aisles_after) = ("Stalls".to_owned(), aisles_after.to_vec());
        Block { section, rows, seats_per_row, aisles_after, category: None }
    }

    #[test]
    fn rows_are_called_like_columns_of_a_sheet() {
        let names: Vec<String> = [0, 25, 26, 51, 52, 701, 702].into_iter().map(letters).collect();
        assert_eq!(names, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }

    #[test]
    fn every_seat_has_its_place_before_the_stage() {
        let map = generate(&[block(2, 6, &[2, 4]), block(1, 3, &[])]).unwrap();
        map.check_covers(15).unwrap();
        let [stalls, circle] = map.sections() else { panic!("two sections") };
        let row = &stalls.rows[1];
        assert_eq!((row.name.as_str(), row.seats[2].label.as_deref()), ("B", Some("B3")));
        let xs: Vec<f64> = row.seats.iter().filter_map(|seat| seat.x).collect();
        assert_eq!(format!("{xs:?}"), "[-3.5, -2.5, -0.5, 0.5, 2.5, 3.5]");
        let last = &circle.rows[0].seats[2];
        assert_eq!((last.number, last.label.as_deref()), (15, Some("C3")));
        assert!(last.y > Some(2.0), "there is a way between the sections");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let wrong = |blocks: &[Block]| -> Vec<String> {
            let errors = generate(blocks).unwrap_err();
            errors.into_iter().map(|error| error.pointer).collect()
        };
        assert_eq!(wrong(&[]), ["/seat_map/generate"]);
        assert_eq!(
            wrong(&[block(1, 1, &[]), block(0, 1001, &[0])]),
            [
                "/seat_map/generate/1/rows",
                "/seat_map/generate/1/seats_per_row",
                "/seat_map/generate/1/aisles_after"
            ]
        );
        for aisles in [&[5_u32][..], &[3, 2], &[2, 2]] {
            assert_eq!(wrong(&[block(2, 5, aisles)]), ["/seat_map/generate/0/aisles_after"]);
        }
        assert_eq!(wrong(&[block(1000, 1000, &[])]), ["/seat_map/generate"]);
    }
}
