//! The Lua scripts: loaded once per server, called by hash, loaded again if the server forgot.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, Pipeline, RedisError, Script};

/// A script that begins with what all scripts about holds share.
macro_rules! with_holds {
    ($name:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("lua/part_holds.lua"),
                include_str!(concat!("lua/", $name, ".lua"))
            ))
        })
    };
}

/// Lets requests through to the desk, or refuses them.
pub static RESERVE: LazyLock<Script> = with_holds!("reserve_slots-3");
/// Publishes what a commit left.
pub static PUBLISH: LazyLock<Script> = with_holds!("publish_stock-4");
/// Sets an event to a snapshot.
pub static REBUILD: LazyLock<Script> = with_holds!("rebuild_stock-4");
/// Holds seats.
pub static TAKE: LazyLock<Script> = with_holds!("take_seats-1");
/// Gives a hold more time.
pub static RENEW: LazyLock<Script> = with_holds!("renew_hold-1");
/// Ends a hold.
pub static RELEASE: LazyLock<Script> = with_holds!("release_hold-1");
/// Shortens a hold while nobody is there, and gives the time back.
pub static PARK: LazyLock<Script> = with_holds!("park_hold-1");
/// Ends the holds whose time is over.
pub static SWEEP: LazyLock<Script> = with_holds!("sweep_holds-1");
/// Says where holds may have to be ended.
pub static DUE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/due_events-1.lua")));
/// Forgets where none is.
pub static FORGET: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/forget_event-1.lua")));

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
