//! Calls that are not part of the load: making accounts and events before it, reading back what
//! became of the bookings after it. Patient where the load is not: waits out 429 and 503.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

use super::client::{self, Connection, Target};

/// How long a call is tried again before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(90);
/// The pause before trying again when the server names none.
const PAUSE: Duration = Duration::from_millis(300);
/// Items asked for per page (API.md).
const PAGE: usize = 100;
/// Pages read at most: two million items.
const PAGES_MAX: usize = 20_000;

/// A caller of the API.
#[derive(Debug)]
pub struct Api {
    connection: Connection,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl Api {
    /// A caller with a connection of its own.
    pub fn new(target: Arc<Target>) -> Self {
        Self { connection: Connection::new(target) }
    }

    /// POSTs and gives the answer's body.
    ///
    /// # Errors
    /// When the answer is not a success, after waiting out what passes.
    pub async fn post(
        &mut self,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: &Value,
    ) -> anyhow::Result<Value> {
        self.call("POST", path, token, key, Some(&body.to_string())).await
    }

    /// GETs and gives the answer's body.
    ///
    /// # Errors
    /// When the answer is not a success, after waiting out what passes.
    pub async fn get(&mut self, path: &str, token: Option<&str>) -> anyhow::Result<Value> {
        self.call("GET", path, token, None, None).await
    }

    /// Reads a whole list, handing each item to `take`.
    ///
    /// # Errors
    /// When a page cannot be read, or there are more than two million items.
    pub async fn list<T: for<'de> Deserialize<'de>>(
        &mut self,
        path: &str,
        token: &str,
        mut take: impl FnMut(T),
    ) -> anyhow::Result<()> {
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let page = format!("{path}?limit={PAGE}{cursor}");
            let page: Page<T> = self.call("GET", &page, Some(token), None, None).await?;
            page.items.into_iter().for_each(&mut take);
            let Some(next) = page.next_cursor else { return Ok(()) };
            cursor = format!("&cursor={}", query(&next));
        }
        bail!("{path} does not end after {PAGES_MAX} pages")
    }

    async fn call<T: for<'de> Deserialize<'de>>(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: Option<&str>,
    ) -> anyhow::Result<T> {
        let mut request = self.connection.target().head(method, path, token);
        client::finish(&mut request, key, body);
        let url = self.connection.target().url();
        let started = Instant::now();
        loop {
            let patient = started.elapsed() < PATIENCE;
            let pause = match self.connection.exchange(&request).await {
                Ok(answer) if answer.status == 204 => return client::json(b"null"),
                Ok(answer) if (200..300).contains(&answer.status) => {
                    return client::json(answer.body)
                        .with_context(|| format!("{method} {path} answered {}", answer.status));
                }
                Ok(answer) if matches!(answer.status, 429 | 503) && patient => {
                    answer.retry_after.map_or(PAUSE, Duration::from_secs)
                }
                Ok(answer) => {
                    let problem: Value = client::json(answer.body).unwrap_or_default();
                    bail!("{method} {path} answered {} {problem}", answer.status);
                }
                // Without a key it may have happened already: only a GET may be said twice.
                Err(trouble) => {
                    let safe = key.is_some() || method == "GET";
                    let waited_too_long = started.elapsed() > PATIENCE / 9;
                    if !safe || waited_too_long {
                        return Err(trouble).with_context(|| format!("{method} {path} at {url}"));
                    }
                    PAUSE
                }
            };
            tokio::time::sleep(pause.min(PATIENCE)).await;
        }
    }
}

/// Percent-encodes what may not stand in a query (RFC 3986 §3.4).
fn query(raw: &str) -> String {
    let mut encoded = String::with_capacity(raw.len());
    for byte in raw.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(query("aZ0-._~"), "aZ0-._~");
        assert_eq!(query("a=b&c+d/é"), "a%3Db%26c%2Bd%2F%C3%A9");
    }
}
