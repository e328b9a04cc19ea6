//! The Lua scripts: loaded once per server, called by hash, loaded again if the server forgot.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, Pipeline, RedisError, Script};

/// Lets requests through to the desk, or refuses them.
pub static RESERVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/reserve_slots-3.lua")));
/// Publishes what a commit left.
pub static PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/publish_stock-4.lua")));
/// Sets an event to a snapshot.
pub static REBUILD: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/rebuild_stock-4.lua")));

/// Runs a pipeline of calls of `script`; if the server does not know the script, loads it and
/// runs the pipeline again. Safe only for calls that refused as a whole: `NOSCRIPT` on the first
/// call means `NOSCRIPT` on all.
pub async fn run<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    script: &Script,
    pipeline: &Pipeline,
) -> Result<T, RedisError> {
    match pipeline.query_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(redis::ServerErrorKind::NoScript) => {
            script.prepare_invoke().load_async(connection).await?;
            pipeline.query_async(connection).await
        }
        answer => answer,
    }
}
