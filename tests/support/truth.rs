//! What must be true of PostgreSQL, Redis and the inboxes whatever was done to them, told by SQL
//! and by the documented Redis keys alone, so that no mistake of the product's hides itself.

use std::fmt::Write as _;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;
use uuid::Uuid;

use super::eventually;

/// How soon Redis must agree with PostgreSQL (DESIGN §2).
const HEALED: Duration = Duration::from_secs(5);

/// Each statement finds what contradicts a promise; nothing is to be found.
const PROMISES: &[(&str, &str)] = &[
    (
        "capacity = available + confirmed + reserved, and nothing is sold above it",
        "SELECT id::text FROM events
         WHERE available_slots + confirmed_seats + reserved_seats <> capacity
            OR confirmed_seats + reserved_seats > capacity",
    ),
    (
        "an event's sums are those of its bookings",
        "SELECT e.id::text FROM events e LEFT JOIN bookings b ON b.event_id = e.id
         GROUP BY e.id
         HAVING e.confirmed_seats
                  <> coalesce(sum(b.seats) FILTER (WHERE b.status = 'confirmed'), 0)
             OR e.waitlist_length <> count(b.id) FILTER (WHERE b.status = 'waitlisted')",
    ),
    (
        "a numbered booking has as many seats as it is for, within the capacity",
        "SELECT b.id::text FROM bookings b JOIN events e ON e.id = b.event_id
         LEFT JOIN booking_seats s ON s.booking_id = b.id
         WHERE e.seating = 'numbered'
         GROUP BY b.id, b.status, b.seats, e.id, e.capacity
         HAVING count(s.seat_number) <> CASE WHEN b.status = 'confirmed' THEN b.seats ELSE 0 END
             OR max(s.seat_number) > e.capacity
             OR bool_or(s.event_id <> e.id)",
    ),
    (
        "only seats of numbered events are given out, each to a confirmed booking of its event",
        "SELECT s.seat_number::text FROM booking_seats s JOIN events e ON e.id = s.event_id
         JOIN bookings b ON b.id = s.booking_id
         WHERE e.seating <> 'numbered' OR b.status <> 'confirmed' OR b.event_id <> s.event_id",
    ),
    (
        "waiting numbers are given once, in the order of arrival",
        "SELECT event_id::text FROM bookings WHERE waiting_number IS NOT NULL
         GROUP BY event_id, waiting_number HAVING count(*) > 1
         UNION ALL
         SELECT b.id::text FROM bookings b JOIN events e ON e.id = b.event_id
         WHERE b.waiting_number > e.last_waiting_number
            OR (b.status = 'waitlisted' AND b.waiting_number IS NULL)
         UNION ALL
         SELECT id::text FROM (SELECT id, created_at,
                max(created_at) OVER (PARTITION BY event_id ORDER BY waiting_number) AS latest
            FROM bookings WHERE waiting_number IS NOT NULL) q
         WHERE created_at < latest - interval '1 second'",
    ),
    (
        "strict: no party that waits was passed by a later one that it could have preceded",
        "SELECT w.id::text FROM bookings w JOIN events e ON e.id = w.event_id
         JOIN (SELECT event_id, max(waiting_number) AS latest FROM bookings
               WHERE status = 'confirmed' GROUP BY event_id) p ON p.event_id = w.event_id
         WHERE e.waitlist_policy = 'strict' AND w.status = 'waitlisted'
           AND w.waiting_number < p.latest AND w.seats <= e.capacity",
    ),
    (
        "bypass: nobody is passed more often than published",
        "SELECT b.id::text FROM bookings b JOIN events e ON e.id = b.event_id
         WHERE b.bypassed > CASE WHEN e.waitlist_policy = 'bypass'
                                 THEN e.waitlist_max_bypass ELSE 0 END",
    ),
    (
        "on sale: seats are parked only for a head that they do not suffice for, and nothing is \
         left to newcomers while somebody who fits waits",
        "SELECT e.id::text FROM events e
         JOIN LATERAL (SELECT seats FROM bookings b WHERE b.event_id = e.id
            AND b.status = 'waitlisted' AND b.seats <= e.capacity
            ORDER BY waiting_number LIMIT 1) head ON true
         WHERE e.status = 'published'
           AND (head.seats <= e.reserved_seats + e.available_slots OR e.available_slots > 0)",
    ),
    (
        "a cancelled event whose cascade is done has nobody left",
        "SELECT e.id::text FROM events e JOIN bookings b ON b.event_id = e.id
         WHERE e.cascade_done_at IS NOT NULL AND b.status <> 'cancelled'",
    ),
    (
        "every booking's facts were written with it, each once",
        "SELECT b.id::text || ' ' || b.status FROM bookings b
         LEFT JOIN (
            SELECT payload->>'bookingId' AS booking,
                   count(*) FILTER (WHERE type = 'booking_confirmed') AS confirmed,
                   count(*) FILTER (WHERE type = 'booking_waitlisted') AS waitlisted,
                   count(*) FILTER (WHERE type = 'waitlist_promoted') AS promoted,
                   count(*) FILTER (WHERE type IN ('booking_cancelled', 'event_cancelled'))
                       AS cancelled
            -- A dead letter that was sent again has another row of the same id.
            FROM (SELECT DISTINCT id, type, payload::jsonb AS payload FROM outbox) o
            GROUP BY 1) f ON f.booking = b.id::text
         WHERE f.booking IS NULL
            OR f.confirmed <> (b.waiting_number IS NULL)::int
            OR f.waitlisted <> (b.waiting_number IS NOT NULL)::int
            OR f.promoted > 1
            OR (f.promoted = 0 AND b.status = 'confirmed' AND b.waiting_number IS NOT NULL)
            OR (b.status = 'cancelled' AND f.cancelled < 1)
            OR (b.status <> 'cancelled' AND b.cancelled_seats = 0 AND f.cancelled > 0)",
    ),
    (
        "facts are about bookings that exist",
        "SELECT o.id::text FROM outbox o
         WHERE o.payload->>'bookingId' IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM bookings b WHERE b.id::text = o.payload->>'bookingId')",
    ),
];

