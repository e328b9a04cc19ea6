//! Shows in Redis what commits left of events.

use crate::app::Result;
use crate::app::integrity::rebuild;
use crate::postgres::Db;
use crate::redis::Redis;
use crate::redis::stock;
pub use crate::redis::stock::Publication;

/// Publishes what commits left; events whose publications in between were lost are rebuilt. False
/// when Redis is away: then the reconciler shows it later.
///
/// # Errors
/// When PostgreSQL is away and an event has to be rebuilt.
pub async fn show(db: &Db, redis: &Redis, publications: &[Publication]) -> Result<bool> {
    let Ok(stale) = stock::publish(&redis.link, publications).await else { return Ok(false) };
    for event in stale {
        rebuild::event(db, redis, event).await?;
    }
    Ok(true)
}
