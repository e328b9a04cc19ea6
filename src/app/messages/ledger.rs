//! What one service remembers of messages, and what becomes of those that do not go through: they
//! are tried again until the attempts are spent, and then go to the dead letters. The same for
//! whatever brought the message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{fingerprint, later};
use crate::app::alarms::signals::Signals;
use crate::clock::{Clock, Ids};
use crate::config::Config;
use crate::domain::dead_letter::DeadLetter;
use crate::domain::ids::{DeadLetterId, MessageId};
use crate::domain::message::{Defect, Verdict};
use crate::domain::processing::{ProcessingStatus, ServiceContext};
use crate::postgres::inbox::{self, Entry, Finish, Key};
use crate::postgres::{Db, DbError, dead_letter};

/// A message, as far as the ledger and a dead letter keep it.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// The stream it is remembered under.
    pub stream: String,
    /// Its id.
    pub id: MessageId,
    /// Its type, as far as it had one.
    pub kind: &'a str,
    /// The version of its type that the payload is of.
    pub schema_version: i32,
    /// What it says, as text.
    pub payload: &'a str,
    /// The id of the request that caused it.
    pub correlation_id: Option<&'a str>,
    /// W3C trace context of that request.
    pub traceparent: Option<&'a str>,
    /// By which its order is kept, if by anything.
    pub partition_key: Option<&'a str>,
}

impl Record<'_> {
    /// Under which it is remembered.
    pub fn key(&self) -> Key {
        Key { stream: self.stream.clone(), revision: self.id.to_string() }
    }
}

/// The ledger of a service.
#[derive(Clone)]
pub struct Ledger {
    pub(super) service: ServiceContext,
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) ids: Ids,
    pub(super) config: Arc<Config>,
    pub(super) signals: Signals,
}

impl Ledger {
    /// What becomes of messages whose claim was not won: those that are done are done; those that
    /// somebody works on, or that are not due yet, come again, never acknowledged unseen.
    pub(super) async fn refused(
        &self,
        lost: &[Key],
        now: Timestamp,
    ) -> Result<HashMap<Key, Verdict>, DbError> {
        if lost.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<&Key> = lost.iter().collect();
        let entries = inbox::find(&*self.db.get().await?, self.service, &keys).await?;
        self.count("duplicate", lost.len());
        Ok(entries.into_iter().map(|entry| (entry.key.clone(), verdict(&entry, now))).collect())
    }

    /// One more failed attempt of a message. `delay_ms` says how long to wait after so many
    /// attempts; after `attempts_max` of them it goes to the dead letters.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub(super) async fn note_failure(
        &self,
        record: &Record<'_>,
        reason: &str,
        attempts_max: u32,
        delay_ms: impl FnOnce(u32) -> u64,
    ) -> anyhow::Result<Verdict> {
        let now = self.clock.now();
        let key = record.key();
        let tx = self.db.begin().await?;
        let lease_until = later(now, self.config.inbox.lease_ms);
        let claim = inbox::claim(&tx, self.service, &key, now, lease_until).await?;
        let Some(claim) = claim else {
            tx.rollback().await?;
            let verdicts = self.refused(std::slice::from_ref(&key), now).await?;
            return Ok(verdicts.get(&key).copied().unwrap_or(Verdict::Ack));
        };
        if let Some(partition_key) = record.partition_key {
            inbox::keep_order(&tx, self.service, &claim, partition_key).await?;
        }
        let attempts = u32::try_from(claim.attempts).unwrap_or(1);
        let dead = attempts >= attempts_max;
        let delay_ms = delay_ms(attempts);
        tracing::warn!(
            service = self.service.name(), message = %record.id, kind = record.kind, attempts,
            dead, reason, "a message could not be processed"
        );
        if dead {
            let source = self.service.name();
            let letter = self.letter(source, record, reason, claim.attempts, now);
            dead_letter::save(&tx, &[letter]).await?;
        }
        let end = Finish {
            key,
            fence: claim.fence,
            status: ProcessingStatus::Failed,
            error: Some(Defect::new(reason).reason().to_owned()),
            // Due a little before the broker lets it go: clocks differ.
            next_attempt_at: (!dead).then(|| later(now, delay_ms.saturating_sub(delay_ms / 8))),
            dead_at: dead.then_some(now),
        };
        inbox::finish(&tx, self.service, &end, now).await?;
        tx.commit().await?;
        self.count(if dead { "dead" } else { "retried" }, 1);
        let retry = Verdict::Retry(Duration::from_millis(delay_ms));
        Ok(if dead { Verdict::Ack } else { retry })
    }

    /// Tells an outage, which is nobody's fault, from a message that breaks things.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub(super) async fn reach_postgres(&self) -> Result<(), DbError> {
        self.db.begin().await?.rollback().await
    }

    pub(super) fn letter(
        &self,
        source: &str,
        record: &Record<'_>,
        reason: &str,
        attempts: i32,
        now: Timestamp,
    ) -> DeadLetter {
        DeadLetter {
            id: DeadLetterId(self.ids.uuid()),
            source: source.to_owned(),
            message_id: record.id,
            kind: record.kind.to_owned(),
            payload: record.payload.to_owned(),
            schema_version: record.schema_version,
            correlation_id: record.correlation_id.map(str::to_owned),
            traceparent: record.traceparent.map(str::to_owned),
            reason: Defect::new(reason).reason().to_owned(),
            fingerprint: fingerprint(source, record.kind, reason),
            attempts,
            died_at: now,
            redrives: 0,
        }
    }

    pub(super) fn count(&self, outcome: &'static str, by: usize) {
        let by = u64::try_from(by).unwrap_or(u64::MAX);
        let service = self.service.name();
        metrics::counter!("consumer_messages_total", "service" => service, "outcome" => outcome)
            .increment(by);
        match outcome {
            "processed" | "skipped" => self.signals.took(service, by, 0),
            "retried" | "dead" => self.signals.took(service, 0, by),
            _ => {}
        }
    }
}

/// What a panic said.
pub(super) fn told_by(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn verdict(entry: &Entry, now: Timestamp) -> Verdict {
    if entry.status.is_final() || entry.dead_at.is_some() {
        return Verdict::Ack;
    }
    let due = entry.lease_until.max(entry.next_attempt_at).unwrap_or(now);
    let wait = due.duration_since(now).max(SignedDuration::from_millis(1));
    Verdict::Retry(Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(1)))
}
