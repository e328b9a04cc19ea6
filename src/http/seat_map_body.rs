//! How a seat map looks on the wire, and how what organisers send of one is read.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::best_available::Point;
use crate::domain::generated_map::{self, Block};
use crate::domain::refusal::FieldError;
use crate::domain::seat_map::{MappedSeat, SeatMap, SeatRow, Section};

/// Where the seats of a numbered event are: each seat, 1 to the capacity, once.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeatMapBody {
    sections: Vec<SectionBody>,
    /// Where people look to.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<PointBody>,
}

/// The same as organizers send it: either drawn (`sections`) or described (`generate`).
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSeatMap {
    sections: Option<Vec<SectionBody>>,
    /// With `sections`: where people look to. Without it: the middle of the front (the lowest `y`).
    stage: Option<PointBody>,
    /// Rows of seats with aisles, section behind section, centred before the stage. Seats are
    /// numbered through, front to back and left to right; rows are called A, B, … Z, AA, …, seats
    /// by their row and place (`C7`).
    #[schema(min_items = 1, max_items = 100)]
    generate: Option<Vec<BlockBody>>,
}

/// A section to be generated.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BlockBody {
    /// What it is called.
    #[schema(min_length = 1, max_length = 200)]
    section: String,
    #[schema(minimum = 1, maximum = 1000)]
    rows: i64,
    #[schema(minimum = 1, maximum = 1000)]
    seats_per_row: i64,
    /// After which places of a row there is an aisle: ascending, counted from the left.
    #[schema(example = json!([6, 18]))]
    aisles_after: Option<Vec<i64>>,
    /// What kind of seats these are.
    #[schema(max_length = 200)]
    category: Option<String>,
}

/// A point in the map's own unit; `y` grows away from the front.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PointBody {
    x: f64,
    y: f64,
}

/// A part of the house.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SectionBody {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    rows: Vec<RowBody>,
}

/// Seats in a row.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RowBody {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    seats: Vec<SeatBody>,
}

/// Where a seat is.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SeatBody {
    #[schema(minimum = 1, maximum = 1_000_000)]
    number: i64,
    /// What is written on it, if not the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<f64>,
    /// What kind of seat it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
}

impl NewSeatMap {
    /// The map that is meant.
    ///
    /// # Errors
    /// Everything that is wrong, with pointers.
    pub fn parse(self) -> Result<SeatMap, Vec<FieldError>> {
        match (self.sections, self.generate) {
            (Some(sections), None) => {
                let stage = self.stage.map(|PointBody { x, y }| Point { x, y });
                SeatMap::new(sections.into_iter().map(section).collect(), stage)
            }
            (None, Some(blocks)) if self.stage.is_none() => {
                let blocks: Vec<Block> = blocks.into_iter().map(block).collect();
                generated_map::generate(&blocks)
            }
            (None, Some(_)) => {
                let detail = "is where generate puts it";
                Err(vec![FieldError::new("/seat_map/stage", "exclusive", detail)])
            }
            (Some(_), Some(_)) => {
                let detail = "cannot be given together with sections";
                Err(vec![FieldError::new("/seat_map/generate", "exclusive", detail)])
            }
            (None, None) => {
                let detail = "must be given, or generate instead";
                Err(vec![FieldError::new("/seat_map/sections", "required", detail)])
            }
        }
    }
}

fn section(section: SectionBody) -> Section {
    let seat = |seat: SeatBody| MappedSeat {
        // 0 is no seat either, and is told so.
        number: u32::try_from(seat.number).unwrap_or(0),
        label: seat.label,
        x: seat.x,
        y: seat.y,
        category: seat.category,
    };
    let row =
        |row: RowBody| SeatRow { name: row.name, seats: row.seats.into_iter().map(seat).collect() };
    Section { name: section.name, rows: section.rows.into_iter().map(row).collect() }
}

fn block(body: BlockBody) -> Block {
    // 0 is out of range as well, and is told so.
    let number = |raw: i64| u32::try_from(raw).unwrap_or(0);
    Block {
        section: body.section,
        rows: number(body.rows),
        seats_per_row: number(body.seats_per_row),
        aisles_after: body.aisles_after.unwrap_or_default().into_iter().map(number).collect(),
        category: body.category,
    }
}

impl From<&SeatMap> for SeatMapBody {
    fn from(map: &SeatMap) -> Self {
        let seat = |seat: &MappedSeat| SeatBody {
            number: i64::from(seat.number),
            label: seat.label.clone(),
            x: seat.x,
            y: seat.y,
            category: seat.category.clone(),
        };
        let row = |row: &SeatRow| RowBody {
            name: row.name.clone(),
            seats: row.seats.iter().map(seat).collect(),
        };
        let section = |section: &Section| SectionBody {
            name: section.name.clone(),
            rows: section.rows.iter().map(row).collect(),
        };
        let stage = map.stage().map(|Point { x, y }| PointBody { x, y });
        Self { sections: map.sections().iter().map(section).collect(), stage }
    }
}
