//! What the booking desk reads under the events' locks, in one flight, and what it writes, in
//! another. Flights are pipelined on one connection: statements run in order, replies come
//! together, and a batch costs two round trips, whatever its size.

use std::collections::HashMap;

use futures_util::future::{Either, ready};
use futures_util::join;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::outbox::{self, NewMessage};
use super::{Conn, Db, DbError, Statements as _, Tx, booking, idempotency};
use crate::domain::booking::Booking;
use crate::domain::event::{EventStatus, SalesRules, Seating, Stock, WaitlistPolicy};
use crate::domain::ids::{BookingId, EventId};
use crate::domain::submission::{Reply, Submission};

/// Locked in the order of their ids, so that two desks cannot wait for each other.
const LOCK: &str = "SELECT id, status, seating, max_seats_per_booking, waitlist_policy,
        waitlist_max_bypass, sales_open_at, sales_close_at, starts_at, ends_at, capacity,
        available_slots, confirmed_seats, reserved_seats, waitlist_length, last_waiting_number,
        seat_cursor, inventory_version
    FROM events WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
const ANSWERED: &str = "SELECT k.principal_id, k.route, k.key, k.fingerprint, k.status, k.body,
        k.location
    FROM idempotency_keys k
    JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS asked (principal_id, route, key)
        USING (principal_id, route, key)";
const TAKEN: &str = "SELECT s.event_id, s.seat_number FROM booking_seats s
    JOIN unnest($1::uuid[], $2::int[]) AS asked (event_id, seat_number)
        USING (event_id, seat_number)";
const QUEUE: &str = "SELECT b.id, b.event_id, b.user_id, b.status, b.seats, b.cancelled_seats,
        b.waiting_number, b.bypassed, b.created_at, '{}'::int[] AS seat_numbers
    FROM unnest($1::uuid[], $2::int[]) AS e (id, largest)
    CROSS JOIN LATERAL (
        SELECT * FROM bookings
        WHERE event_id = e.id AND status = 'waitlisted' AND seats <= e.largest
        ORDER BY waiting_number LIMIT $3) b
    ORDER BY b.waiting_number";
/// The set-returning function stands in a select list, where it is evaluated only as far as the
/// limit needs it.
const FREE: &str = "SELECT e.id, f.n
    FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) AS e (id, cursor, last, wanted)
    CROSS JOIN LATERAL (
        SELECT n FROM (SELECT generate_series(e.cursor + 1, e.last) AS n) s
        WHERE NOT EXISTS (
            SELECT 1 FROM booking_seats t WHERE t.event_id = e.id AND t.seat_number = s.n)
        ORDER BY n LIMIT e.wanted) f";
const TAKEN_ABOVE: &str = "SELECT seat_number FROM booking_seats
    WHERE event_id = $1 AND seat_number > $2 ORDER BY seat_number LIMIT 100";
const STOCK: &str = "UPDATE events e SET capacity = u.capacity, available_slots = u.available,
        confirmed_seats = u.confirmed, reserved_seats = u.reserved,
        waitlist_length = u.waiting, last_waiting_number = u.last_number,
        seat_cursor = u.cursor, inventory_version = u.version
    FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[], $7::bigint[],
                $8::int[], $9::bigint[])
        AS u (id, capacity, available, confirmed, reserved, waiting, last_number, cursor, version)
    WHERE e.id = u.id";
const UNSEAT: &str = "DELETE FROM booking_seats s
    USING unnest($1::uuid[], $2::int[]) AS u (event_id, seat_number)
    WHERE s.event_id = u.event_id AND s.seat_number = u.seat_number";
const SEAT: &str = "INSERT INTO booking_seats (event_id, seat_number, booking_id)
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[])";
const LEDGER: &str = "INSERT INTO waitlist_ledger (event_id, booking_id, at, what, why)
    SELECT event_id, booking_id, $3, what, why
    FROM unnest($1::uuid[], $2::uuid[], $4::text[], $5::text[])
        AS u (event_id, booking_id, what, why)";
