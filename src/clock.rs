//! The only source of time and of randomness. Everything else is handed `now` and ids, so that
//! rules can be tested at any hour and with any dice.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;
use uuid::Uuid;

/// Tells the time: the system's, or in tests one that is set by hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// A clock that stands at `at` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(at: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(at.as_millisecond()))))
    }

    /// Now, cut to milliseconds: what the API shows is what the database keeps.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
    pub fn now(&self) -> Timestamp {
        let ms = match &self.0 {
            Some(at) => at.load(Ordering::SeqCst),
            None => Timestamp::now().as_millisecond(),
        };
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
    }

    /// Moves a manual clock; a system clock goes its own way.
    pub fn advance(&self, by: SignedDuration) {
        if let Some(at) = &self.0 {
            let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            at.fetch_add(ms, Ordering::SeqCst);
        }
    }
}

/// Makes ids and secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids;

impl Ids {
    /// A UUIDv7 (RFC 9562): later ids sort after earlier ones of the same process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file owns randomness")]
    pub fn uuid(self) -> Uuid {
        Uuid::now_v7()
    }

    /// A UUIDv7 that sorts beside `of`, also a UUIDv7: of the same millisecond.
    #[must_use]
    pub fn beside(self, of: Uuid) -> Uuid {
        let (when, _) = of.as_u64_pair();
        let (_, dice) = self.uuid().as_u64_pair();
        Uuid::from_u64_pair(when, dice)
    }

    /// 256 random bits as base64url, for tokens and keys.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file owns randomness")]
    pub fn secret(self) -> String {
        let mut bytes = [0_u8; 32];
        rand::rng().fill(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// 96 random bits: what makes each sealing of a field differ from every other.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file owns randomness")]
    pub fn nonce(self) -> [u8; 12] {
        let mut bytes = [0_u8; 12];
        rand::rng().fill(&mut bytes);
        bytes
    }

    /// A number in `0..below` for jitter; 0 when `below` is 0.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file owns randomness")]
    pub fn jitter(self, below: u64) -> u64 {
        if below == 0 { 0 } else { rand::rng().random_range(0..below) }
    }

    /// A W3C trace id.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file owns randomness")]
    pub fn trace_id(self) -> u128 {
        rand::rng().random_range(1..=u128::MAX)
    }

    /// A W3C span id.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file owns randomness")]
    pub fn span_id(self) -> u64 {
        rand::rng().random_range(1..=u64::MAX)
    }

    /// True this often: never with 0, always with 1.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file owns randomness")]
    pub fn chance(self, ratio: f64) -> bool {
        ratio > 0.0 && rand::rng().random::<f64>() < ratio
    }
}

/// Nanoseconds since 1970, for spans. They are about how long things took, so no manual clock is
/// asked, and nothing is cut off.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
pub fn unix_nanos() -> u64 {
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0)
}
