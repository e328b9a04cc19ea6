//! The booking page in a real browser: Chromium, driven through chromedriver, against a whole
//! server of its own for each test. Run it with ./dev test, which installs Chromium if it can.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it wants, from the beginning to the end"
)]

mod chrome;
#[path = "../it/harness/mod.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest")]
mod harness;
mod house;
mod line;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other test binaries use the rest")]
mod support;
mod window;

mod booking;
mod keyboard;
mod live;
mod waitlist;
