//! What people read of bookings: their own, those of an event, and where a party stands in the
//! queue. Nothing is written here.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::booking::from_row;
use super::event::status;
use super::inventory::{corrupt, count};
use super::{Conn, DbError, Statements as _};
use crate::domain::booking::{Booking, BookingStatus};
use crate::domain::event::EventStatus;
use crate::domain::ids::{BookingId, EventId, OrganizationId, UserId};
use crate::domain::waitlist::Standing;

macro_rules! columns {
    () => {
        "b.id, b.event_id, b.user_id, b.status, b.seats, b.cancelled_seats, b.waiting_number, \
         b.bypassed, b.created_at, \
         ARRAY(SELECT s.seat_number FROM booking_seats s WHERE s.booking_id = b.id \
               ORDER BY s.seat_number) AS seat_numbers"
    };
}

const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    ", e.organization_id FROM bookings b JOIN events e ON e.id = b.event_id WHERE b.id = $1"
);
const OF_USER: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM bookings b WHERE b.user_id = $1 \
       AND b.id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') \
       AND ($3::text IS NULL OR b.status = $3) ORDER BY b.id DESC LIMIT $4"
);
const OF_EVENT: &str = concat!(
    "SELECT ",
    columns!(),
    ", coalesce(u.name, '') AS user_name FROM bookings b LEFT JOIN users u ON u.id = b.user_id \
     WHERE b.event_id = $1 \
       AND b.id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000') \
       AND ($3::text IS NULL OR b.status = $3) ORDER BY b.id LIMIT $4"
);
const WAITING: &str = concat!(
    "SELECT ",
    columns!(),
    ", coalesce(u.name, '') AS user_name FROM bookings b LEFT JOIN users u ON u.id = b.user_id \
     WHERE b.event_id = $1 AND b.status = 'waitlisted' AND b.waiting_number > $2 \
     ORDER BY b.waiting_number LIMIT $3"
);
const WAITING_UP_TO: &str = "SELECT count(*) FROM bookings
    WHERE event_id = $1 AND status = 'waitlisted' AND waiting_number <= $2";
/// One statement, so that position, queue and event are of one moment.
const STANDING: &str = concat!(
    "SELECT ",
    columns!(),
    ", e.organization_id, e.status AS event_status, e.capacity, e.reserved_seats, \
       ahead.parties, ahead.wanted \
     FROM bookings b JOIN events e ON e.id = b.event_id \
     CROSS JOIN LATERAL ( \
         SELECT count(*) AS parties, coalesce(sum(w.seats), 0)::bigint AS wanted \
         FROM bookings w \
         WHERE w.event_id = b.event_id AND w.status = 'waitlisted' \
           AND b.status = 'waitlisted' AND w.waiting_number < b.waiting_number) ahead \
     WHERE b.id = $1"
);
/// The latest lines; a party that waits long enough may have very many.
const HISTORY: &str = "SELECT at, what, why FROM waitlist_ledger WHERE booking_id = $1
    ORDER BY id DESC LIMIT $2";
/// One statement, so that counts and seats are of one moment.
const SEATS: &str = "SELECT e.organization_id, e.status, e.capacity, e.available_slots,
        e.inventory_version, e.seating = 'numbered' AS numbered,
        CASE WHEN e.seating = 'numbered'
             THEN ARRAY(SELECT s.seat_number FROM booking_seats s WHERE s.event_id = e.id
                        ORDER BY s.seat_number)
             ELSE '{}'::int[] END AS taken
    FROM events e WHERE e.id = $1";
const INVENTORY_VERSION: &str = "SELECT inventory_version FROM events WHERE id = $1";

/// A booking, and whose event it is for.
pub type Owned = (Booking, OrganizationId);

/// A booking, and what its owner is called.
pub type Named = (Booking, String);

/// The booking of that id.
pub async fn find(conn: &Conn, id: BookingId) -> Result<Option<Owned>, DbError> {
    let Some(row) = conn.row(FIND, &[&id.0]).await? else { return Ok(None) };
    Ok(Some((from_row(&row)?, OrganizationId(row.try_get("organization_id")?))))
}

