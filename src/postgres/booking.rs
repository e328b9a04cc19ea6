//! Bookings as the desk writes them: many at once.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::inventory::{corrupt, count, int};
use super::{Conn, DbError, Statements as _};
use crate::domain::booking::{Booking, BookingStatus};
use crate::domain::ids::{BookingId, EventId, UserId};

pub(super) const FIND_MANY: &str = "SELECT b.id, b.event_id, b.user_id, b.status, b.seats,
        b.cancelled_seats, b.waiting_number, b.bypassed, b.created_at,
        ARRAY(SELECT s.seat_number FROM booking_seats s WHERE s.booking_id = b.id
              ORDER BY s.seat_number) AS seat_numbers
    FROM bookings b WHERE b.id = ANY($1)";
pub(super) const INSERT_MANY: &str = "INSERT INTO bookings (id, event_id, user_id, status, seats,
        cancelled_seats, waiting_number, bypassed, created_at, updated_at)
    SELECT id, event_id, user_id, status, seats, cancelled_seats, waiting_number, bypassed, $9, $9
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::int[],
                $7::bigint[], $8::int[])
        AS u (id, event_id, user_id, status, seats, cancelled_seats, waiting_number, bypassed)";
pub(super) const UPDATE_MANY: &str = "UPDATE bookings b SET status = u.status, seats = u.seats,
        cancelled_seats = u.cancelled_seats, bypassed = u.bypassed, updated_at = $6
    FROM unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::int[])
        AS u (id, status, seats, cancelled_seats, bypassed)
    WHERE b.id = u.id";
const ACTIVE_OF_EVENT: &str = "SELECT b.id, b.event_id, b.user_id, b.status, b.seats,
        b.cancelled_seats, b.waiting_number, b.bypassed, b.created_at,
        ARRAY(SELECT s.seat_number FROM booking_seats s WHERE s.booking_id = b.id
              ORDER BY s.seat_number) AS seat_numbers
    FROM bookings b
    WHERE b.event_id = $1 AND b.id > $2 AND b.status <> 'cancelled' ORDER BY b.id LIMIT $3";

/// Writes new bookings.
pub(super) async fn insert_many(
    conn: &Conn,
    bookings: &[Booking],
    now: Timestamp,
) -> Result<(), DbError> {
    if bookings.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = bookings.iter().map(|one| one.id.0).collect();
    let events: Vec<Uuid> = bookings.iter().map(|one| one.event_id.0).collect();
    let users: Vec<Uuid> = bookings.iter().map(|one| one.user_id.0).collect();
    let statuses: Vec<&str> = bookings.iter().map(|one| one.status.name()).collect();
    let seats: Vec<i32> = bookings.iter().map(|one| int(one.seats)).collect();
    let cancelled: Vec<i32> = bookings.iter().map(|one| int(one.cancelled_seats)).collect();
    let numbers: Vec<Option<i64>> = bookings.iter().map(|one| one.waiting_number).collect();
    let bypassed: Vec<i32> = bookings.iter().map(|one| int(one.bypassed)).collect();
    conn.run(
        INSERT_MANY,
        &[&ids, &events, &users, &statuses, &seats, &cancelled, &numbers, &bypassed, &now],
    )
    .await
    .map(drop)
}

/// Writes what is different about bookings.
pub(super) async fn update_many(
    conn: &Conn,
    bookings: &[Booking],
    now: Timestamp,
) -> Result<(), DbError> {
    if bookings.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = bookings.iter().map(|one| one.id.0).collect();
    let statuses: Vec<&str> = bookings.iter().map(|one| one.status.name()).collect();
    let seats: Vec<i32> = bookings.iter().map(|one| int(one.seats)).collect();
    let cancelled: Vec<i32> = bookings.iter().map(|one| int(one.cancelled_seats)).collect();
    let bypassed: Vec<i32> = bookings.iter().map(|one| int(one.bypassed)).collect();
    conn.run(UPDATE_MANY, &[&ids, &statuses, &seats, &cancelled, &bypassed, &now]).await.map(drop)
}

/// An event's bookings that are not cancelled, in the order of their ids, after `after`.
pub async fn active_of_event(
    conn: &Conn,
    event: EventId,
    after: BookingId,
    limit: i64,
) -> Result<Vec<Booking>, DbError> {
    conn.rows(ACTIVE_OF_EVENT, &[&event.0, &after.0, &limit]).await?.iter().map(from_row).collect()
}

/// A booking from a row with all its columns and `seat_numbers`.
pub fn from_row(row: &Row) -> Result<Booking, DbError> {
    let status: &str = row.try_get("status")?;
    let number = |column: &'static str| count(row.try_get(column)?, "bookings", column);
    let seat_numbers: Vec<i32> = row.try_get("seat_numbers")?;
    Ok(Booking {
        id: BookingId(row.try_get("id")?),
        event_id: EventId(row.try_get("event_id")?),
        user_id: UserId(row.try_get("user_id")?),
        status: BookingStatus::parse(status)
            .ok_or_else(|| corrupt("bookings", "status", status))?,
        seats: number("seats")?,
        cancelled_seats: number("cancelled_seats")?,
        seat_numbers: seat_numbers
            .into_iter()
            .map(|value| count(value, "booking_seats", "seat_number"))
            .collect::<Result<_, _>>()?,
        waiting_number: row.try_get("waiting_number")?,
        bypassed: number("bypassed")?,
        created_at: row.try_get("created_at")?,
    })
}
