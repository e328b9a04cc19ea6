//! Messages that could not be published or processed, with their reason, until somebody sends
//! them again or drops them.

use jiff::Timestamp;

use super::ids::{DeadLetterId, MessageId};

/// How often a dead letter may be sent again before that counts as a loop.
pub const REDRIVES_MAX: i32 = 5;
/// The source of letters that died on their way to the broker.
pub const RELAY: &str = "relay";
/// The source of letters that died inside the broker.
pub const BROKER: &str = "broker";

/// A message that died.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Which.
    pub id: DeadLetterId,
    /// Where it died: [`RELAY`], [`BROKER`] or a service context.
    pub source: String,
    /// The message.
    pub message_id: MessageId,
    /// Its type, as far as it had one.
    pub kind: String,
    /// Its body as received; may not even be JSON.
    pub payload: String,
    /// The id of the request that caused it.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What it died of.
    pub reason: String,
    /// The same for letters that died of the same thing.
    pub fingerprint: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it died.
    pub died_at: Timestamp,
    /// How often it was sent again.
    pub redrives: i32,
}

/// Letters that died of the same thing.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub fingerprint: String,
    /// Where they died.
    pub source: String,
    /// Their type.
    pub kind: String,
    /// What the last of them died of.
    pub reason: String,
    /// How many.
    pub count: i64,
    /// The last of them, as a sample.
    pub sample_id: DeadLetterId,
    /// When the first died.
    pub first_died_at: Timestamp,
    /// When the last died.
    pub last_died_at: Timestamp,
}

/// Which letters are meant; what is not named is any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this type.
    pub kind: Option<String>,
    /// From here.
    pub source: Option<String>,
    /// That died of this.
    pub fingerprint: Option<String>,
}
