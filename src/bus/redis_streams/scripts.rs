//! The Lua scripts of the bus, loaded with each new connection.

use std::sync::LazyLock;

use redis::Script;

/// A script that begins with how an entry looks when it leaves.
macro_rules! with_entries {
    ($name:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("../lua/part_entry.lua"),
                include_str!(concat!("../lua/", $name, ".lua"))
            ))
        })
    };
}

/// A script that stands alone.
macro_rules! alone {
    ($name:literal) => {
        LazyLock::new(|| Script::new(include_str!(concat!("../lua/", $name, ".lua"))))
    };
}

/// Hands entries to a consumer.
pub static TAKE: LazyLock<Script> = with_entries!("take_entries-2");
/// Shows entries.
pub static LOOK: LazyLock<Script> = with_entries!("look_at_entries-1");
/// Appends messages.
pub static APPEND: LazyLock<Script> = alone!("append_entries-1");
/// Lets entries wait for their retry.
pub static POSTPONE: LazyLock<Script> = alone!("postpone_entries-2");
/// Gives back what a consumer has.
pub static LEAVE: LazyLock<Script> = alone!("leave_group-2");
/// Drops what everybody has acknowledged.
pub static TRIM: LazyLock<Script> = alone!("trim_stream-1");
/// Tells how far a group is behind.
pub static LAG: LazyLock<Script> = alone!("measure_lag-1");

/// All of them.
pub fn all() -> [&'static Script; 7] {
    [&TAKE, &LOOK, &APPEND, &POSTPONE, &LEAVE, &TRIM, &LAG]
}