const ANSWER: &str = "INSERT INTO idempotency_keys
        (principal_id, route, key, fingerprint, status, body, location, created_at)
    SELECT *, $8::timestamptz
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::int2[], $6::text[],
                $7::text[])";

/// So many seats beyond those that are wanted are looked at first.
const NEAR: u32 = 256;

/// What a batch needs to know.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The events it is about; they will be locked.
    pub events: Vec<EventId>,
    /// The idempotency keys it came with.
    pub submissions: Vec<Submission>,
    /// The bookings it changes.
    pub bookings: Vec<BookingId>,
    /// The seats it asks for by number.
    pub seats: Vec<(EventId, u32)>,
}

/// An idempotency key, in full.
pub type Key = (Uuid, String, String);

/// What a batch knows once its events are locked.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The events that exist.
    pub events: HashMap<EventId, (SalesRules, Stock)>,
    /// Keys that were answered before, with their fingerprints.
    pub answered: HashMap<Key, (Vec<u8>, Reply)>,
    /// The bookings that exist.
    pub bookings: Vec<Booking>,
    /// Those of the seats that are somebody's.
    pub taken: Vec<(EventId, u32)>,
}

/// Begins a transaction, locks the events and loads what the batch needs, in one flight.
pub async fn open(db: &Db, wanted: &Wanted) -> Result<(Tx, Loaded), DbError> {
    let tx = Tx::adopt(db.get().await?);
    // First of all, so that nothing in the flight waits for a preparation and is overtaken.
    let lock = tx.prepare_cached(LOCK).await?;
    let answered = tx.prepare_cached(ANSWERED).await?;
    let find = tx.prepare_cached(booking::FIND_MANY).await?;
    let taken = tx.prepare_cached(TAKEN).await?;

    let events: Vec<Uuid> = wanted.events.iter().map(|id| id.0).collect();
    let bookings: Vec<Uuid> = wanted.bookings.iter().map(|id| id.0).collect();
    let principals: Vec<Uuid> = wanted.submissions.iter().map(|one| one.principal).collect();
    let routes: Vec<&str> = wanted.submissions.iter().map(|one| one.route.as_str()).collect();
    let keys: Vec<&str> = wanted.submissions.iter().map(|one| one.key.as_str()).collect();
    let seat_events: Vec<Uuid> = wanted.seats.iter().map(|(event, _)| event.0).collect();
    let numbers: Vec<i32> = wanted.seats.iter().map(|(_, number)| int(*number)).collect();

    let none = || Either::Right(ready(Ok(Vec::new())));
    let key_params: [&(dyn ToSql + Sync); 3] = [&principals, &routes, &keys];
    let booking_params: [&(dyn ToSql + Sync); 1] = [&bookings];
    let seat_params: [&(dyn ToSql + Sync); 2] = [&seat_events, &numbers];
    let event_params: [&(dyn ToSql + Sync); 1] = [&events];
    let (begun, locked, answered, bookings, taken) = join!(
        tx.batch_execute("BEGIN"),
        tx.query(&lock, &event_params),
        if keys.is_empty() { none() } else { Either::Left(tx.query(&answered, &key_params)) },
        if bookings.is_empty() { none() } else { Either::Left(tx.query(&find, &booking_params)) },
        if numbers.is_empty() { none() } else { Either::Left(tx.query(&taken, &seat_params)) },
    );
    begun?;
    let loaded = Loaded {
        events: locked?.iter().map(event).collect::<Result<_, _>>()?,
        answered: answered?.iter().map(answer).collect::<Result<_, _>>()?,
        bookings: bookings?.iter().map(booking::from_row).collect::<Result<_, _>>()?,
        taken: taken?.iter().map(seat).collect::<Result<_, _>>()?,
    };
    Ok((tx, loaded))
}

