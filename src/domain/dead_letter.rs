//! Messages that could not be published or processed, with their reason, until somebody sends
//! them again or drops them.

use jiff::Timestamp;

use super::ids::{DeadLetterId, MessageId, RedriveId, UserId};

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
    /// The version of its type that the payload is of.
    pub schema_version: i32,
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

/// What was done about a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was sent again under its own id.
    Redriven,
    /// A message with other data took its place.
    Copied,
    /// Nobody needs it.
    Discarded,
}

impl Resolution {
    /// The name in tables and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Copied => "copied",
            Self::Discarded => "discarded",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Redriven, Self::Copied, Self::Discarded].into_iter().find(|one| one.name() == name)
    }
}

/// The end of a letter.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What was done.
    pub how: Resolution,
    /// When.
    pub at: Timestamp,
    /// By whom; `None`: at the command line.
    pub by: Option<UserId>,
    /// Why, in their words.
    pub note: Option<String>,
    /// The message that took its place.
    pub replaced_by: Option<MessageId>,
}

/// A letter and what was done about it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The letter.
    pub letter: DeadLetter,
    /// `None`: it is open.
    pub resolved: Option<Resolved>,
    /// The letter whose edited copy its message is.
    pub copy_of: Option<DeadLetterId>,
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
    /// These; empty is any.
    pub ids: Vec<DeadLetterId>,
}

/// Which letters by what was done about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Those that wait for a decision.
    #[default]
    Open,
    /// Those that something was done about.
    Resolved,
    /// Both.
    All,
}

/// Sending many letters again: a job that goes on until it is done, whoever began it.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// Which.
    pub id: RedriveId,
    /// Which letters, the oldest first; none that died later than this began.
    pub filter: Filter,
    /// Not more than so many a second.
    pub rate_per_second: u32,
    /// At most so many.
    pub most: i64,
    /// Also those that were sent again too often.
    pub force: bool,
    /// How many there were when it began.
    pub matched: i64,
    /// Sent again so far.
    pub redriven: i64,
    /// Not sent again so far.
    pub refused: i64,
    /// The first of those, and why.
    pub refusals: Vec<(DeadLetterId, String)>,
    /// The letters up to this one are dealt with.
    pub after: Option<DeadLetterId>,
    /// The rate allows what fits between here and now.
    pub paid_until: Timestamp,
    /// Since when.
    pub created_at: Timestamp,
    /// By whom; `None`: at the command line.
    pub created_by: Option<UserId>,
    /// The request that began it.
    pub request_id: String,
    /// Since when it is over.
    pub finished_at: Option<Timestamp>,
    /// Somebody ended it before it was done.
    pub cancelled: bool,
}

impl Redrive {
    /// `running`, `done` or `cancelled`.
    pub fn state(&self) -> &'static str {
        match (self.finished_at, self.cancelled) {
            (None, _) => "running",
            (Some(_), false) => "done",
            (Some(_), true) => "cancelled",
        }
    }
}

/// A publication that failed, as documented (S2.46 to S2.50).
#[derive(Clone, Debug)]
pub struct FailedEvent {
    /// The message.
    pub id: MessageId,
    /// Its type.
    pub kind: String,
    /// Its data as JSON text.
    pub data: String,
    /// Why it failed last.
    pub error: String,
    /// When.
    pub at: Timestamp,
    /// How often it was tried again; 0 after the first failure.
    pub retries: i32,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// It was given up.
    pub is_dead: bool,
}
