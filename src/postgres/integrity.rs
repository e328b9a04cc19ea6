//! The truth in the form in which others are compared with it, and the truth compared with itself.

use tokio_postgres::Row;
use uuid::Uuid;

use super::inventory::count;
use super::{Conn, DbError, Statements as _};
use crate::domain::ids::{EventId, UserId};
use crate::domain::stock_view::Snapshot;

const SUMS: &str = "SELECT id, available_slots, inventory_version, waitlist_length,
        CASE WHEN seating = 'numbered' THEN confirmed_seats ELSE 0 END AS sold FROM events
    WHERE status = 'published' AND id > $1 ORDER BY id LIMIT $2";
const SNAPSHOT: &str = "SELECT e.available_slots, e.inventory_version, e.capacity,
        e.seating = 'numbered' AS numbered,
        CASE WHEN e.seating = 'numbered'
             THEN ARRAY(SELECT s.seat_number FROM booking_seats s WHERE s.event_id = e.id
                        ORDER BY s.seat_number)
             ELSE '{}'::int[] END AS taken,
        ARRAY(SELECT b.user_id FROM bookings b
              WHERE b.event_id = e.id AND b.status = 'waitlisted'
              ORDER BY b.waiting_number) AS waiting
    FROM events e WHERE e.id = $1";
/// Each row is an event whose sums are not what its bookings say, or whose seats are not.
const BROKEN: &str = "SELECT e.id, e.capacity, e.available_slots, e.confirmed_seats,
        e.reserved_seats, e.waitlist_length, b.sold, b.waiting, s.seats, s.misplaced
    FROM (SELECT * FROM events WHERE id > $1 ORDER BY id LIMIT $2) e
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(seats) FILTER (WHERE status = 'confirmed'), 0) AS sold,
               count(*) FILTER (WHERE status = 'waitlisted') AS waiting
        FROM bookings WHERE event_id = e.id) b
    CROSS JOIN LATERAL (
        SELECT count(*) AS seats,
               count(*) FILTER (WHERE t.seat_number > e.capacity OR k.status <> 'confirmed')
                   AS misplaced
        FROM booking_seats t JOIN bookings k ON k.id = t.booking_id
        WHERE t.event_id = e.id) s
    WHERE e.confirmed_seats <> b.sold OR e.waitlist_length <> b.waiting
       OR e.confirmed_seats + e.reserved_seats > e.capacity
       OR e.available_slots + e.confirmed_seats + e.reserved_seats <> e.capacity
       OR (e.seating = 'numbered' AND s.seats <> e.confirmed_seats)
       OR s.misplaced > 0
    ORDER BY e.id";
/// PostgreSQL has no `max` of uuids before version 18.
const NEXT: &str = "SELECT id FROM (SELECT id FROM events WHERE id > $1 ORDER BY id LIMIT $2) e
    ORDER BY id DESC LIMIT 1";

/// What one row of a published event says of its seats.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    /// Which event.
    pub event: EventId,
    /// Seats available to newcomers.
    pub available: u32,
    /// The inventory's version.
    pub version: i64,
    /// Parties waiting.
    pub waiting: u32,
    /// Numbered seats that are somebody's.
    pub sold: u32,
}

/// The sums of published events after `after`.
pub async fn sums(conn: &Conn, after: EventId, limit: i64) -> Result<Vec<Sums>, DbError> {
    let rows = conn.rows(SUMS, &[&after.0, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Sums {
                event: EventId(row.try_get("id")?),
                available: count(row.try_get("available_slots")?, "events", "available_slots")?,
                version: row.try_get("inventory_version")?,
                waiting: count(row.try_get("waitlist_length")?, "events", "waitlist_length")?,
                sold: count(row.try_get("sold")?, "events", "confirmed_seats")?,
            })
        })
        .collect()
}

/// What PostgreSQL says of an event at one moment; `None` if there is no such event.
pub async fn snapshot(conn: &Conn, event: EventId) -> Result<Option<Snapshot>, DbError> {
    let Some(row) = conn.row(SNAPSHOT, &[&event.0]).await? else { return Ok(None) };
    let waiting: Vec<Uuid> = row.try_get("waiting")?;
    let taken: Vec<i32> = row.try_get("taken")?;
    Ok(Some(Snapshot {
        event,
        version: row.try_get("inventory_version")?,
        available: count(row.try_get("available_slots")?, "events", "available_slots")?,
        total: count(row.try_get("capacity")?, "events", "capacity")?,
        numbered: row.try_get("numbered")?,
        taken: taken
            .into_iter()
            .map(|number| count(number, "booking_seats", "seat_number"))
            .collect::<Result<_, _>>()?,
        waiting: waiting.into_iter().map(UserId).collect(),
    }))
}

/// An event whose sums contradict its bookings.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which event.
    pub event: EventId,
    /// What contradicts what.
    pub detail: String,
}

/// Looks at `limit` events after `after`: those that contradict themselves, and where to go on.
pub async fn broken(
    conn: &Conn,
    after: EventId,
    limit: i64,
) -> Result<(Vec<Broken>, Option<EventId>), DbError> {
    let rows = conn.rows(BROKEN, &[&after.0, &limit]).await?;
    let broken = rows.iter().map(contradiction).collect::<Result<_, _>>()?;
    let next: Option<Uuid> = match conn.row(NEXT, &[&after.0, &limit]).await? {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    Ok((broken, next.map(EventId)))
}

fn contradiction(row: &Row) -> Result<Broken, DbError> {
    let int = |column: &str| row.try_get::<_, i32>(column);
    let long = |column: &str| row.try_get::<_, i64>(column);
    let detail = format!(
        "capacity {} = available {} + confirmed {} + reserved {}? bookings say {} sold, {} \
         waiting (the event {}); {} seats given out, {} of them wrongly",
        int("capacity")?,
        int("available_slots")?,
        int("confirmed_seats")?,
        int("reserved_seats")?,
        long("sold")?,
        long("waiting")?,
        int("waitlist_length")?,
        long("seats")?,
        long("misplaced")?,
    );
    Ok(Broken { event: EventId(row.try_get("id")?), detail })
}
