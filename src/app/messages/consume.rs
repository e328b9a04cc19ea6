//! Dealing with received messages once each: claim, effects and end are one statement for as
//! many messages as came together, so that whatever dies in between leaves nothing half done. A
//! batch that fails is taken apart: no message fails for a neighbour's sake.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use jiff::Timestamp;

use super::ledger::{Ledger, Record, told_by};
use crate::app::App;
use crate::app::notifications::announce::announce;
use crate::app::notifications::deliver::{self, Told};
use crate::domain::dead_letter::DeadLetter;
use crate::domain::fact::FactKind;
use crate::domain::ids::MessageId;
use crate::domain::message::{Received, Verdict};
use crate::domain::processing::{
    ProcessingStatus, ServiceContext, bus_stream_name, stream_name, tier_ms,
};
use crate::domain::stream_type::{self, StreamType};
use crate::postgres::delivery::{self, Effects, End, Written};
use crate::postgres::inbox::Key;
use crate::postgres::notification::{self, Names, Wanted};
use crate::postgres::outbox::RawMessage;
use crate::postgres::pool::Object;
use crate::postgres::{Db, DbError, dead_letter};
use crate::redis::Redis;
use crate::wake::Wake;

/// The service whose consumer this is.
const SERVICE: ServiceContext = ServiceContext::InboxService;

/// The in-app inbox as its consumers see it.
#[derive(Clone)]
pub struct Inbox {
    ledger: Ledger,
    redis: Redis,
    relay: Wake,
}

/// Why a batch did not go through.
enum Broken {
    /// PostgreSQL answered with an error, or not at all.
    Db(DbError),
    /// A mistake of ours.
    Panic(String),
}

impl From<DbError> for Broken {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl Broken {
    fn reason(self) -> String {
        match self {
            Self::Db(error) => format!("{:#}", anyhow::Error::from(error)),
            Self::Panic(what) => format!("panicked: {what}"),
        }
    }
}

impl Inbox {
    /// The inbox in this database, which is `app`'s by a pool of its own. The rest of a message to
    /// many goes back to the outbox.
    pub fn new(app: &App, db: Db) -> Self {
        let ledger = Ledger {
            service: SERVICE,
            db,
            clock: app.clock.clone(),
            ids: app.ids,
            config: Arc::clone(&app.config),
            signals: app.signals.clone(),
        };
        Self { ledger, redis: app.redis.clone(), relay: app.wakes.outbox_relay.clone() }
    }

    /// Deals with messages, and says what becomes of each at the broker, in their order.
    ///
    /// # Errors
    /// When PostgreSQL is away, which is not the messages' fault: nothing was done, and all of
    /// them are to be delivered again.
    pub async fn settle(&self, batch: &[Received]) -> anyhow::Result<Vec<Verdict>> {
        let all: Vec<&Received> = batch.iter().collect();
        let broken = match self.attempt(&all).await {
            Ok(verdicts) => return Ok(verdicts),
            Err(broken) => broken,
        };
        self.ledger.reach_postgres().await?;
        if let [message] = batch {
            return Ok(vec![self.note_failure(message, &broken.reason()).await?]);
        }
        let mut verdicts = Vec::with_capacity(batch.len());
        for message in batch {
            let verdict = match self.attempt(&[message]).await {
                Ok(verdict) => verdict.into_iter().next(),
                Err(broken) => {
                    self.ledger.reach_postgres().await?;
                    Some(self.note_failure(message, &broken.reason()).await?)
                }
            };
            verdicts.push(verdict.unwrap_or(Verdict::Ack));
        }
        Ok(verdicts)
    }

    /// Keeps letters that died inside the broker.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn bury(&self, source: &str, dead: &[(Received, String)]) -> Result<(), DbError> {
        let now = self.ledger.clock.now();
        let mut letters: HashMap<MessageId, DeadLetter> = HashMap::new();
        for (message, reason) in dead {
            letters
                .insert(message.id, self.ledger.letter(source, &record(message), reason, 1, now));
        }
        let letters: Vec<DeadLetter> = letters.into_values().collect();
        dead_letter::save(&*self.ledger.db.get().await?, &letters).await
    }

    /// All at once; a panic in it is a failure like any other.
    async fn attempt(&self, batch: &[&Received]) -> Result<Vec<Verdict>, Broken> {
        let whole = AssertUnwindSafe(self.transaction(batch)).catch_unwind().await;
        match whole {
            Ok(done) => Ok(done?),
            Err(panic) => Err(Broken::Panic(told_by(&*panic))),
        }
    }

    async fn transaction(&self, batch: &[&Received]) -> Result<Vec<Verdict>, DbError> {
        let now = self.ledger.clock.now();
        // The same message twice in a batch is dealt with once.
        let mut seen = HashSet::with_capacity(batch.len());
        let unique: Vec<&Received> =
            batch.iter().copied().filter(|message| seen.insert(message.id)).collect();
        let (told, effects) = self.compose(&unique, now).await?;
        let Written { won, entries } =
            delivery::tell(&self.ledger.db, SERVICE, &effects, now).await?;
        announce(&self.redis, &effects.entries, &entries).await;
        let lost = unique.iter().filter(|message| !won.contains_key(&message.id));
        let lost: Vec<Key> = lost.map(|message| key(message)).collect();
        let verdicts = self.ledger.refused(&lost, now).await?;
        let done = unique.iter().zip(&told).filter(|(message, _)| won.contains_key(&message.id));
        self.report(done.map(|(message, told)| (*message, told)), now);
        Ok(batch
            .iter()
            .map(|message| verdicts.get(&key(message)).copied().unwrap_or(Verdict::Ack))
            .collect())
    }

