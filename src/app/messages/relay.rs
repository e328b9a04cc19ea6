//! Notifications leave the outbox: claimed under a lease, published by somebody who knows the
//! broker, and settled by what became of them. A message that the broker refuses is tried again
//! with growing pauses and then goes to the dead letters; a broker that is away counts against
//! nobody. (What is for the bus leaves by `bus_line.rs`.)

use std::sync::Arc;

use jiff::Timestamp;

use super::{fingerprint, later};
use crate::clock::{Clock, Ids};
use crate::config::{self, Config};
use crate::domain::dead_letter::{DeadLetter, RELAY};
use crate::domain::ids::DeadLetterId;
use crate::domain::message;
use crate::domain::processing::backoff_ms;
use crate::postgres::outbox::{self, Failure};
pub use crate::postgres::outbox::{Claimed, Stored};
use crate::postgres::{Db, DbError, dead_letter};

/// Longest pause before a refused message is tried again.
const PAUSE_MAX_MS: u64 = 300_000;

/// How long what a broker did not take, while it took others, lets those behind it pass.
pub(super) const PASSED_OVER_MS: u64 = 2000;

/// What became of a message, as far as the outbox cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// The broker has it; where, if it says so.
    Yes(Option<String>),
    /// The broker does not want it.
    Refused(String),
    /// The broker did not get to it, or did not say. It is sent again; consumers know it by its id.
    Unknown,
}

/// How a batch went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Published, and marked so.
    pub sent: u64,
    /// Refused, to be tried again.
    pub failed: u64,
    /// Refused for the last time.
    pub dead: u64,
}

/// What a refusal comes to.
pub(super) struct Verdict {
    /// Failed publications, this one among them.
    pub attempts: i32,
    /// When to try again, unless it was given up.
    pub next_attempt_at: Option<Timestamp>,
    /// The letter that it becomes when it is given up.
    pub letter: Option<DeadLetter>,
}

/// The outbox as those see it who send what is in it.
#[derive(Clone)]
pub struct Outbox {
    pub(super) db: Db,
    pub(super) clock: Clock,
    ids: Ids,
    config: Arc<Config>,
}

impl Outbox {
    /// The outbox of this database.
    pub fn new(db: Db, clock: Clock, ids: Ids, config: Arc<Config>) -> Self {
        Self { db, clock, ids, config }
    }

    pub(super) fn settings(&self) -> &config::Relay {
        &self.config.relay
    }

    pub(super) fn bus_lease_ms(&self) -> u64 {
        self.config.bus.stream_lease_ms
    }

    /// Claims up to `limit` messages that are due, in their order.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn claim(&self, limit: usize) -> Result<Vec<Claimed>, DbError> {
        let now = self.clock.now();
        let lease_until = later(now, self.settings().lease_ms);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        outbox::claim(&self.db, now, lease_until, limit).await
    }

    /// Makes publications that failed due at once: whoever starts tries them again (S2.53). While
    /// PostgreSQL is away they wait for their time.
    pub async fn hurry(&self) {
        let hurried = async { outbox::hurry(&*self.db.get().await?).await };
        if let Err(error) = hurried.await {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(error, "failures wait for their time");
        }
    }

    /// Gives claimed messages back; nothing counts against them.
    ///
    /// # Errors
    /// When PostgreSQL is away; the lease ends by itself.
    pub async fn release(&self, messages: &[Claimed]) -> Result<(), DbError> {
        if messages.is_empty() {
            return Ok(());
        }
        let messages: Vec<&Claimed> = messages.iter().collect();
        outbox::release(&*self.db.get().await?, &messages, None).await
    }

    /// Writes down what became of claimed messages, each with its claim's fence: what a later
    /// claimer did meanwhile stands.
    ///
    /// # Errors
    /// When PostgreSQL is away; what was not written is sent again.
    pub async fn settle(
        &self,
        batch: &[Claimed],
        published: &[Published],
    ) -> Result<Settled, DbError> {
        let mut sent = Vec::with_capacity(batch.len());
        let mut unknown = Vec::new();
        let mut refused = Vec::new();
        for (message, published) in batch.iter().zip(published) {
            match published {
                Published::Yes(position) => sent.push((message, position.as_deref())),
                Published::Unknown => unknown.push(message),
                Published::Refused(why) => refused.push((message, why.as_str())),
            }
        }
        let mut settled = Settled::default();
        if !sent.is_empty() {
            settled.sent = outbox::mark_sent(&self.db, &sent, self.clock.now()).await?;
        }
        if !unknown.is_empty() {
            // A broker that takes others is there: these wait, or they would fill every claim.
            let due = (settled.sent > 0).then(|| later(self.clock.now(), PASSED_OVER_MS));
            outbox::release(&*self.db.get().await?, &unknown, due).await?;
        }
        if !refused.is_empty() {
            (settled.failed, settled.dead) = self.refuse(&refused).await?;
        }
        Ok(settled)
    }

    /// Notes refusals; those that were the last go to the dead letters in the same transaction.
    async fn refuse(&self, refused: &[(&Claimed, &str)]) -> Result<(u64, u64), DbError> {
        let now = self.clock.now();
        let mut failures = Vec::with_capacity(refused.len());
        let mut letters = Vec::new();
        for (claimed, why) in refused {
            let verdict = self.judge(&claimed.message, why, now);
            failures.push(Failure {
                seq: claimed.message.seq,
                fence: claimed.fence,
                error: (*why).to_owned(),
                next_attempt_at: verdict.next_attempt_at,
                dead_at: verdict.letter.is_some().then_some(now),
            });
            letters.extend(verdict.letter.map(|letter| (claimed.message.seq, letter)));
        }
        let tx = self.db.begin().await?;
        let ours = outbox::fail(&tx, &failures, now).await?;
        letters.retain(|(seq, _)| ours.contains(seq));
        let letters: Vec<DeadLetter> = letters.into_iter().map(|(_, letter)| letter).collect();
        dead_letter::save(&tx, &letters).await?;
        tx.commit().await?;
        let dead = u64::try_from(letters.len()).unwrap_or(u64::MAX);
        let noted = u64::try_from(ours.len()).unwrap_or(u64::MAX);
        Ok((noted.saturating_sub(dead), dead))
    }

    /// What becomes of a message that was refused once more.
    pub(super) fn judge(&self, message: &Stored, why: &str, now: Timestamp) -> Verdict {
        let relay = self.settings();
        let attempts = u32::try_from(message.attempts).unwrap_or(0).saturating_add(1);
        let dead = attempts >= relay.attempts_max;
        let pause = backoff_ms(attempts, relay.retry_delay_ms, PAUSE_MAX_MS, |below| {
            self.ids.jitter(below)
        });
        Verdict {
            attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
            next_attempt_at: (!dead).then(|| later(now, pause)),
            letter: dead.then(|| self.letter(message, why, attempts, now)),
        }
    }

    pub(super) fn letter(
        &self,
        message: &Stored,
        why: &str,
        attempts: u32,
        now: Timestamp,
    ) -> DeadLetter {
        DeadLetter {
            id: DeadLetterId(self.ids.uuid()),
            source: RELAY.to_owned(),
            message_id: message.id,
            kind: message.kind.clone(),
            payload: message.payload.clone(),
            schema_version: message.schema_version,
            correlation_id: Some(message.correlation_id.clone()),
            traceparent: message.traceparent.clone(),
            reason: message::storable(why, 1000),
            fingerprint: fingerprint(RELAY, &message.kind, why),
            attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
            died_at: now,
            redrives: 0,
        }
    }
}
