//! People's interests in events, as they said them. What of it is counted is written by
//! `interaction.rs`.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::inventory::corrupt;
use super::{Conn, DbError, Statements as _};
use crate::domain::event::EventStatus;
use crate::domain::ids::{EventId, UserId};
use crate::domain::interest::{Interest, InterestState, Privacy};

/// The row of a person who never said anything, for them to be the only one who changes it.
const RESERVE: &str = "INSERT INTO event_interests
        (event_id, user_id, state, privacy, version, changed_at)
    VALUES ($1, $2, NULL, 'public', 0, $3) ON CONFLICT (event_id, user_id) DO NOTHING";
const LOCK: &str = "SELECT event_id, user_id, state, privacy, version, changed_at
    FROM event_interests WHERE event_id = $1 AND user_id = $2 FOR UPDATE";
const SAVE: &str = "UPDATE event_interests
    SET state = $3, privacy = $4, version = $5, changed_at = $6
    WHERE event_id = $1 AND user_id = $2";
/// In the order in which everybody locks them.
const LOCK_ALL_OF: &str = "SELECT event_id, user_id, state, privacy, version, changed_at
    FROM event_interests WHERE user_id = $1 AND state IS NOT NULL
    ORDER BY event_id FOR UPDATE";
const LIST_OF: &str = "SELECT i.event_id, i.user_id, i.state, i.privacy, i.version, i.changed_at,
        e.title, e.starts_at, e.status
    FROM (SELECT * FROM event_interests
        WHERE user_id = $1 AND state IS NOT NULL
          AND (changed_at, event_id) < (coalesce($2::timestamptz, 'infinity'),
                                        coalesce($3::uuid, $5))
        ORDER BY changed_at DESC, event_id DESC LIMIT $4) i
    CROSS JOIN LATERAL (SELECT title, starts_at, status FROM events
        WHERE id = i.event_id LIMIT 1) e
    ORDER BY i.changed_at DESC, i.event_id DESC";
const LIST_IN: &str = "SELECT i.event_id, i.user_id, i.state, i.privacy, i.version, i.changed_at,
        u.name
    FROM (SELECT * FROM event_interests
        WHERE event_id = $1 AND state IS NOT NULL AND privacy = 'public'
          AND (changed_at, user_id) < (coalesce($2::timestamptz, 'infinity'),
                                       coalesce($3::uuid, $5))
        ORDER BY changed_at DESC, user_id DESC LIMIT $4) i
    CROSS JOIN LATERAL (SELECT name FROM users WHERE id = i.user_id LIMIT 1) u
    ORDER BY i.changed_at DESC, i.user_id DESC";

/// The place of an interest in a list: when it changed, and the other id.
pub type Place = (Timestamp, Uuid);

/// An interest, and the event that it is in.
#[derive(Clone, Debug)]
pub struct InterestIn {
    /// The interest.
    pub interest: Interest,
    /// What the event is called.
    pub event_title: String,
    /// When it begins.
    pub event_starts_at: Timestamp,
    /// Where it is in its life.
    pub event_status: EventStatus,
}

/// An interest, and whose it is.
#[derive(Clone, Debug)]
pub struct InterestBy {
    /// The interest.
    pub interest: Interest,
    /// What the person is called.
    pub user_name: String,
}

/// Locks somebody's interest until the transaction ends; a new one if there is none.
pub async fn reserve(
    tx: &Conn,
    event: EventId,
    user: UserId,
    now: Timestamp,
) -> Result<Interest, DbError> {
    if let Some(known) = lock(tx, event, user).await? {
        return Ok(known);
    }
    tx.run(RESERVE, &[&event.0, &user.0, &now]).await?;
    let missing = || corrupt("event_interests", "event_id", "the row just written is gone");
    lock(tx, event, user).await?.ok_or_else(missing)
}

/// Locks somebody's interest until the transaction ends, if there is one.
pub async fn lock(tx: &Conn, event: EventId, user: UserId) -> Result<Option<Interest>, DbError> {
    tx.row(LOCK, &[&event.0, &user.0]).await?.as_ref().map(from_row).transpose()
}

/// Locks all interests that somebody has until the transaction ends.
pub async fn lock_all_of(tx: &Conn, user: UserId) -> Result<Vec<Interest>, DbError> {
    tx.rows(LOCK_ALL_OF, &[&user.0]).await?.iter().map(from_row).collect()
}

/// Writes an interest that is locked.
pub async fn save(tx: &Conn, interest: &Interest) -> Result<(), DbError> {
    let Interest { event_id, user_id, state, privacy, version, changed_at } = interest;
    let (state, privacy) = (state.map(InterestState::name), privacy.name());
    tx.run(SAVE, &[&event_id.0, &user_id.0, &state, &privacy, version, changed_at]).await.map(drop)
}

/// Somebody's interests, the last changed first, after the one at `after`.
pub async fn list_of(
    conn: &Conn,
    user: UserId,
    after: Option<Place>,
    limit: i64,
) -> Result<Vec<InterestIn>, DbError> {
    let (at, event) = after.unzip();
    let rows = conn.rows(LIST_OF, &[&user.0, &at, &event, &limit, &Uuid::max()]).await?;
    rows.iter()
        .map(|row| {
            Ok(InterestIn {
                interest: from_row(row)?,
                event_title: row.try_get("title")?,
                event_starts_at: row.try_get("starts_at")?,
                event_status: super::event::status(row.try_get("status")?)?,
            })
        })
        .collect()
}

/// Public interests in an event, the last changed first, after the one at `after`.
pub async fn list_in(
    conn: &Conn,
    event: EventId,
    after: Option<Place>,
    limit: i64,
) -> Result<Vec<InterestBy>, DbError> {
    let (at, user) = after.unzip();
    let rows = conn.rows(LIST_IN, &[&event.0, &at, &user, &limit, &Uuid::max()]).await?;
    rows.iter()
        .map(|row| Ok(InterestBy { interest: from_row(row)?, user_name: row.try_get("name")? }))
        .collect()
}

fn from_row(row: &Row) -> Result<Interest, DbError> {
    let privacy: &str = row.try_get("privacy")?;
    let unknown = || corrupt("event_interests", "privacy", privacy);
    Ok(Interest {
        event_id: EventId(row.try_get("event_id")?),
        user_id: UserId(row.try_get("user_id")?),
        state: state(row.try_get("state")?)?,
        privacy: Privacy::parse(privacy).ok_or_else(unknown)?,
        version: row.try_get("version")?,
        changed_at: row.try_get("changed_at")?,
    })
}

/// The state of that name.
pub(super) fn state(name: Option<&str>) -> Result<Option<InterestState>, DbError> {
    let known = |name| {
        let unknown = || corrupt("event_interests", "state", name);
        InterestState::parse(name).ok_or_else(unknown)
    };
    name.map(known).transpose()
}
