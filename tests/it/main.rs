//! The product against real services: PostgreSQL, Redis and RabbitMQ, through its HTTP door. One
//! file a subject; the harness gives each test a server of its own. Run it with ./dev test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in tests these are the assertions"
)]

mod harness;
#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod bookings;
mod events;
mod idempotency;
mod organizations;
mod profiles;
mod races;
mod waitlist;
