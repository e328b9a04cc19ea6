//! Sending many dead letters again, at a rate: a job in PostgreSQL, which whoever has time goes on
//! with, so that it survives its beginner. Each step is a transaction that sends as many letters as
//! the rate allows by now and notes how far the job got.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::dead_letters::{By, DeadLetters};
use crate::app::{Origin, Page, Result};
use crate::domain::dead_letter::{Filter, Redrive};
use crate::domain::ids::{DeadLetterId, RedriveId};
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, audit, dead_letter, redrive};

/// Most letters of one job.
pub const MOST: i64 = 1_000_000;
/// Fastest job, in letters a second.
pub const RATE_MAX: i64 = 1000;
/// Most letters that a dry run looks at.
pub const REHEARSED_MAX: i64 = 1000;
/// Most letters in one step.
const STEP_MAX: i64 = 500;
/// Most refusals that a job keeps with their reasons.
const REFUSALS_MAX: usize = 100;
/// Jobs that are stepped in one round.
const ROUND_MAX: i64 = 20;
/// What the rate allows at once after a rest.
const BURST: SignedDuration = SignedDuration::from_secs(1);

/// Which letters, how many, how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which.
    pub filter: Filter,
    /// At most so many, the oldest first; up to [`MOST`].
    pub limit: i64,
    /// Not more than so many a second.
    pub rate_per_second: u32,
    /// Also those that were sent again too often.
    pub force: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default)]
pub struct Redriven {
    /// Open letters that the filter means, also those beyond the limit.
    pub matched: i64,
    /// Sent again.
    pub redriven: Vec<DeadLetterId>,
    /// Not sent again, and why.
    pub refused: Vec<(DeadLetterId, String)>,
}