/// Somebody's bookings, newest first, before `before`.
pub async fn of_user(
    conn: &Conn,
    user: UserId,
    status: Option<BookingStatus>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Booking>, DbError> {
    let status = status.map(BookingStatus::name);
    let rows = conn.rows(OF_USER, &[&user.0, &before, &status, &limit]).await?;
    rows.iter().map(from_row).collect()
}

/// An event's bookings, oldest first, after `after`.
pub async fn of_event(
    conn: &Conn,
    event: EventId,
    status: Option<BookingStatus>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Named>, DbError> {
    let status = status.map(BookingStatus::name);
    let rows = conn.rows(OF_EVENT, &[&event.0, &after, &status, &limit]).await?;
    rows.iter().map(named).collect()
}

/// An event's waiting parties, first in line first, after the waiting number `after`.
pub async fn waiting(
    conn: &Conn,
    event: EventId,
    after: i64,
    limit: i64,
) -> Result<Vec<Named>, DbError> {
    conn.rows(WAITING, &[&event.0, &after, &limit]).await?.iter().map(named).collect()
}

/// How many parties wait with a waiting number up to `number`.
pub async fn waiting_up_to(conn: &Conn, event: EventId, number: i64) -> Result<u32, DbError> {
    let row = conn.row(WAITING_UP_TO, &[&event.0, &number]).await?;
    row.map_or(Ok(0), |row| big(row.try_get(0)?, "count"))
}

/// A booking's place in the queue, if it waits, and what the place depends on.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The booking.
    pub booking: Booking,
    /// Whose event it is for.
    pub organization_id: OrganizationId,
    /// How the event stands.
    pub event_status: EventStatus,
    /// The event's seats.
    pub capacity: u32,
    /// Seats kept for the queue.
    pub reserved: u32,
    /// Its place; `None`: it does not wait.
    pub standing: Option<Standing>,
}

/// Where a booking stands in the queue.
pub async fn standing(conn: &Conn, id: BookingId) -> Result<Option<Queued>, DbError> {
    let Some(row) = conn.row(STANDING, &[&id.0]).await? else { return Ok(None) };
    let booking = from_row(&row)?;
    let parties_ahead = big(row.try_get("parties")?, "count")?;
    let standing = (booking.status == BookingStatus::Waitlisted).then_some(Standing {
        position: parties_ahead.saturating_add(1),
        parties_ahead,
        seats_ahead: big(row.try_get("wanted")?, "seats")?,
    });
    Ok(Some(Queued {
        booking,
        organization_id: OrganizationId(row.try_get("organization_id")?),
        event_status: status(row.try_get("event_status")?)?,
        capacity: count(row.try_get("capacity")?, "events", "capacity")?,
        reserved: count(row.try_get("reserved_seats")?, "events", "reserved_seats")?,
        standing,
    }))
}

/// A line of the ledger as it is read.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was decided.
    pub at: Timestamp,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What was decided about a booking, the latest `limit` decisions, oldest first.
pub async fn history(conn: &Conn, id: BookingId, limit: i64) -> Result<Vec<Entry>, DbError> {
    let rows = conn.rows(HISTORY, &[&id.0, &limit]).await?;
    let entry = |row: &Row| {
        Ok(Entry { at: row.try_get("at")?, what: row.try_get("what")?, why: row.try_get("why")? })
    };
    rows.iter().rev().map(entry).collect()
}

/// Which seats of an event are whose to have, at one moment.
#[derive(Clone, Debug)]
pub struct SeatsNow {
    /// Whose event it is.
    pub organization_id: OrganizationId,
    /// How the event stands.
    pub status: EventStatus,
    /// All seats.
    pub total: u32,
    /// What a newcomer can book now.
    pub available: u32,
    /// The inventory's version.
    pub version: i64,
    /// Whether seats have numbers.
    pub numbered: bool,
    /// Those that are somebody's, ascending; empty with general seating.
    pub taken: Vec<u32>,
}

/// Which seats of an event are taken.
pub async fn seats(conn: &Conn, event: EventId) -> Result<Option<SeatsNow>, DbError> {
    let Some(row) = conn.row(SEATS, &[&event.0]).await? else { return Ok(None) };
    let taken: Vec<i32> = row.try_get("taken")?;
    Ok(Some(SeatsNow {
        organization_id: OrganizationId(row.try_get("organization_id")?),
        status: status(row.try_get("status")?)?,
        total: count(row.try_get("capacity")?, "events", "capacity")?,
        available: count(row.try_get("available_slots")?, "events", "available_slots")?,
        version: row.try_get("inventory_version")?,
        numbered: row.try_get("numbered")?,
        taken: taken
            .into_iter()
            .map(|number| count(number, "booking_seats", "seat_number"))
            .collect::<Result<_, _>>()?,
    }))
}

/// The version of an event's inventory.
pub async fn inventory_version(conn: &Conn, event: EventId) -> Result<Option<i64>, DbError> {
    let row = conn.row(INVENTORY_VERSION, &[&event.0]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

fn named(row: &Row) -> Result<Named, DbError> {
    Ok((from_row(row)?, row.try_get("user_name")?))
}

fn big(value: i64, column: &'static str) -> Result<u32, DbError> {
    u32::try_from(value).map_err(|_| corrupt("bookings", column, &value.to_string()))
}
