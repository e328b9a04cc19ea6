//! Events: what they are and by which rules they are sold. The sums of their seats stand in the
//! same row, but once it exists they are written by `inventory.rs` only.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::inventory::{corrupt, int, rules, stock};
use super::{Conn, DbError, Statements as _};
use crate::domain::event::{Description, Event, EventStatus, OPEN_END};
use crate::domain::ids::{EventId, OrganizationId, UserId};
use crate::domain::interest::{InterestCounts, Ratings};

macro_rules! columns {
    () => {
        "id, organization_id, title, description, category, venue, starts_at, ends_at, \
         sales_open_at, sales_close_at, status, cancel_reason, seating, \
         seat_map IS NOT NULL AS has_seat_map, max_seats_per_booking, waitlist_policy, \
         waitlist_max_bypass, capacity, available_slots, confirmed_seats, reserved_seats, \
         waitlist_length, last_waiting_number, seat_cursor, inventory_version, created_at, \
         updated_at, version, \
         (SELECT ARRAY[s.sure, s.maybe, s.interested, s.ratings, s.rating_sum] \
          FROM event_stats s WHERE s.event_id = events.id) AS stats"
    };
}

/// $1 category, $2 from, $3 to, $4 and $5 the key of the last event seen, $6 how many.
macro_rules! page {
    () => {
        " AND ($1::text IS NULL OR category = $1) \
          AND starts_at >= coalesce($2::timestamptz, '-infinity') \
          AND starts_at <= coalesce($3::timestamptz, 'infinity') \
          AND (starts_at, id) > (coalesce($4::timestamptz, '-infinity'), \
                                 coalesce($5::uuid, '00000000-0000-0000-0000-000000000000')) \
          ORDER BY starts_at, id LIMIT $6"
    };
}
/// Words as people type them, or the same with the last of them only begun. An array, so that the
/// words are looked up first, whatever the planner thinks of how rare they are.
macro_rules! matching {
    ($all:literal, $head:literal, $prefix:literal) => {
        concat!(
            " id = ANY(ARRAY(SELECT f.id FROM events f WHERE f.search @@ ( \
                  websearch_to_tsquery('simple', ",
            $all,
            ") || coalesce(websearch_to_tsquery('simple', ",
            $head,
            ") && to_tsquery('simple', ",
            $prefix,
            "), websearch_to_tsquery('simple', ",
            $all,
            ")))))"
        )
    };
}
/// $7 organisation, $8 status, $9 who asks, $10 whether they see everything. A draft is seen by
/// its organisers only.
macro_rules! among {
    () => {
        "($7::uuid IS NULL OR organization_id = $7) AND ($8::text IS NULL OR status = $8) \
         AND (status <> 'draft' OR $10 OR organization_id IN ( \
             SELECT m.organization_id FROM organization_members m \
             WHERE m.user_id = $9 AND m.role IN ('organizer', 'owner')))"
    };
}

/// The columns that [`from_row`] reads.
pub const COLUMNS: &str = columns!();

const INSERT: &str = "INSERT INTO events (id, organization_id, title, description, category,
        venue, starts_at, ends_at, sales_open_at, sales_close_at, status, seating,
        max_seats_per_booking, waitlist_policy, waitlist_max_bypass, capacity, available_slots,
        confirmed_seats, reserved_seats, waitlist_length, last_waiting_number, seat_cursor,
        inventory_version, created_at, updated_at, version)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
        $20, $21, $22, $23, $24, $25, $26)";
const FIND: &str = concat!("SELECT ", columns!(), " FROM events WHERE id = $1");
const UPDATE: &str = "UPDATE events SET title = $2, description = $3, category = $4, venue = $5,
    starts_at = $6, ends_at = $7, sales_open_at = $8, sales_close_at = $9, status = $10,
    cancel_reason = $11, max_seats_per_booking = $12, waitlist_policy = $13,
    waitlist_max_bypass = $14, updated_at = $15, version = $16
    WHERE id = $1";
const ON_SHOW: &str =
    concat!("SELECT ", columns!(), " FROM events WHERE status = 'published'", page!());
const ON_SHOW_MATCHING: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM events WHERE status = 'published' AND",
    matching!("$7", "$8", "$9"),
    page!()
);
const AMONG: &str = concat!("SELECT ", columns!(), " FROM events WHERE ", among!(), page!());
const AMONG_MATCHING: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM events WHERE ",
    among!(),
    " AND",
    matching!("$11", "$12", "$13"),
    page!()
);
const COMPLETE: &str = "UPDATE events SET status = 'completed', updated_at = $1,
        version = version + 1
    WHERE id IN (
        SELECT id FROM events
        WHERE status = 'published' AND starts_at <= $1
          AND coalesce(ends_at, starts_at + $2 * interval '1 second') <= $1
        ORDER BY starts_at, id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)";

