//! The product against real services: PostgreSQL, Redis and RabbitMQ, through its HTTP door. One
//! file a subject; the harness gives each test a server of its own. Run it with ./dev test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::similar_names,
    clippy::too_many_lines,
    reason = "a test says what it wants, from the beginning to the end"
)]

mod harness;
#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod alarms;
mod alerts;
mod audit;
mod bad_input;
mod bookings;
mod bus;
mod bus_letters;
mod bus_log;
mod bus_versions;
mod config;
mod dead_letters;
mod events;
mod hammer;
mod health;
mod hold_pins;
mod hold_races;
mod holds;
mod idempotency;
mod integrity;
mod interests;
mod limits;
mod messages;
mod notifications;
mod openapi;
mod organizations;
mod processed_events;
mod profiles;
mod races;
mod redrives;
mod seat_maps;
mod socket_guests;
mod socketio;
mod sockets;
mod streams;
mod tokens;
mod traces;
mod upkeep;
mod waitlist;
