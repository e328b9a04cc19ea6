//! The in-app inbox, and the names that its texts need.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _, alert};
use crate::domain::ids::{BookingId, EventId, MessageId, NotificationId, UserId};
use crate::domain::notification::Notification;

const NAMES: &str = "SELECT 'event' AS what, id, title AS name FROM events WHERE id = ANY ($1)
    UNION ALL
    SELECT CASE WHEN deactivated_at IS NULL THEN 'user' ELSE 'gone' END, id, name
    FROM users WHERE id = ANY ($2)
    UNION ALL
    SELECT 'organization', id, name FROM organizations WHERE id = ANY ($3)";
/// By booking, so that each part reads the index from where the last one ended.
const BOOKERS: &str = "SELECT b.id, b.user_id FROM bookings b
    WHERE b.event_id = $1 AND b.id > $2 AND b.status IN ('confirmed', 'waitlisted')
    ORDER BY b.id LIMIT $3";
const LIST: &str = "SELECT id, user_id, message_id, type, event_id, booking_id, title, body,
        data::text AS data, created_at, read_at
    FROM notifications
    WHERE user_id = $1 AND ($2::uuid IS NULL OR id < $2)
      AND ($3::boolean IS NULL OR (read_at IS NULL) = $3)
    ORDER BY id DESC LIMIT $4";
const READ: &str = "UPDATE notifications SET read_at = $3
    WHERE user_id = $1 AND id = ANY ($2) AND read_at IS NULL";
const READ_UP_TO: &str = "UPDATE notifications SET read_at = $3
    WHERE user_id = $1 AND id <= $2 AND read_at IS NULL";
const OWNED: &str = "SELECT count(*) AS found FROM notifications
    WHERE user_id = $1 AND id = ANY ($2)";
const UNREAD: &str = "SELECT count(*) AS unread FROM notifications
    WHERE user_id = $1 AND read_at IS NULL";

/// What the texts of a batch of messages need to know.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Titles of events.
    pub events: HashMap<Uuid, String>,
    /// Names of organisations.
    pub organizations: HashMap<Uuid, String>,
    /// Names of known people; `None` when their account is closed.
    pub users: HashMap<Uuid, Option<String>>,
    /// Names of those who are interested in an event, if everybody may know it.
    pub actors: HashMap<(EventId, UserId), String>,
}

/// Whose names are wanted, for a whole batch of messages.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Events.
    pub events: Vec<Uuid>,
    /// People.
    pub users: Vec<Uuid>,
    /// Organisations.
    pub organizations: Vec<Uuid>,
    /// Who is interested in which event.
    pub actors: Vec<(EventId, UserId)>,
}

/// Looks names up, for a whole batch at once.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn names(conn: &Conn, wanted: &Wanted) -> Result<Names, DbError> {
    let Wanted { events, users, organizations, actors } = wanted;
    let mut names = Names { actors: alert::named(conn, actors).await?, ..Names::default() };
    for row in conn.rows(NAMES, &[events, users, organizations]).await? {
        let (what, id): (&str, Uuid) = (row.try_get("what")?, row.try_get("id")?);
        match what {
            "event" => names.events.insert(id, row.try_get("name")?).map(drop),
            "organization" => names.organizations.insert(id, row.try_get("name")?).map(drop),
            "user" => names.users.insert(id, Some(row.try_get("name")?)).map(drop),
            _ => names.users.insert(id, None).map(drop),
        };
    }
    Ok(names)
}

/// Who has active bookings of an event, in the order of bookings, after the one named.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn bookers(
    conn: &Conn,
    event: EventId,
    after: BookingId,
    limit: i64,
) -> Result<Vec<(BookingId, UserId)>, DbError> {
    let rows = conn.rows(BOOKERS, &[&event.0, &after.0, &limit]).await?;
    rows.iter()
        .map(|row| Ok((BookingId(row.try_get("id")?), UserId(row.try_get("user_id")?))))
        .collect()
}

/// Somebody's notifications, the newest first, after (that is, older than) the one named.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    conn: &Conn,
    user: UserId,
    after: Option<Uuid>,
    unread: Option<bool>,
    limit: i64,
) -> Result<Vec<Notification>, DbError> {
    let rows = conn.rows(LIST, &[&user.0, &after, &unread, &limit]).await?;
    rows.iter().map(from_row).collect()
}

/// Marks notifications as read.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn mark_read(
    tx: &Conn,
    user: UserId,
    ids: &[Uuid],
    now: Timestamp,
) -> Result<u64, DbError> {
    tx.run(READ, &[&user.0, &ids, &now]).await
}

/// Marks notifications up to one as read.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn mark_read_up_to(
    tx: &Conn,
    user: UserId,
    last: NotificationId,
    now: Timestamp,
) -> Result<u64, DbError> {
    tx.run(READ_UP_TO, &[&user.0, &last.0, &now]).await
}

/// How many of these are in somebody's inbox.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn count_owned(tx: &Conn, user: UserId, ids: &[Uuid]) -> Result<i64, DbError> {
    match tx.row(OWNED, &[&user.0, &ids]).await? {
        Some(row) => Ok(row.try_get("found")?),
        None => Ok(0),
    }
}

/// How many notifications somebody has not read.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn count_unread(conn: &Conn, user: UserId) -> Result<i64, DbError> {
    match conn.row(UNREAD, &[&user.0]).await? {
        Some(row) => Ok(row.try_get("unread")?),
        None => Ok(0),
    }
}

fn from_row(row: &tokio_postgres::Row) -> Result<Notification, DbError> {
    let message_id: &str = row.try_get("message_id")?;
    let message_id = message_id.parse().map_err(|_| DbError::Corrupt {
        table: "notifications",
        column: "message_id",
        value: message_id.to_owned(),
    })?;
    Ok(Notification {
        id: NotificationId(row.try_get("id")?),
        user_id: UserId(row.try_get("user_id")?),
        message_id: MessageId(message_id),
        kind: row.try_get("type")?,
        event_id: row.try_get::<_, Option<Uuid>>("event_id")?.map(EventId),
        booking_id: row.try_get::<_, Option<Uuid>>("booking_id")?.map(BookingId),
        title: row.try_get("title")?,
        body: row.try_get("body")?,
        data: row.try_get("data")?,
        created_at: row.try_get("created_at")?,
        read_at: row.try_get("read_at")?,
    })
}
