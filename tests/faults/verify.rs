//! What has to be true when a fault is over, whatever it was: by the history of answers, by SQL,
//! by what Redis shows, and by what people found in their inboxes.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use crate::process::until;
use crate::sale::{Sale, id_of};
use crate::server::Server;
use crate::support::truth;
use crate::world::World;

/// How soon everybody has to be told.
const TOLD: Duration = Duration::from_secs(30);

/// People who wait with a lower number than somebody who was promoted, or were promoted later.
const QUEUE: &str = "SELECT a.id::text AS earlier, b.id::text AS later
    FROM waitlist_ledger p JOIN bookings b ON b.id = p.booking_id AND p.what = 'promoted'
    JOIN bookings a ON a.event_id = b.event_id AND a.waiting_number < b.waiting_number
    LEFT JOIN waitlist_ledger q ON q.booking_id = a.id AND q.what = 'promoted'
    WHERE a.status = 'waitlisted' OR q.id > p.id";
/// Promotions that the ledger has twice.
const TWICE: &str = "SELECT booking_id::text, what, count(*) FROM waitlist_ledger
    WHERE what IN ('joined', 'promoted', 'left') GROUP BY booking_id, what HAVING count(*) > 1";
/// What people should have been told, against what they were; each kind once a booking.
const INBOX: &str = "WITH expected AS (
        SELECT b.id, b.user_id, CASE WHEN b.waiting_number IS NULL THEN 'booking_confirmed'
                                     ELSE 'booking_waitlisted' END AS type
        FROM bookings b
        UNION ALL
        SELECT b.id, b.user_id, 'waitlist_promoted'
        FROM waitlist_ledger l JOIN bookings b ON b.id = l.booking_id WHERE l.what = 'promoted'
        UNION ALL
        SELECT b.id, b.user_id, CASE WHEN e.status = 'cancelled' THEN 'event_cancelled'
                                     ELSE 'booking_cancelled' END
        FROM bookings b JOIN events e ON e.id = b.event_id WHERE b.status = 'cancelled'
    ), told AS (
        SELECT booking_id AS id, user_id, type, count(*) AS times FROM notifications
        WHERE type NOT LIKE 'alarm%' GROUP BY booking_id, user_id, type)
    SELECT id::text, user_id::text, type, coalesce(told.times, 0) AS times, e.id IS NULL AS never
    FROM expected e FULL JOIN told USING (id, user_id, type)
    WHERE told.times IS DISTINCT FROM 1 OR e.id IS NULL";
/// Messages of one booking that left in another order than they were written.
const ORDER: &str = "SELECT * FROM (
        SELECT seq, aggregate_id::text, sent_at::text,
               sent_at < lag(sent_at) OVER (PARTITION BY aggregate_id ORDER BY seq) AS early
        FROM outbox) o WHERE early";
const BOOKINGS: &str =
    "SELECT id, user_id, event_id::text, seats + cancelled_seats, status FROM bookings";
const OWED: &str = "SELECT count(*) FROM outbox WHERE sent_at IS NULL";
const DEAD: &str = "SELECT source, type, reason FROM dead_letters";
const UNDONE: &str = "SELECT streamName, revision, processingStatus, last_error
    FROM processed_events WHERE processingStatus <> 'processed'";
impl World {
    /// Settles the sale, then checks everything.
    pub async fn must_hold(&self, sale: &Sale, servers: &mut [&mut Server]) {
        sale.settle().await;
        self.redis_is_equal().await;
        self.history_is_true(sale).await;
        self.invariants_hold().await;
        self.everybody_was_told().await;
        sale.replay().await;
        for server in servers {
            server.must_live();
            let words = server.last_words();
            assert!(!words.contains("panicked"), "{words}");
        }
    }

    /// What must be true at any moment, with or without a server.
    pub async fn invariants_hold(&self) {
        truth::invariants(&self.sql().await).await;
        self.none(QUEUE).await;
        self.none(TWICE).await;
    }

    /// Redis shows what PostgreSQL knows, soon.
    pub async fn redis_is_equal(&self) {
        truth::redis_agrees(&self.sql().await, &self.redis.client().await).await;
    }

    /// Every answer is what the database says, and there is nothing that nobody ordered.
    async fn history_is_true(&self, sale: &Sale) {
        let rows = self.rows(BOOKINGS, &[]).await;
        let rows: HashMap<Uuid, &Row> = rows.iter().map(|row| (row.get(0), row)).collect();
        let mut unknown: HashSet<Uuid> = rows.keys().copied().collect();
        for attempt in sale.attempts() {
            let reply = attempt.definite().expect("the sale is settled");
            let refusals = if attempt.order.is_booking() { [409, 409] } else { [409, 404] };
            if refusals.contains(&reply.status) {
                continue;
            }
            let expected = if attempt.order.is_booking() { 201 } else { 200 };
            assert_eq!(reply.status, expected, "{}: {}", attempt.order.path, reply.body);
            let booking = reply.json();
            let row = rows
                .get(&id_of(&booking))
                .unwrap_or_else(|| panic!("acknowledged and lost: {booking}"));
            assert_eq!(row.get::<_, Uuid>(1), attempt.order.person.id, "{booking}");
            assert_eq!(row.get::<_, &str>(2), booking["event_id"], "{booking}");
            if attempt.order.is_booking() {
                assert!(unknown.remove(&id_of(&booking)), "acknowledged twice: {booking}");
                assert_eq!(i64::from(row.get::<_, i32>(3)), booking["seats"], "{booking}");
            } else {
                assert_eq!(row.get::<_, &str>(4), "cancelled", "{booking}");
            }
        }
        assert!(unknown.is_empty(), "bookings that nobody was told of: {unknown:?}");
    }

    /// The outbox is empty, and each message came to exactly one entry in an inbox.
    async fn everybody_was_told(&self) {
        let owed = async || (self.count(OWED).await == 0).then_some(());
        until("the outbox is drained", TOLD, owed).await;
        until("everybody was told exactly once", TOLD, async || {
            let wrong = self.rows(INBOX, &[]).await;
            let twice = wrong.iter().find(|row| row.get::<_, i64>(3) > 1 || row.get(4));
            assert!(twice.is_none(), "told too often: {twice:?} {:?}", twice.map(texts));
            wrong.is_empty().then_some(())
        })
        .await;
        self.none(DEAD).await;
        self.none(UNDONE).await;
        if self.in_order {
            self.none(ORDER).await;
        }
    }

    /// Fails if the statement finds anything.
    async fn none(&self, sql: &str) {
        let rows = self.rows(sql, &[]).await;
        let found: Vec<String> = rows.iter().take(5).map(texts).collect();
        assert!(rows.is_empty(), "{} rows should not be: {found:?}\n{sql}", rows.len());
    }
}

/// A row for people.
fn texts(row: &Row) -> String {
    let show = |name: &str, value: &dyn Debug| format!("{name}={value:?}");
    let columns = row.columns().iter().enumerate();
    let shown: Vec<String> = columns
        .map(|(index, column)| {
            if let Ok(text) = row.try_get::<_, Option<String>>(index) {
                show(column.name(), &text)
            } else if let Ok(number) = row.try_get::<_, Option<i64>>(index) {
                show(column.name(), &number)
            } else {
                show(column.name(), &row.try_get::<_, Option<i32>>(index).ok())
            }
        })
        .collect();
    shown.join(" ")
}