/// Facts that were not told once to whom they are for (nobody who has no account, and nobody of
/// what is in the dead letters).
/// Once each; whoever closed the account before is not told, and that is written down.
const UNTOLD: &str = "SELECT o.type || ' ' || o.id FROM outbox o
    LEFT JOIN notifications n ON n.message_id = o.id::text
    WHERE o.lane = 'mail'
      AND EXISTS (SELECT 1 FROM users u WHERE u.id::text = o.payload->>'userId')
      AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.message_id = o.id::text)
      AND NOT EXISTS (SELECT 1 FROM users u
          JOIN processed_events p ON p.revision = o.id::text AND p.processingStatus = 'skipped'
          WHERE u.id::text = o.payload->>'userId' AND u.deactivated_at IS NOT NULL)
    GROUP BY o.id, o.type, o.payload->>'userId'
    HAVING count(n.id) <> 1 OR bool_or(n.user_id::text <> o.payload->>'userId') LIMIT 10";
const UNSENT: &str = "SELECT o.type || ' ' || o.id || coalesce(' ' || o.last_error, '')
    FROM outbox o WHERE lane = 'mail' AND sent_at IS NULL AND dead_at IS NULL
    UNION ALL SELECT u.type || ' at ' || u.seq || ' of the bus' FROM bus_unsent u LIMIT 10";
/// A person is never told the same thing twice, under whatever message id.
const TWICE: &str = "SELECT n.type || ' of ' || n.booking_id FROM notifications n
    WHERE n.type IN ('booking_confirmed', 'booking_waitlisted', 'waitlist_promoted')
      AND n.booking_id IS NOT NULL
    GROUP BY n.type, n.booking_id, n.user_id HAVING count(*) > 1 LIMIT 10";
