//! What must hold when something breaks: real services and the real binary are killed, stopped,
//! cut off and restarted in the middle of a sale, and then everything is compared: what people
//! were answered, what the database says, what Redis shows, what came to inboxes.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are tests: what goes wrong shall be loud, and they own their tasks"
)]

mod holders;
mod http;
mod nats;
mod process;
mod proxy;
mod sale;
mod server;
mod services;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest")]
mod support;
mod verify;
mod watchers;
mod world;

mod alarms;
mod bus_lost;
mod cascade;
mod crashes;
mod floods;
mod holds_histories;
mod holds_lost;
mod postgres_lost;
mod processes;
mod promotion;
mod rabbit_lost;
mod redis_lost;
mod stops;
mod traces;
