//! Shows an event in Redis as PostgreSQL knows it.

use crate::app::Result;
use crate::domain::ids::EventId;
use crate::postgres::{Db, integrity};
use crate::redis::{Redis, stock};

/// Rebuilds an event's counters and queue from one snapshot; true if anything was different.
///
/// # Errors
/// When PostgreSQL is away. Redis being away is not an error: it is rebuilt when it is back.
pub async fn event(db: &Db, redis: &Redis, event: EventId) -> Result<bool> {
    let conn = db.get().await?;
    let snapshot = integrity::snapshot(&conn, event).await?;
    drop(conn);
    let Some(snapshot) = snapshot else { return Ok(false) };
    Ok(stock::rebuild(&redis.link, &snapshot).await.unwrap_or(false))
}