/// The heads of the events' queues, at most `limit` parties each that are not larger than
/// `largest`, in order.
pub async fn queues(
    tx: &Conn,
    events: &[(EventId, u32)],
    limit: i64,
) -> Result<Vec<Booking>, DbError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = events.iter().map(|(event, _)| event.0).collect();
    let largest: Vec<i32> = events.iter().map(|(_, largest)| int(*largest)).collect();
    tx.rows(QUEUE, &[&ids, &largest, &limit]).await?.iter().map(booking::from_row).collect()
}

/// The lowest free seats of events: (event, cursor, capacity, how many). They mostly stand close
/// behind the cursor: only where they do not is the whole event looked through.
pub async fn free_seats(
    tx: &Conn,
    wanted: &[(EventId, u32, u32, u32)],
) -> Result<Vec<(EventId, u32)>, DbError> {
    let near = |(event, cursor, capacity, count): &(EventId, u32, u32, u32)| {
        let end = cursor.saturating_add(*count).saturating_add(NEAR).min(*capacity);
        (*event, *cursor, end, *count)
    };
    let mut found = free_up_to(tx, &wanted.iter().map(near).collect::<Vec<_>>()).await?;
    let short = |one: &&(EventId, u32, u32, u32)| {
        let seats = found.iter().filter(|(event, _)| *event == one.0).count();
        near(one).2 < one.2 && u32::try_from(seats).is_ok_and(|seats| seats < one.3)
    };
    let far: Vec<_> = wanted.iter().filter(short).copied().collect();
    if !far.is_empty() {
        found.retain(|(event, _)| !far.iter().any(|one| one.0 == *event));
        found.extend(free_up_to(tx, &far).await?);
    }
    Ok(found)
}

/// The lowest free seats of events: (event, cursor, last seat to look at, how many).
async fn free_up_to(
    tx: &Conn,
    wanted: &[(EventId, u32, u32, u32)],
) -> Result<Vec<(EventId, u32)>, DbError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = wanted.iter().map(|one| one.0.0).collect();
    let cursors: Vec<i32> = wanted.iter().map(|one| int(one.1)).collect();
    let ends: Vec<i32> = wanted.iter().map(|one| int(one.2)).collect();
    let counts: Vec<i32> = wanted.iter().map(|one| int(one.3)).collect();
    tx.rows(FREE, &[&ids, &cursors, &ends, &counts]).await?.iter().map(seat).collect()
}

/// Sold seats with numbers above `capacity`, at most a hundred of them.
pub async fn taken_above(tx: &Conn, event: EventId, capacity: u32) -> Result<Vec<u32>, DbError> {
    let rows = tx.rows(TAKEN_ABOVE, &[&event.0, &int(capacity)]).await?;
    rows.iter().map(|row| count(row.try_get(0)?, "booking_seats", "seat_number")).collect()
}

