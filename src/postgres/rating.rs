//! People's ratings of events, as they gave them. What of it is counted is written by
//! `interaction.rs`.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::inventory::corrupt;
use super::{Conn, DbError, Statements as _};
use crate::domain::ids::{EventId, UserId};
use crate::domain::interest::Rating;

/// The row of a person who never rated it, for them to be the only one who changes it.
const RESERVE: &str = "INSERT INTO event_ratings (event_id, user_id, version, changed_at)
    VALUES ($1, $2, 0, $3) ON CONFLICT (event_id, user_id) DO NOTHING";
const LOCK: &str = "SELECT event_id, user_id, rating, version, changed_at
    FROM event_ratings WHERE event_id = $1 AND user_id = $2 FOR UPDATE";
const SAVE: &str = "UPDATE event_ratings SET rating = $3, version = $4, changed_at = $5
    WHERE event_id = $1 AND user_id = $2";

/// Locks somebody's rating until the transaction ends; a new one if there is none.
pub async fn reserve(
    tx: &Conn,
    event: EventId,
    user: UserId,
    now: Timestamp,
) -> Result<Rating, DbError> {
    if let Some(known) = lock(tx, event, user).await? {
        return Ok(known);
    }
    tx.run(RESERVE, &[&event.0, &user.0, &now]).await?;
    let missing = || corrupt("event_ratings", "event_id", "the row just written is gone");
    lock(tx, event, user).await?.ok_or_else(missing)
}

/// Locks somebody's rating until the transaction ends, if there is one.
pub async fn lock(tx: &Conn, event: EventId, user: UserId) -> Result<Option<Rating>, DbError> {
    tx.row(LOCK, &[&event.0, &user.0]).await?.as_ref().map(from_row).transpose()
}

/// Writes a rating that is locked.
pub async fn save(tx: &Conn, rated: &Rating) -> Result<(), DbError> {
    let Rating { event_id, user_id, rating, version, changed_at } = rated;
    tx.run(SAVE, &[&event_id.0, &user_id.0, rating, version, changed_at]).await.map(drop)
}

fn from_row(row: &Row) -> Result<Rating, DbError> {
    Ok(Rating {
        event_id: EventId(row.try_get("event_id")?),
        user_id: UserId(row.try_get("user_id")?),
        rating: row.try_get("rating")?,
        version: row.try_get("version")?,
        changed_at: row.try_get("changed_at")?,
    })
}
