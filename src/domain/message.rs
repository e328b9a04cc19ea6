//! A message as a consumer sees it: what was received, what it says, and what becomes of it. A
//! message comes from outside, whoever sent it: nothing in it is believed before it is checked.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::fact::Fact;
use super::ids::{BookingId, MessageId};

/// The longest payload that is read, and as much of a longer one as a dead letter keeps, in
/// bytes. Ours are a few hundred.
pub const PAYLOAD_MAX: usize = 65_536;
/// The longest type that a dead letter keeps, in characters.
const KIND_MAX: usize = 100;
/// The longest reason that is kept, in characters.
const REASON_MAX: usize = 1000;

/// By which way a message leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Notifications, through RabbitMQ.
    Mail,
    /// Everything else, through the bus.
    Bus,
}

impl Lane {
    /// The lane's name in tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Bus => "bus",
        }
    }

    /// The lane of a type: those of the bus are named `resource.action` (S2.78), notifications are
    /// one word (S4.25).
    pub fn of(kind: &str) -> Self {
        if kind.contains('.') { Self::Bus } else { Self::Mail }
    }
}

/// An id (UUID version 8) for what came without one, made of what is known of it: it is the same
/// when it comes again.
pub fn derived_id(parts: &[&[u8]]) -> MessageId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    MessageId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// Where a fan-out goes on: whose message it is and which booking was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanOut {
    /// The message that began it; nobody is told twice of the same one.
    pub origin: MessageId,
    /// Everybody with bookings up to this one has been told.
    pub after: BookingId,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What happened and whom to tell.
    pub fact: Fact,
    /// Set in the later parts of a message to many.
    pub fan_out: Option<FanOut>,
}

/// Why a message can never be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect(String);

impl Defect {
    /// A reason, bounded and in characters that every store takes.
    pub fn new(reason: impl AsRef<str>) -> Self {
        Self(storable(reason.as_ref(), REASON_MAX))
    }

    /// The reason, for people.
    pub fn reason(&self) -> &str {
        &self.0
    }
}

/// A message as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its id; made from its content if it had none.
    pub id: MessageId,
    /// Its `type`, as far as it had one.
    pub kind: String,
    /// Its body, as far as a dead letter keeps it.
    pub payload: String,
    /// The id of the request that caused it.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// When what it tells happened.
    pub created_at: Option<Timestamp>,
    /// What it says.
    pub content: Result<Content, Defect>,
}

/// What becomes of a message at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is dealt with.
    Ack,
    /// It comes again after this long.
    Retry(Duration),
}

/// A `type` as it is kept.
pub fn kind(raw: &str) -> String {
    storable(raw, KIND_MAX)
}

/// At most `max` characters of a text, without those that PostgreSQL cannot keep.
pub fn storable(raw: &str, max: usize) -> String {
    raw.chars().map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }).take(max).collect()
}

/// A reason with its numbers and ids blanked out: what letters that died of the same thing have in
/// common.
pub fn cause(reason: &str) -> String {
    let mut out = String::new();
    for word in reason.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        if word.chars().any(|c| c.is_ascii_digit()) {
            out.push('#');
        } else {
            out.push_str(&word.to_lowercase());
        }
        if out.len() > 200 {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_ignore_numbers_and_ids() {
        let one = cause("missing field `type` at line 1 column 17");
        assert_eq!(one, cause("missing field `type` at line 20 column 3"));
        assert_ne!(one, cause("missing field `userId` at line 1 column 17"));
        assert_eq!(cause("no user 0190-af3c"), cause("no user 7777-00ab"));
    }

    #[test]
    fn stored_text_has_no_nul() {
        assert_eq!(storable("a\0b", 10), "a\u{fffd}b");
        assert_eq!(storable("abc", 2), "ab");
    }
}