impl DeadLetters {
    /// Says what a job would do, letter by letter, and does nothing. Looks at [`REHEARSED_MAX`]
    /// letters at most.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn rehearse(&self, by: By<'_>, plan: &Plan) -> Result<Redriven> {
        let tx = self.db.begin().await?;
        let matched = dead_letter::count(&tx, &plan.filter).await?;
        let limit = plan.limit.clamp(1, REHEARSED_MAX);
        let letters = dead_letter::take(&tx, &plan.filter, None, self.clock.now(), limit).await?;
        tx.rollback().await?;
        let mut done = Redriven { matched, ..Redriven::default() };
        for letter in letters {
            let id = letter.id;
            match self.ready(letter, by, plan.force) {
                Ok(_) => done.redriven.push(id),
                Err((_, why)) => done.refused.push((id, why)),
            }
        }
        Ok(done)
    }

    /// Begins a job with its first step; what became of the letters of that.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn begin(
        &self,
        tx: &Conn,
        (actor, origin): By<'_>,
        plan: &Plan,
    ) -> Result<(Redrive, Redriven)> {
        let now = self.clock.now();
        let mut job = Redrive {
            id: RedriveId(self.ids.uuid()),
            filter: plan.filter.clone(),
            rate_per_second: plan.rate_per_second.max(1),
            most: plan.limit.clamp(1, MOST),
            force: plan.force,
            matched: dead_letter::count(tx, &plan.filter).await?,
            redriven: 0,
            refused: 0,
            refusals: Vec::new(),
            after: None,
            paid_until: earlier(now, BURST),
            created_at: now,
            created_by: actor,
            request_id: origin.correlation_id.clone(),
            finished_at: None,
            cancelled: false,
        };
        redrive::insert(tx, &job).await?;
        let Filter { kind, source, fingerprint, ids } = &job.filter;
        let detail = json!({
            "type": kind, "source": source, "fingerprint": fingerprint, "ids": ids.len(),
            "matched": job.matched, "limit": job.most, "force": job.force,
            "rate_per_second": job.rate_per_second,
        });
        let (subject, request) = (job.id.to_string(), Some(origin.correlation_id.as_str()));
        audit::append(tx, now, actor, "redrive.started", &subject, request, Some(&detail)).await?;
        let done = self.send_some(tx, &mut job).await?;
        Ok((job, done))
    }

    /// The same in a transaction of its own.
    ///
    /// # Errors
    /// The same.
    pub async fn begin_now(&self, by: By<'_>, plan: &Plan) -> Result<Redrive> {
        let tx = self.db.begin().await?;
        let (job, _) = self.begin(&tx, by, plan).await?;
        tx.commit().await?;
        self.ring();
        Ok(job)
    }

    /// Goes on with a job, as far as its rate allows by now, unless it is over or somebody else is
    /// at it. Answers what became of the letters of this step.
    ///
    /// # Errors
    /// When PostgreSQL is away: then nothing was sent.
    pub async fn step(&self, id: RedriveId) -> Result<Redriven> {
        let tx = self.db.begin().await?;
        let Some(mut job) = redrive::lock(&tx, id).await? else {
            tx.rollback().await?;
            return Ok(Redriven::default());
        };
        let done = self.send_some(&tx, &mut job).await?;
        tx.commit().await?;
        if !done.redriven.is_empty() {
            self.ring();
        }
        Ok(done)
    }

    async fn send_some(&self, tx: &Conn, job: &mut Redrive) -> Result<Redriven> {
        let now = self.clock.now();
        let left = job.most.saturating_sub(job.redriven);
        let wanted = allowed(job, now).min(left).min(STEP_MAX);
        let mut done = Redriven { matched: job.matched, ..Redriven::default() };
        if wanted == 0 && left > 0 {
            return Ok(done);
        }
        let letters = dead_letter::take(tx, &job.filter, job.after, job.created_at, wanted).await?;
        let exhausted = i64::try_from(letters.len()).is_ok_and(|found| found < wanted);
        let origin = Origin { correlation_id: job.request_id.clone(), traceparent: None };
        let by = (job.created_by, &origin);
        let mut ready = Vec::with_capacity(letters.len());
        for letter in letters {
            let id = letter.id;
            job.after = Some(id);
            match self.ready(letter, by, job.force) {
                Ok(one) => {
                    ready.push(one);
                    done.redriven.push(id);
                }
                Err((_, why)) => done.refused.push((id, why)),
            }
        }
        if !ready.is_empty() {
            self.send(tx, by, &ready).await?;
        }
        note(job, &done, exhausted, now);
        redrive::note(tx, job).await?;
        Ok(done)
    }

    /// Goes on with every job that is not over; one that fails keeps no other back.
    ///
    /// # Errors
    /// When PostgreSQL is away, or a job cannot go on.
    pub async fn step_all(&self) -> Result<()> {
        let running = redrive::running(&*self.db.get().await?, ROUND_MAX).await?;
        let mut failed = Ok(());
        for id in running {
            failed = self.step(id).await.map(drop).and(failed);
        }
        failed
    }

    /// A job.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn job(&self, id: RedriveId) -> Result<Redrive> {
        let found = redrive::find(&*self.db.get().await?, id).await?;
        Ok(found.ok_or(Refusal::NotFound("redrive"))?)
    }

    /// A page of jobs, the newest first.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn jobs(&self, after: Option<Uuid>, limit: i64) -> Result<Page<Redrive>> {
        let conn = self.db.get().await?;
        let items = redrive::list(&conn, after, limit.saturating_add(1)).await?;
        Ok(Page::cut(items, limit, |job| job.id.to_string()))
    }

    /// Ends a job; what it has sent stays sent. One that is over stays as it is.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn cancel(&self, (actor, origin): By<'_>, id: RedriveId) -> Result<Redrive> {
        let tx = self.db.begin().await?;
        let now = self.clock.now();
        if redrive::cancel(&tx, id, now).await? {
            let (subject, request) = (id.to_string(), Some(origin.correlation_id.as_str()));
            audit::append(&tx, now, actor, "redrive.cancelled", &subject, request, None).await?;
        }
        let job = redrive::find(&tx, id).await?.ok_or(Refusal::NotFound("redrive"))?;
        tx.commit().await?;
        Ok(job)
    }
}

/// How many letters the rate allows by now.
fn allowed(job: &Redrive, now: Timestamp) -> i64 {
    let since = now.duration_since(job.paid_until).clamp(SignedDuration::ZERO, BURST);
    let earned = since.as_micros().saturating_mul(i128::from(job.rate_per_second)) / 1_000_000;
    i64::try_from(earned).unwrap_or(STEP_MAX)
}

/// Notes how far a job got by a step.
fn note(job: &mut Redrive, done: &Redriven, exhausted: bool, now: Timestamp) {
    let count = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
    let sent = count(done.redriven.len());
    job.redriven = job.redriven.saturating_add(sent);
    job.refused = job.refused.saturating_add(count(done.refused.len()));
    let room = REFUSALS_MAX.saturating_sub(job.refusals.len());
    job.refusals.extend(done.refused.iter().take(room).cloned());
    let cost_us = sent.saturating_mul(1_000_000) / i64::from(job.rate_per_second.max(1));
    let paid = job.paid_until.checked_add(SignedDuration::from_micros(cost_us));
    job.paid_until = paid.unwrap_or(now).max(earlier(now, BURST));
    if exhausted || job.redriven >= job.most {
        job.finished_at = Some(now);
    }
}

fn earlier(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}
