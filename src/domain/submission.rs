//! A request that must happen at most once, and what was answered to it. Postgres keeps them, the
//! desk and the verbs decide with them, the door renders them; here they have their shape.

use uuid::Uuid;

/// An answer as it was or will be given. Its content is the door's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, to the byte.
    pub body: String,
    /// The `Location` header.
    pub location: Option<String>,
}

/// A request that must happen at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Whose key it is.
    pub principal: Uuid,
    /// Method and route template, e.g. `POST /bookings`.
    pub route: String,
    /// The caller's `Idempotency-Key`.
    pub key: String,
    /// SHA-256 of path and body: the same key with another one is a mistake.
    pub fingerprint: [u8; 32],
}

/// An answer just made, or the one that was given before.
#[derive(Clone, Debug)]
pub enum Answer<T> {
    /// Done now.
    Fresh(T),
    /// Done before; this was answered.
    Replayed(Reply),
}
