//! Dealing with received messages once each: claim, effects and end are one statement for as
//! many messages as came together, so that whatever dies in between leaves nothing half done. A
//! batch that fails is taken apart: no message fails for a neighbour's sake.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;

use super::{fingerprint, later};
use crate::app::App;
use crate::app::notifications::announce::announce;
use crate::app::notifications::deliver::{self, Told};
use crate::clock::{Clock, Ids};
use crate::config::Config;
use crate::domain::dead_letter::DeadLetter;
use crate::domain::fact::FactKind;
use crate::domain::ids::{DeadLetterId, MessageId};
use crate::domain::message::{Defect, Received, Verdict};
use crate::domain::processing::{ProcessingStatus, ServiceContext, stream_name, tier_ms};
use crate::postgres::delivery::{self, Effects, End, Written};
use crate::postgres::inbox::{self, Entry, Finish, Key};
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
    db: Db,
    redis: Redis,
    clock: Clock,
    ids: Ids,
    config: Arc<Config>,
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
        Self {
            db,
            redis: app.redis.clone(),
            clock: app.clock.clone(),
            ids: app.ids,
            config: Arc::clone(&app.config),
            relay: app.wakes.outbox_relay.clone(),
        }
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
        self.reach_postgres().await?;
        if let [message] = batch {
            return Ok(vec![self.note_failure(message, &broken.reason()).await?]);
        }
        let mut verdicts = Vec::with_capacity(batch.len());
        for message in batch {
            let verdict = match self.attempt(&[message]).await {
                Ok(verdict) => verdict.into_iter().next(),
                Err(broken) => {
                    self.reach_postgres().await?;
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
        let now = self.clock.now();
        let mut letters: HashMap<MessageId, DeadLetter> = HashMap::new();
        for (message, reason) in dead {
            letters.insert(message.id, self.letter(source, message, reason, 1, now));
        }
        let letters: Vec<DeadLetter> = letters.into_values().collect();
        dead_letter::save(&*self.db.get().await?, &letters).await
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
        let now = self.clock.now();
        // The same message twice in a batch is dealt with once.
        let mut seen = HashSet::with_capacity(batch.len());
        let unique: Vec<&Received> =
            batch.iter().copied().filter(|message| seen.insert(message.id)).collect();
        let (told, effects) = self.compose(&unique, now).await?;
        let Written { won, entries } = delivery::tell(&self.db, SERVICE, &effects, now).await?;
        announce(&self.redis, &effects.entries, &entries).await;
        let lost = unique.iter().filter(|message| !won.contains_key(&message.id));
        let lost: Vec<Key> = lost.map(|message| key(message)).collect();
        let verdicts = self.refused(&lost, now).await?;
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
                    deliver::deliver(&conn, self.ids, now, &names, message, content).await?
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
        let conn = self.db.get().await?;
        match notification::names(&conn, wanted).await {
            Err(DbError::Unavailable(_)) => {
                let conn = self.db.get().await?;
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
                let letter = self.letter(SERVICE.name(), message, why, 1, now);
                (ProcessingStatus::Failed, Some(why.to_owned()), Some(letter))
            }
        };
        End { message: message.id, stream, status, error, letter, rest }
    }

    /// What becomes of messages whose claim was not won: those that are done are done; those that
    /// somebody works on, or that are not due yet, come again, never acknowledged unseen.
    async fn refused(
        &self,
        lost: &[Key],
        now: Timestamp,
    ) -> Result<HashMap<Key, Verdict>, DbError> {
        if lost.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<&Key> = lost.iter().collect();
        let entries = inbox::find(&*self.db.get().await?, SERVICE, &keys).await?;
        count("duplicate", lost.len());
        Ok(entries.into_iter().map(|entry| (entry.key.clone(), verdict(&entry, now))).collect())
    }

    /// One more failed attempt of a message; after the last it goes to the dead letters.
    async fn note_failure(&self, message: &Received, reason: &str) -> anyhow::Result<Verdict> {
        let now = self.clock.now();
        let settings = &self.config.inbox;
        let key = key(message);
        let tx = self.db.begin().await?;
        let lease_until = later(now, settings.lease_ms);
        let Some(claim) = inbox::claim(&tx, SERVICE, &key, now, lease_until).await? else {
            tx.rollback().await?;
            let verdicts = self.refused(std::slice::from_ref(&key), now).await?;
            return Ok(verdicts.get(&key).copied().unwrap_or(Verdict::Ack));
        };
        let attempts = u32::try_from(claim.attempts).unwrap_or(1);
        let dead = attempts >= settings.attempts_max;
        let delay_ms = tier_ms(attempts, &settings.retry_delays_ms);
        tracing::warn!(
            message = %message.id, kind = message.kind, attempts, dead, reason,
            "a message could not be processed"
        );
        if dead {
            let letter = self.letter(SERVICE.name(), message, reason, claim.attempts, now);
            dead_letter::save(&tx, &[letter]).await?;
        }
        let end = Finish {
            key,
            fence: claim.fence,
            status: ProcessingStatus::Failed,
            error: Some(Defect::new(reason).reason().to_owned()),
            // Due before the retry queue lets it go: clocks differ.
            next_attempt_at: (!dead).then(|| later(now, delay_ms / 2)),
            dead_at: dead.then_some(now),
        };
        inbox::finish(&tx, SERVICE, &end, now).await?;
        tx.commit().await?;
        count(if dead { "dead" } else { "retried" }, 1);
        let retry = Verdict::Retry(Duration::from_millis(delay_ms));
        Ok(if dead { Verdict::Ack } else { retry })
    }

    /// Tells an outage, which is nobody's fault, from a message that breaks things.
    async fn reach_postgres(&self) -> Result<(), DbError> {
        self.db.begin().await?.rollback().await
    }

    fn letter(
        &self,
        source: &str,
        message: &Received,
        reason: &str,
        attempts: i32,
        now: Timestamp,
    ) -> DeadLetter {
        DeadLetter {
            id: DeadLetterId(self.ids.uuid()),
            source: source.to_owned(),
            message_id: message.id,
            kind: message.kind.clone(),
            payload: message.payload.clone(),
            correlation_id: message.correlation_id.clone(),
            traceparent: message.traceparent.clone(),
            reason: Defect::new(reason).reason().to_owned(),
            fingerprint: fingerprint(source, &message.kind, reason),
            attempts,
            died_at: now,
            redrives: 0,
        }
    }

    /// After the commit: logs, counts, and how long messages took from their cause to here.
    fn report<'a>(&self, done: impl Iterator<Item = (&'a Received, &'a Told)>, now: Timestamp) {
        let latency = metrics::histogram!("message_delivery_seconds");
        let mut to_many = false;
        for (message, told) in done {
            log(message, told);
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

fn key(message: &Received) -> Key {
    let kind = message.content.as_ref().ok().map(|content| content.fact.kind);
    Key { stream: stream_name(kind), revision: message.id.to_string() }
}

/// The streams that a message of this type may be remembered under.
pub(super) fn streams(kind: &str) -> Vec<String> {
    let mut streams = vec![stream_name(None)];
    streams.extend(FactKind::parse(kind).map(|kind| stream_name(Some(kind))));
    streams
}

fn verdict(entry: &Entry, now: Timestamp) -> Verdict {
    if entry.status.is_final() || entry.dead_at.is_some() {
        return Verdict::Ack;
    }
    let due = entry.lease_until.max(entry.next_attempt_at).unwrap_or(now);
    let wait = due.duration_since(now).max(jiff::SignedDuration::from_millis(1));
    Verdict::Retry(Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(1)))
}

/// The documented log line (S4.40), below the default level because there are thousands a second.
fn log(message: &Received, told: &Told) {
    let fact = message.content.as_ref().ok().map(|content| &content.fact);
    let event = fact.and_then(|fact| fact.event_id).map(|id| id.0);
    let user = fact.and_then(|fact| fact.user_id).map(|id| id.0);
    let seats = fact.and_then(|fact| fact.seats);
    match told {
        Told::Yes => {
            count("processed", 1);
            tracing::debug!(
                r#type = message.kind, ?event, ?user, ?seats, message = %message.id,
                correlation_id = message.correlation_id, "notified"
            );
        }
        Told::Nobody(why) => {
            count("skipped", 1);
            tracing::debug!(r#type = message.kind, ?event, message = %message.id, why, "skipped");
        }
        Told::Never(defect) => {
            count("dead", 1);
            tracing::warn!(
                r#type = message.kind, message = %message.id, reason = defect.reason(),
                "a message went to the dead letters"
            );
        }
    }
}

fn count(outcome: &'static str, by: usize) {
    let by = u64::try_from(by).unwrap_or(u64::MAX);
    let service = SERVICE.name();
    metrics::counter!("consumer_messages_total", "service" => service, "outcome" => outcome)
        .increment(by);
}

fn told_by(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