    /// What each of the messages comes to if its claim is won, and all that is to be written then.
    async fn compose(
        &self,
        messages: &[&Received],
        now: Timestamp,
    ) -> Result<(Vec<Told>, Effects), DbError> {
        let readable = messages.iter().filter_map(|message| message.content.as_ref().ok());
        let wanted = deliver::wanted(readable);
        let (conn, names) = self.names(&wanted).await?;
        let mut effects = Effects::default();
        let mut outcomes = Vec::with_capacity(messages.len());
        for message in messages {
            let (told, entries, rest) = match &message.content {
                Ok(content) => {
                    deliver::deliver(&conn, self.ledger.ids, now, &names, message, content).await?
                }
                Err(defect) => (Told::Never(defect.clone()), Vec::new(), None),
            };
            effects.entries.extend(entries.into_iter().map(|entry| (message.id, entry)));
            effects.ends.push(self.end(message, &told, rest, now));
            outcomes.push(told);
        }
        Ok((outcomes, effects))
    }

    /// Names, and the connection that they came from; one that died in the pool is replaced once.
    async fn names(&self, wanted: &Wanted) -> Result<(Object, Names), DbError> {
        let conn = self.ledger.db.get().await?;
        match notification::names(&conn, wanted).await {
            Err(DbError::Unavailable(_)) => {
                let conn = self.ledger.db.get().await?;
                let names = notification::names(&conn, wanted).await?;
                Ok((conn, names))
            }
            names => Ok((conn, names?)),
        }
    }

    fn end(
        &self,
        message: &Received,
        told: &Told,
        rest: Option<RawMessage>,
        now: Timestamp,
    ) -> End {
        let Key { stream, .. } = key(message);
        let (status, error, letter) = match told {
            Told::Yes => (ProcessingStatus::Processed, None, None),
            Told::Nobody(why) => (ProcessingStatus::Skipped, Some((*why).to_owned()), None),
            Told::Never(defect) => {
                let why = defect.reason();
                let letter = self.ledger.letter(SERVICE.name(), &record(message), why, 1, now);
                (ProcessingStatus::Failed, Some(why.to_owned()), Some(letter))
            }
        };
        End { message: message.id, stream, status, error, letter, rest }
    }

    async fn note_failure(&self, message: &Received, reason: &str) -> anyhow::Result<Verdict> {
        let settings = &self.ledger.config.inbox;
        let delay_ms = |attempts| tier_ms(attempts, &settings.retry_delays_ms);
        self.ledger.note_failure(&record(message), reason, settings.attempts_max, delay_ms).await
    }

    /// After the commit: logs, counts, and how long messages took from their cause to here.
    fn report<'a>(&self, done: impl Iterator<Item = (&'a Received, &'a Told)>, now: Timestamp) {
        let latency = metrics::histogram!("message_delivery_seconds");
        let mut to_many = false;
        for (message, told) in done {
            log(&self.ledger, message, told);
            if let Some(created_at) = message.created_at {
                latency.record(now.duration_since(created_at).as_secs_f64().max(0.0));
            }
            to_many |= message.content.as_ref().is_ok_and(|content| content.fact.user_id.is_none());
        }
        if to_many {
            self.relay.ring();
        }
    }
}

fn record(message: &Received) -> Record<'_> {
    let kind = message.content.as_ref().ok().map(|content| content.fact.kind);
    Record {
        stream: stream_name(kind),
        id: message.id,
        kind: &message.kind,
        schema_version: 1,
        payload: &message.payload,
        correlation_id: message.correlation_id.as_deref(),
        traceparent: message.traceparent.as_deref(),
        partition_key: None,
    }
}

fn key(message: &Received) -> Key {
    record(message).key()
}

/// The streams that a message of this type may be remembered under.
pub(super) fn streams(kind: &str) -> Vec<String> {
    let mut streams = vec![stream_name(None)];
    streams.extend(FactKind::parse(kind).map(|kind| stream_name(Some(kind))));
    let bus = stream_type::find(kind).into_iter().flat_map(StreamType::schemas);
    streams.extend(bus.map(|schema| bus_stream_name(kind, schema.version)));
    streams
}

/// The documented log line (S4.40), below the default level because there are thousands a second.
fn log(ledger: &Ledger, message: &Received, told: &Told) {
    let fact = message.content.as_ref().ok().map(|content| &content.fact);
    let event = fact.and_then(|fact| fact.event_id).map(|id| id.0);
    let user = fact.and_then(|fact| fact.user_id).map(|id| id.0);
    let seats = fact.and_then(|fact| fact.seats);
    match told {
        Told::Yes => {
            ledger.count("processed", 1);
            tracing::debug!(
                r#type = message.kind, ?event, ?user, ?seats, message = %message.id,
                correlation_id = message.correlation_id, "notified"
            );
        }
        Told::Nobody(why) => {
            ledger.count("skipped", 1);
            tracing::debug!(r#type = message.kind, ?event, message = %message.id, why, "skipped");
        }
        Told::Never(defect) => {
            ledger.count("dead", 1);
            tracing::warn!(
                r#type = message.kind, message = %message.id, reason = defect.reason(),
                "a message went to the dead letters"
            );
        }
    }
}