/// Everything that a batch changed.
#[derive(Debug, Default)]
pub struct Writes {
    /// The events' sums.
    pub stocks: Vec<(EventId, Stock)>,
    /// New bookings.
    pub made: Vec<Booking>,
    /// Bookings that are different now.
    pub changed: Vec<Booking>,
    /// Seats that are nobody's any more.
    pub freed: Vec<(EventId, u32)>,
    /// Seats that are somebody's now.
    pub taken: Vec<(EventId, u32, BookingId)>,
    /// Lines of the ledger: event, booking, what, why.
    pub ledger: Vec<(EventId, BookingId, &'static str, String)>,
    /// Answers to be remembered.
    pub answers: Vec<(Submission, Reply)>,
    /// What others are to be told.
    pub messages: Vec<NewMessage>,
    /// When.
    pub now: Timestamp,
}

/// Writes everything and commits, in one flight: `COMMIT` stands behind the writes, and PostgreSQL
/// turns it into a rollback if one of them failed.
///
/// # Errors
/// [`DbError::Query`] means that nothing was written; any other leaves it unknown.
pub async fn close(tx: Tx, writes: &Writes) -> Result<(), DbError> {
    let conn: &Conn = &tx;
    // Nothing in the flight may wait for a preparation: `COMMIT` would overtake it.
    for sql in [STOCK, UNSEAT, SEAT, LEDGER, ANSWER, booking::INSERT_MANY, booking::UPDATE_MANY] {
        conn.prepare_cached(sql).await?;
    }
    outbox::prepare(conn).await?;
    let (made, changed, freed, taken, stocks, ledger, answers, messages, committed) = join!(
        booking::insert_many(conn, &writes.made, writes.now),
        booking::update_many(conn, &writes.changed, writes.now),
        unseat(conn, &writes.freed),
        seat_all(conn, &writes.taken),
        write_stocks(conn, &writes.stocks),
        write_ledger(conn, &writes.ledger, writes.now),
        write_answers(conn, &writes.answers, writes.now),
        outbox::append(conn, &writes.messages),
        conn.batch_execute("COMMIT"),
    );
    for written in [made, changed, freed, taken, stocks, ledger, answers, messages] {
        written?;
    }
    committed?;
    tx.settled();
    Ok(())
}

async fn unseat(conn: &Conn, freed: &[(EventId, u32)]) -> Result<(), DbError> {
    if freed.is_empty() {
        return Ok(());
    }
    let events: Vec<Uuid> = freed.iter().map(|one| one.0.0).collect();
    let numbers: Vec<i32> = freed.iter().map(|one| int(one.1)).collect();
    conn.run(UNSEAT, &[&events, &numbers]).await.map(drop)
}

async fn seat_all(conn: &Conn, taken: &[(EventId, u32, BookingId)]) -> Result<(), DbError> {
    if taken.is_empty() {
        return Ok(());
    }
    let events: Vec<Uuid> = taken.iter().map(|one| one.0.0).collect();
    let numbers: Vec<i32> = taken.iter().map(|one| int(one.1)).collect();
    let owners: Vec<Uuid> = taken.iter().map(|one| one.2.0).collect();
    conn.run(SEAT, &[&events, &numbers, &owners]).await.map(drop)
}

async fn write_stocks(conn: &Conn, stocks: &[(EventId, Stock)]) -> Result<(), DbError> {
    if stocks.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = stocks.iter().map(|(id, _)| id.0).collect();
    let ints = |of: fn(&Stock) -> u32| -> Vec<i32> {
        stocks.iter().map(|(_, stock)| int(of(stock))).collect()
    };
    let longs =
        |of: fn(&Stock) -> i64| -> Vec<i64> { stocks.iter().map(|(_, stock)| of(stock)).collect() };
    conn.run(
        STOCK,
        &[
            &ids,
            &ints(|stock| stock.capacity),
            &ints(|stock| stock.available),
            &ints(|stock| stock.confirmed),
            &ints(|stock| stock.reserved),
            &ints(|stock| stock.waitlist_length),
            &longs(|stock| stock.last_waiting_number),
            &ints(|stock| stock.seat_cursor),
            &longs(|stock| stock.version),
        ],
    )
    .await
    .map(drop)
}

async fn write_ledger(
    conn: &Conn,
    ledger: &[(EventId, BookingId, &'static str, String)],
    now: Timestamp,
) -> Result<(), DbError> {
    if ledger.is_empty() {
        return Ok(());
    }
    let events: Vec<Uuid> = ledger.iter().map(|line| line.0.0).collect();
    let bookings: Vec<Uuid> = ledger.iter().map(|line| line.1.0).collect();
    let what: Vec<&str> = ledger.iter().map(|line| line.2).collect();
    let why: Vec<&str> = ledger.iter().map(|line| line.3.as_str()).collect();
    conn.run(LEDGER, &[&events, &bookings, &now, &what, &why]).await.map(drop)
}

async fn write_answers(
    conn: &Conn,
    answers: &[(Submission, Reply)],
    now: Timestamp,
) -> Result<(), DbError> {
    if answers.is_empty() {
        return Ok(());
    }
    let principals: Vec<Uuid> = answers.iter().map(|(one, _)| one.principal).collect();
    let routes: Vec<&str> = answers.iter().map(|(one, _)| one.route.as_str()).collect();
    let keys: Vec<&str> = answers.iter().map(|(one, _)| one.key.as_str()).collect();
    let prints: Vec<&[u8]> = answers.iter().map(|(one, _)| one.fingerprint.as_slice()).collect();
    let statuses: Vec<i16> = answers.iter().map(|(_, reply)| idempotency::status(reply)).collect();
    let bodies: Vec<&str> = answers.iter().map(|(_, reply)| reply.body.as_str()).collect();
    let places: Vec<Option<&str>> =
        answers.iter().map(|(_, reply)| reply.location.as_deref()).collect();
    conn.run(ANSWER, &[&principals, &routes, &keys, &prints, &statuses, &bodies, &places, &now])
        .await
        .map(drop)
}

fn event(row: &Row) -> Result<(EventId, (SalesRules, Stock)), DbError> {
    Ok((EventId(row.try_get("id")?), (rules(row)?, stock(row)?)))
}

/// The rules by which an event is sold, from a row of `events`.
pub fn rules(row: &Row) -> Result<SalesRules, DbError> {
    let status: &str = row.try_get("status")?;
    let seating: &str = row.try_get("seating")?;
    let policy: &str = row.try_get("waitlist_policy")?;
    let max = count(row.try_get("waitlist_max_bypass")?, "events", "waitlist_max_bypass")?;
    Ok(SalesRules {
        status: EventStatus::parse(status).ok_or_else(|| corrupt("events", "status", status))?,
        seating: Seating::parse(seating).ok_or_else(|| corrupt("events", "seating", seating))?,
        max_seats_per_booking: count(
            row.try_get("max_seats_per_booking")?,
            "events",
            "max_seats_per_booking",
        )?,
        policy: match policy {
            "strict" => WaitlistPolicy::Strict,
            "bypass" => WaitlistPolicy::Bypass { max },
            other => return Err(corrupt("events", "waitlist_policy", other)),
        },
        sales_open_at: row.try_get("sales_open_at")?,
        sales_close_at: row.try_get("sales_close_at")?,
        starts_at: row.try_get("starts_at")?,
        ends_at: row.try_get("ends_at")?,
    })
}

/// The sums of an event's seats, from a row of `events`.
pub fn stock(row: &Row) -> Result<Stock, DbError> {
    let number = |column: &'static str| count(row.try_get(column)?, "events", column);
    Ok(Stock {
        capacity: number("capacity")?,
        available: number("available_slots")?,
        confirmed: number("confirmed_seats")?,
        reserved: number("reserved_seats")?,
        waitlist_length: number("waitlist_length")?,
        last_waiting_number: row.try_get("last_waiting_number")?,
        seat_cursor: number("seat_cursor")?,
        version: row.try_get("inventory_version")?,
    })
}

fn answer(row: &Row) -> Result<(Key, (Vec<u8>, Reply)), DbError> {
    let key = (row.try_get("principal_id")?, row.try_get("route")?, row.try_get("key")?);
    Ok((key, (row.try_get("fingerprint")?, idempotency::reply(row)?)))
}

fn seat(row: &Row) -> Result<(EventId, u32), DbError> {
    Ok((EventId(row.try_get(0)?), count(row.try_get(1)?, "booking_seats", "seat_number")?))
}

/// A count for a column of type `integer`. The domain's bounds keep it far below the limit.
pub(super) fn int(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A count from a column of type `integer`.
pub(super) fn count(value: i32, table: &'static str, column: &'static str) -> Result<u32, DbError> {
    u32::try_from(value).map_err(|_| corrupt(table, column, &value.to_string()))
}

/// A value that our own rules do not allow.
pub(super) fn corrupt(table: &'static str, column: &'static str, value: &str) -> DbError {
    DbError::Corrupt { table, column, value: value.to_owned() }
}
