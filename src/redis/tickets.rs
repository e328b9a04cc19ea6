//! Tickets for sockets: each lets one person in, once, whichever process it is shown to.

use super::{Away, Redis, keys};

/// Keeps what the ticket stands for, under its digest, for so many seconds.
///
/// # Errors
/// When Redis is away.
pub async fn keep(redis: &Redis, digest: &str, who: &str, seconds: u32) -> Result<(), Away> {
    let mut connection = redis.link.connection().await?;
    redis::cmd("SET")
        .arg(keys::ticket(digest))
        .arg(who)
        .arg("EX")
        .arg(seconds)
        .exec_async(&mut connection)
        .await
        .map_err(|error| redis.link.failed(error))
}

/// What the ticket of that digest stands for. Nobody will be told again.
///
/// # Errors
/// When Redis is away.
pub async fn take(redis: &Redis, digest: &str) -> Result<Option<String>, Away> {
    let mut connection = redis.link.connection().await?;
    redis::cmd("GETDEL")
        .arg(keys::ticket(digest))
        .query_async(&mut connection)
        .await
        .map_err(|error| redis.link.failed(error))
}
