//! Events: what they are and by which rules they are sold. The sums of their seats stand in the
//! same row, but are written by `inventory.rs` only.

use tokio_postgres::Row;

use super::inventory::{int, rules, stock};
use super::{Conn, DbError, Statements as _};
use crate::domain::event::{Description, Event};
use crate::domain::ids::{EventId, OrganizationId};

macro_rules! columns {
    () => {
        "id, organization_id, title, description, category, venue, starts_at, ends_at, \
         sales_open_at, sales_close_at, status, cancel_reason, seating, \
         seat_map IS NOT NULL AS has_seat_map, max_seats_per_booking, waitlist_policy, \
         waitlist_max_bypass, capacity, available_slots, confirmed_seats, reserved_seats, \
         waitlist_length, last_waiting_number, seat_cursor, inventory_version, created_at, \
         updated_at, version"
    };
}

/// The columns that [`from_row`] reads.
pub const COLUMNS: &str = columns!();

const FIND: &str = concat!("SELECT ", columns!(), " FROM events WHERE id = $1");
const UPDATE: &str = "UPDATE events SET title = $2, description = $3, category = $4, venue = $5,
    starts_at = $6, ends_at = $7, sales_open_at = $8, sales_close_at = $9, status = $10,
    cancel_reason = $11, max_seats_per_booking = $12, waitlist_policy = $13,
    waitlist_max_bypass = $14, updated_at = $15, version = $16
    WHERE id = $1";

/// The event of that id.
pub async fn find(conn: &Conn, id: EventId) -> Result<Option<Event>, DbError> {
    conn.row(FIND, &[&id.0]).await?.as_ref().map(from_row).transpose()
}

/// Writes description, rules and status; not the stock, and not the seat map.
pub async fn update(conn: &Conn, event: &Event) -> Result<(), DbError> {
    let Event { id, description, rules, cancel_reason, updated_at, version, .. } = event;
    conn.run(
        UPDATE,
        &[
            &id.0,
            &description.title,
            &description.description,
            &description.category,
            &description.venue,
            &rules.starts_at,
            &rules.ends_at,
            &rules.sales_open_at,
            &rules.sales_close_at,
            &rules.status.name(),
            cancel_reason,
            &int(rules.max_seats_per_booking),
            &rules.policy.name(),
            &int(rules.policy.max_bypass()),
            updated_at,
            version,
        ],
    )
    .await?;
    Ok(())
}

/// Reads a row of [`COLUMNS`].
pub fn from_row(row: &Row) -> Result<Event, DbError> {
    Ok(Event {
        id: EventId(row.try_get("id")?),
        organization_id: OrganizationId(row.try_get("organization_id")?),
        description: Description {
            title: row.try_get("title")?,
            description: row.try_get("description")?,
            category: row.try_get("category")?,
            venue: row.try_get("venue")?,
        },
        rules: rules(row)?,
        stock: stock(row)?,
        has_seat_map: row.try_get("has_seat_map")?,
        cancel_reason: row.try_get("cancel_reason")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}
