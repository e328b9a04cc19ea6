//! What tests against real services share: a database and a Redis of their own, an HTTP client,
//! and the truth that must hold when a test is over.

pub mod client;
pub mod collector;
pub mod database;
pub mod redis_server;
pub mod seat_map;
pub mod truth;

use std::time::{Duration, Instant};

/// A setting that `./dev test` makes.
///
/// # Panics
/// With one line that says what to do when it is missing.
#[expect(clippy::disallowed_methods, reason = "tests are told where the services are")]
pub fn environment(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests run with ./dev test"))
}

/// Asks again and again until the answer is `Ok`.
///
/// # Panics
/// With the last answer when `deadline` is over.
pub async fn eventually<T, Fut>(deadline: Duration, mut ask: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Result<T, String>>,
{
    let until = Instant::now() + deadline;
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(why) if Instant::now() > until => panic!("not within {deadline:?}: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
