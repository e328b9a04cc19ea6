//! What a service does with the messages of the bus that it asked for. The claims, the retries and
//! the dead letters are the taker's affair (`take`): a handler only says what messages come to.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;

use crate::app::interests::count::UserInteractions;
use crate::bus::pattern;
use crate::clock::Ids;
use crate::domain::ids::MessageId;
use crate::domain::message::Defect;
use crate::domain::processing::ServiceContext;
use crate::postgres::{Conn, DbError};

/// A message of the bus as a handler sees it: checked against the schema of its type, lifted to
/// the version of today, opened where it was sealed.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its id for good.
    pub id: MessageId,
    /// Its type.
    pub kind: &'static str,
    /// What it says.
    pub data: Value,
    /// When what it tells happened.
    pub happened_at: Timestamp,
    /// The id of the request that caused it; of what follows from it too.
    pub correlation_id: String,
    /// W3C trace context of that request.
    pub traceparent: Option<String>,
}

/// Why messages could not be handled.
#[derive(Debug)]
pub enum Trouble {
    /// PostgreSQL answered with an error, or not at all.
    Db(DbError),
    /// The message of this id can never be handled; the others could.
    Poison(MessageId, Defect),
    /// Something else that is needed is away; nothing counts against the messages.
    Outage {
        /// What is away, for people and metrics.
        dependency: &'static str,
        /// How it showed.
        reason: String,
    },
}

impl From<DbError> for Trouble {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

/// What a batch came to.
#[derive(Default)]
pub struct Handled {
    /// Messages that there was nothing to do for, and why.
    pub skipped: Vec<(MessageId, &'static str)>,
    /// Counted in the handler's metrics, by name: how many were folded, updated and so on.
    pub counts: Vec<(&'static str, u64)>,
    /// There are new rows in the outbox: the relay is rung after the commit.
    pub told: bool,
}

/// A service that handles messages.
pub trait Handler: Send + Sync + 'static {
    /// Under which name it is remembered what was handled; the name of its group too.
    fn service(&self) -> ServiceContext;

    /// The types that it asks for, by name or by pattern (`vendor.*`, `*.deleted`, `>`).
    fn kinds(&self) -> &'static [&'static str];

    /// Whether a message of these types is for it, by what it says (S3.29). One that is not is
    /// noted as skipped, and that is all. The same message has the same answer each time.
    fn wants(&self, _message: &Message) -> bool {
        true
    }

    /// Writes what messages come to, in the transaction that claims them: all of it or nothing is
    /// committed, and the messages are acknowledged after that. It may be called again with the
    /// same messages, alone or in other company, after it failed.
    fn handle<'a>(
        &'a self,
        tx: &'a Conn,
        batch: &'a [Message],
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Handled, Trouble>>;
}

/// Whether somebody who asks for `kinds` asks for that one.
pub fn asks(kinds: &[&str], kind: &str) -> bool {
    kinds.iter().any(|pattern| pattern::matches(pattern, kind))
}

/// Everybody who handles messages of the bus. A new service is a line here.
pub fn all(ids: Ids) -> Vec<Handling> {
    vec![Arc::new(UserInteractions::new(ids))]
}

/// A handler, shared by those who take messages for it.
pub type Handling = Arc<dyn Handler>;
