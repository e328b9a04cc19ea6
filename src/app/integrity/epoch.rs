//! Which incarnation of Redis is believed, agreed on through PostgreSQL.

use crate::app::Result;
use crate::postgres::{Db, epoch};
use crate::redis::{Redis, Trust, stock};

/// Makes sure that Redis is believed: a server that restarted or was flushed begins a new epoch,
/// in which nothing that it may still hold counts. True if everything has to be shown anew.
///
/// # Errors
/// When PostgreSQL is away. Redis being away is not an error: there is nothing to believe.
pub async fn ensure(db: &Db, redis: &Redis) -> Result<bool> {
    let Ok(run_id) = redis.link.run_id().await else { return Ok(false) };
    let trusted = redis.link.trusted().filter(|trust| trust.run_id == run_id);
    let forgot = match &trusted {
        Some(trust) => match stock::marked(&redis.link, trust.epoch).await {
            Ok(false) => Some(trust.epoch),
            Ok(true) | Err(_) => return Ok(false),
        },
        None => None,
    };
    let mut epoch = epoch::of(db, &run_id, forgot).await?;
    if forgot.is_none() && !matches!(stock::marked(&redis.link, epoch).await, Ok(true)) {
        // First look at a server that is known but holds nothing of its epoch.
        epoch = epoch::of(db, &run_id, Some(epoch)).await?;
    }
    if stock::mark(&redis.link, epoch).await.is_ok() {
        tracing::info!(run_id, epoch, "Redis is believed in a new epoch");
        redis.link.trust(Trust { run_id, epoch });
        return Ok(true);
    }
    Ok(false)
}
