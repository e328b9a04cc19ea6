//! Settling a batch: one transaction for many commands.
//!
//! Lock and load what the batch needs (`load`), fold the commands through the pure inventory in
//! the order of their arrival (`fold`), write all differences and commit. If a batch fails, its
//! commands are settled one by one, so that none fails for another's sake.

mod fold;
mod load;

use std::collections::{HashMap, HashSet};

use super::desk::{Job, Outcome};
use super::gate::HeldSeats;
use crate::app::once::Answer;
use crate::app::{Error, Result};
use crate::clock::{Clock, Ids};
use crate::domain::ids::EventId;
use crate::domain::inventory::QueueChange;
use crate::fault::crash_point;
use crate::postgres::{Db, DbError, inventory};

/// What a commit left of an event, for those who show it.
#[derive(Clone, Debug)]
pub struct Aftermath {
    /// Which event.
    pub event: EventId,
    /// The inventory's version before the commit, and after it.
    pub versions: (i64, i64),
    /// Seats available to newcomers now.
    pub available: u32,
    /// All seats.
    pub total: u32,
    /// Numbered seats that are nobody's any more.
    pub freed: Vec<u32>,
    /// Numbered seats that are somebody's now.
    pub taken: Vec<u32>,
    /// How the queue changed.
    pub queue: Vec<QueueChange>,
    /// Parties that can be promoted may be left: sweep again.
    pub unfinished: bool,
    /// The event was cancelled: its bookings are next.
    pub cancelled: bool,
}

/// What came of a batch.
#[derive(Debug, Default)]
pub struct Settled {
    /// One answer a job, in order.
    pub answers: Vec<Result<Answer<Outcome>>>,
    /// One for each event that changed.
    pub aftermath: Vec<Aftermath>,
    /// How many messages were written to the outbox.
    pub messages: usize,
    /// Events for which nobody knows whether a commit was carried out: its answer was lost.
    pub unknown: HashSet<EventId>,
}

/// Why a batch was not settled.
struct Failure {
    error: DbError,
    /// Its commit may have been sent: whether it was carried out is unknown unless PostgreSQL says.
    sent: bool,
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self { error, sent: false }
    }
}

/// Settles batches.
#[derive(Clone)]
pub struct Settler {
    /// The lane's own connection.
    pub db: Db,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub ids: Ids,
}

impl Settler {
    /// Settles a batch; never fails as a whole: each job gets its answer. Seats that are `held` go
    /// to nobody who did not choose them.
    pub async fn settle(&self, jobs: &[Job], held: &HeldSeats) -> Settled {
        match Box::pin(self.attempt(jobs, held)).await {
            Ok(settled) => settled,
            Err(Failure { error: DbError::Unavailable(cause), sent }) => {
                tracing::warn!(
                    jobs = jobs.len(),
                    error = format!("{cause:#}"),
                    "a batch of bookings could not be settled"
                );
                let away = || Err(Error::unavailable("postgres"));
                let answers = jobs.iter().map(|_| away()).collect();
                let unknown = jobs.iter().filter(|_| sent).map(|job| job.event).collect();
                Settled { answers, unknown, ..Settled::default() }
            }
            Err(Failure { error, .. }) if jobs.len() == 1 => {
                Settled { answers: vec![Err(error.into())], ..Settled::default() }
            }
            Err(Failure { error, .. }) => {
                tracing::warn!(
                    jobs = jobs.len(),
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "a batch of bookings failed; settling them one by one"
                );
                self.one_by_one(jobs, held).await
            }
        }
    }

    async fn one_by_one(&self, jobs: &[Job], held: &HeldSeats) -> Settled {
        let mut all = Settled::default();
        for job in jobs.chunks(1) {
            match Box::pin(self.attempt(job, held)).await {
                Ok(mut settled) => {
                    all.answers.append(&mut settled.answers);
                    all.aftermath.append(&mut settled.aftermath);
                    all.messages += settled.messages;
                }
                Err(Failure { error, sent }) => {
                    if sent && matches!(error, DbError::Unavailable(_)) {
                        all.unknown.extend(job.iter().map(|job| job.event));
                    }
                    all.answers.push(Err(error.into()));
                }
            }
        }
        all
    }

    async fn attempt(
        &self,
        jobs: &[Job],
        held: &HeldSeats,
    ) -> std::result::Result<Settled, Failure> {
        let now = self.clock.now();
        let wanted = load::wanted(jobs);
        let (tx, loaded) = match inventory::open(&self.db, &wanted).await {
            // Nothing was done yet; the connection may have died while it was idle.
            Err(DbError::Unavailable(_)) => inventory::open(&self.db, &wanted).await?,
            opened => opened?,
        };
        let batch = load::batch(&tx, jobs, held, loaded).await?;
        let folded = fold::fold(jobs, batch, now, self.ids);
        if folded.writes_nothing() {
            tx.rollback().await?;
        } else {
            crash_point("desk_before_commit");
            folded.save(tx).await.map_err(|error| Failure { error, sent: true })?;
            crash_point("desk_after_commit");
        }
        Ok(folded.settled)
    }
}

/// Jobs by event, as indices into the batch, in order of arrival.
fn by_event(jobs: &[Job]) -> HashMap<EventId, Vec<&Job>> {
    let mut events: HashMap<EventId, Vec<&Job>> = HashMap::new();
    for job in jobs {
        events.entry(job.event).or_default().push(job);
    }
    events
}
