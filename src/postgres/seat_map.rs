//! Seat maps: one JSON document an event, apart from the event's other columns because it is large
//! and rarely needed.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Json;

use super::inventory::corrupt;
use super::{Conn, DbError, Statements as _};
use crate::domain::best_available::Point;
use crate::domain::ids::EventId;
use crate::domain::seat_map::{MappedSeat, SeatMap, SeatRow, Section};

const FIND: &str = "SELECT seat_map FROM events WHERE id = $1 AND seat_map IS NOT NULL";
const SET: &str = "UPDATE events SET seat_map = $2 WHERE id = $1";

#[derive(Debug, Deserialize, Serialize)]
struct Stored {
    sections: Vec<StoredSection>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<(f64, f64)>,
}

#[derive(Debug, Deserialize, Serialize)]
struct StoredSection {
    name: String,
    rows: Vec<StoredRow>,
}

#[derive(Debug, Deserialize, Serialize)]
struct StoredRow {
    name: String,
    seats: Vec<StoredSeat>,
}

#[derive(Debug, Deserialize, Serialize)]
struct StoredSeat {
    number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
}

/// The event's seat map, if it has one.
pub async fn find(conn: &Conn, id: EventId) -> Result<Option<SeatMap>, DbError> {
    let Some(row) = conn.row(FIND, &[&id.0]).await? else { return Ok(None) };
    let Json(stored): Json<Stored> = row.try_get("seat_map")?;
    let sections = stored.sections.into_iter().map(section).collect();
    let stage = stored.stage.map(|(x, y)| Point { x, y });
    let map = SeatMap::new(sections, stage).map_err(|errors| {
        let first = errors.first().map(|error| format!("{}: {}", error.pointer, error.detail));
        corrupt("events", "seat_map", &first.unwrap_or_default())
    })?;
    Ok(Some(map))
}

/// Writes the event's seat map, or takes it away.
pub async fn set(tx: &Conn, id: EventId, map: Option<&SeatMap>) -> Result<(), DbError> {
    let stored = map.map(|map| {
        let sections = map.sections().iter().map(stored_section).collect();
        Json(Stored { sections, stage: map.stage().map(|stage| (stage.x, stage.y)) })
    });
    tx.run(SET, &[&id.0, &stored]).await.map(drop)
}

fn section(stored: StoredSection) -> Section {
    let row = |row: StoredRow| SeatRow {
        name: row.name,
        seats: row.seats.into_iter().map(seat).collect(),
    };
    Section { name: stored.name, rows: stored.rows.into_iter().map(row).collect() }
}

fn seat(stored: StoredSeat) -> MappedSeat {
    let StoredSeat { number, label, x, y, category } = stored;
    MappedSeat { number, label, x, y, category }
}

fn stored_section(section: &Section) -> StoredSection {
    let row = |row: &SeatRow| StoredRow {
        name: row.name.clone(),
        seats: row.seats.iter().cloned().map(stored_seat).collect(),
    };
    StoredSection { name: section.name.clone(), rows: section.rows.iter().map(row).collect() }
}

fn stored_seat(seat: MappedSeat) -> StoredSeat {
    let MappedSeat { number, label, x, y, category } = seat;
    StoredSeat { number, label, x, y, category }
}