const ON_SALE: &str = "SELECT e.id, e.available_slots,
        ARRAY(SELECT b.user_id::text FROM bookings b
              WHERE b.event_id = e.id AND b.status = 'waitlisted' ORDER BY b.waiting_number),
        ARRAY(SELECT s.seat_number FROM booking_seats s WHERE s.event_id = e.id
              ORDER BY s.seat_number)
    FROM events e WHERE e.status = 'published'";

/// Free seats, who waits, and which seats are sold, as Redis shows them.
type Shown = (Option<i32>, Vec<String>, Option<Vec<u8>>);

/// PostgreSQL contradicts neither itself nor its promises.
///
/// # Panics
/// With everything that is wrong.
pub async fn invariants(pg: &Client) {
    let mut wrong = String::new();
    for (promise, statement) in PROMISES {
        let rows = pg.query(*statement, &[]).await.unwrap_or_else(|e| panic!("{promise}: {e:?}"));
        if !rows.is_empty() {
            let found: Vec<String> = rows.iter().take(5).map(|row| row.get(0)).collect();
            let _ = write!(wrong, "\n{promise}: {} times not so, e.g. {found:?}", rows.len());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Redis shows what PostgreSQL knows: free seats and the queue of every event on sale.
///
/// # Panics
/// When it does not within five seconds.
pub async fn redis_agrees(pg: &Client, redis: &MultiplexedConnection) {
    eventually(HEALED, || async {
        let rows = pg.query(ON_SALE, &[]).await.map_err(|error| error.to_string())?;
        for row in rows {
            let (event, available): (Uuid, i32) = (row.get(0), row.get(1));
            let (waiting, seats): (Vec<String>, Vec<i32>) = (row.get(2), row.get(3));
            let mut redis = redis.clone();
            let (slots, listed, bits): Shown = redis::pipe()
                .cmd("GET")
                .arg(format!("event:{{{event}}}:slots"))
                .cmd("LRANGE")
                .arg(format!("event:{{{event}}}:waitlist"))
                .arg(0)
                .arg(-1)
                .cmd("GET")
                .arg(format!("event:{{{event}}}:taken"))
                .query_async(&mut redis)
                .await
                .map_err(|error| error.to_string())?;
            if (slots, &listed) != (Some(available), &waiting) {
                return Err(format!(
                    "event {event}: Redis says {slots:?} free and {} waiting, PostgreSQL \
                     {available} and {}",
                    listed.len(),
                    waiting.len()
                ));
            }
            let bits = bits.unwrap_or_default();
            let sold: Vec<i32> = (0..)
                .zip(&bits)
                .flat_map(|(byte, bits)| {
                    (0..8)
                        .filter(move |bit| bits & (0x80 >> bit) != 0)
                        .map(move |bit| byte * 8 + bit)
                })
                .collect();
            if sold != seats {
                return Err(format!(
                    "event {event}: Redis says {sold:?} sold, PostgreSQL {seats:?}"
                ));
            }
        }
        Ok(())
    })
    .await;
}

/// The outbox is drained, and everybody was told everything once.
///
/// # Panics
/// When it is not so within `deadline`.
pub async fn everybody_was_told(pg: &Client, deadline: Duration) {
    eventually(deadline, || async {
        none(pg, "not sent", UNSENT).await?;
        none(pg, "not told once", UNTOLD).await
    })
    .await;
    none(pg, "told twice", TWICE).await.expect("nobody is told twice");
}

async fn none(pg: &Client, what: &str, statement: &str) -> Result<(), String> {
    let rows = pg.query(statement, &[]).await.map_err(|error| error.to_string())?;
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if found.is_empty() { Ok(()) } else { Err(format!("{what}: {found:?}")) }
}