/// Which events a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Words in the event's texts; the last one may be only begun.
    pub words: Option<Words>,
    /// Exactly this category.
    pub category: Option<String>,
    /// Starting then or later.
    pub from: Option<Timestamp>,
    /// Starting then or earlier.
    pub to: Option<Timestamp>,
    /// Of this organisation.
    pub organization: Option<OrganizationId>,
    /// Of this status; `None`: of any that the viewer may see.
    pub status: Option<EventStatus>,
    /// Who asks, who sees the drafts of their organisations.
    pub viewer: Option<UserId>,
    /// Whether the viewer sees everybody's drafts.
    pub sees_all: bool,
}

/// Words to search for.
#[derive(Clone, Debug)]
pub struct Words {
    /// As typed.
    pub all: String,
    /// Without the last word.
    pub head: String,
    /// The last word as the beginning of one, in the language of `to_tsquery`; `None` if it is
    /// not a plain word.
    pub prefix: Option<String>,
}

/// The place of an event in a list.
pub type Place = (Timestamp, Uuid);

/// Writes a new event.
pub async fn insert(tx: &Conn, event: &Event) -> Result<(), DbError> {
    let Event { id, organization_id, description, rules, stock, .. } = event;
    tx.run(
        INSERT,
        &[
            &id.0,
            &organization_id.0,
            &description.title,
            &description.description,
            &description.category,
            &description.venue,
            &rules.starts_at,
            &rules.ends_at,
            &rules.sales_open_at,
            &rules.sales_close_at,
            &rules.status.name(),
            &rules.seating.name(),
            &int(rules.max_seats_per_booking),
            &rules.policy.name(),
            &int(rules.policy.max_bypass()),
            &int(stock.capacity),
            &int(stock.available),
            &int(stock.confirmed),
            &int(stock.reserved),
            &int(stock.waitlist_length),
            &stock.last_waiting_number,
            &int(stock.seat_cursor),
            &stock.version,
            &event.created_at,
            &event.updated_at,
            &event.version,
        ],
    )
    .await
    .map(drop)
}

/// Events by start, after the event at `after`, at most `limit`.
pub async fn list(
    conn: &Conn,
    filter: &Filter,
    after: Option<Place>,
    limit: i64,
) -> Result<Vec<Event>, DbError> {
    let Filter { words, category, from, to, status, viewer, sees_all, .. } = filter;
    let organization = filter.organization.map(|id| id.0);
    let (start, id) = after.unzip();
    let (name, viewer) = (status.map(EventStatus::name), viewer.map(|id| id.0));
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![category, from, to, &start, &id, &limit];
    let on_show = organization.is_none() && *status == Some(EventStatus::Published);
    if !on_show {
        let among: [&(dyn ToSql + Sync); 4] = [&organization, &name, &viewer, sees_all];
        params.extend(among);
    }
    if let Some(words) = words {
        let matching: [&(dyn ToSql + Sync); 3] = [&words.all, &words.head, &words.prefix];
        params.extend(matching);
    }
    let sql = match (on_show, words) {
        (true, None) => ON_SHOW,
        (true, Some(_)) => ON_SHOW_MATCHING,
        (false, None) => AMONG,
        (false, Some(_)) => AMONG_MATCHING,
    };
    conn.rows(sql, &params).await?.iter().map(from_row).collect()
}

/// Marks published events that are over as completed, at most `limit`, and says how many.
pub async fn complete_over(conn: &Conn, now: Timestamp, limit: i64) -> Result<u64, DbError> {
    let open_end = OPEN_END.as_secs_f64();
    conn.run(COMPLETE, &[&now, &open_end, &limit]).await
}

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
    let (interest, ratings) = stats(row.try_get("stats")?);
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
        interest,
        ratings,
        cancel_reason: row.try_get("cancel_reason")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

/// What the array of counters says; there is none before anything was counted.
fn stats(counted: Option<Vec<i64>>) -> (InterestCounts, Ratings) {
    let counted = counted.unwrap_or_default();
    let at = |place: usize| counted.get(place).copied().unwrap_or_default();
    let count = |place| u32::try_from(at(place)).unwrap_or_default();
    let interest = InterestCounts { sure: count(0), maybe: count(1), interested: count(2) };
    (interest, Ratings { count: count(3), sum: u64::try_from(at(4)).unwrap_or_default() })
}

/// The status of that name.
pub(super) fn status(name: &str) -> Result<EventStatus, DbError> {
    EventStatus::parse(name).ok_or_else(|| corrupt("events", "status", name))
}
