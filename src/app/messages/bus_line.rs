//! Messages leave for the bus: whoever has the log reads the next ones, has them published, and
//! moves the cursor. What was refused, must wait behind such a one, or commits late goes its own
//! way: tried again with growing pauses, and at last given up. A broker that is away counts
//! against nobody, and moves nothing.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use uuid::Uuid;

use super::later;
use super::relay::{Outbox, PASSED_OVER_MS, Published, Settled, Stored};
use crate::domain::dead_letter::DeadLetter;
use crate::domain::gaps::Gaps;
use crate::postgres::bus_relay::{self, Held, Outcome, Straggler, Taken};
use crate::postgres::{Conn, DbError, dead_letter};

/// The log as its relay sees it.
pub struct BusLine {
    outbox: Outbox,
    holder: Uuid,
    held: Option<Held>,
    ahead: Option<Batch>,
}

/// What there is to do.
#[derive(Debug)]
pub enum Look {
    /// These are to be published.
    Batch(Batch),
    /// Somebody else is at it.
    Busy,
    /// Nothing.
    Idle,
}

/// What is published at once.
#[derive(Debug)]
pub struct Batch {
    /// They, in the order in which they are to be published.
    pub messages: Vec<Stored>,
    /// So many of them, the first ones, go their own way.
    aside: usize,
    /// What has to wait behind others of its aggregate.
    behind: Vec<Stored>,
    /// Where the log is then.
    then: Held,
    /// There may be more.
    full: bool,
}

impl BusLine {
    /// The log of this database. Who made a mistake is made anew and is the same `holder`.
    pub fn new(outbox: Outbox, holder: Uuid) -> Self {
        Self { outbox, holder, held: None, ahead: None }
    }

    /// Makes publications that failed due at once: whoever starts tries them again (S2.53). While
    /// PostgreSQL is away they wait for their time.
    pub async fn hurry(&self) {
        let hurried = async { bus_relay::hurry(&*self.outbox.db.get().await?).await };
        if let Err(error) = hurried.await {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(error, "failures wait for their time");
        }
    }

    /// Lets others have the log.
    pub async fn let_go(&mut self) {
        self.ahead = None;
        let Some(held) = self.held.take() else { return };
        self.release(&held).await;
    }

    /// The lease ends by itself when PostgreSQL is away.
    async fn release(&self, held: &Held) {
        let gone = async {
            let conn = self.outbox.db.get().await?;
            bus_relay::let_go(&conn, self.holder, held.fence).await
        };
        if let Err(error) = gone.await {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(error, "the log of the bus is not let go");
        }
    }

    /// Reads what is next, about `limit` messages.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn look(&mut self, limit: usize) -> Result<Look, DbError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Look::Batch(ahead));
        }
        let now = self.outbox.clock.now();
        let conn = self.outbox.db.get().await?;
        let held = if let Some(held) = self.held.take() {
            held
        } else {
            let until = later(now, self.outbox.bus_lease_ms());
            match bus_relay::take(&conn, self.holder, now, until).await? {
                Taken::Mine(held) => held,
                Taken::Busy => return Ok(Look::Busy),
                Taken::Idle => return Ok(Look::Idle),
            }
        };
        let batch = read(&conn, &held, limit, now).await?;
        drop(conn);
        if !batch.messages.is_empty() || !batch.behind.is_empty() {
            return Ok(Look::Batch(batch));
        }
        // Only a gap closed, if anything.
        if batch.then.gaps == held.gaps {
            self.release(&held).await;
        } else {
            self.settle(batch, &[], None).await?;
        }
        Ok(Look::Idle)
    }

    /// Keeps the log while a batch is being published, however long that takes: whoever is given
    /// up while the broker is slow would be followed by one who finds it as slow.
    pub async fn keep(&self, batch: &Batch) -> Infallible {
        let lease_ms = self.outbox.bus_lease_ms();
        loop {
            sleep(Duration::from_millis(lease_ms / 3)).await;
            let until = later(self.outbox.clock.now(), lease_ms);
            let kept = async {
                let conn = self.outbox.db.get().await?;
                bus_relay::keep(&conn, self.holder, batch.then.fence, until).await
            };
            if let Err(error) = kept.await {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(error, "the lease of the log of the bus is not renewed");
            }
        }
    }

    /// Reads what follows a batch while it is being published.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn look_ahead(&self, batch: &Batch, limit: usize) -> Result<Option<Batch>, DbError> {
        // What goes its own way is known to others only when it is written down.
        if !batch.full || batch.aside > 0 || !batch.behind.is_empty() {
            return Ok(None);
        }
        let conn = self.outbox.db.get().await?;
        let ahead = read(&conn, &batch.then, limit, self.outbox.clock.now()).await?;
        Ok(Some(ahead).filter(|ahead| !ahead.messages.is_empty()))
    }

    /// Writes down what became of a batch, unless somebody else took the log over: then all of it
    /// is sent again, and consumers know it. When the broker took nothing and refused nothing, all
    /// of it stays where it is.
    ///
    /// # Errors
    /// When PostgreSQL is away; what was not written is sent again.
    pub async fn settle(
        &mut self,
        batch: Batch,
        published: &[Published],
        ahead: Option<Batch>,
    ) -> Result<Settled, DbError> {
        let now = self.outbox.clock.now();
        self.held = None;
        let Batch { messages, aside, behind, then, full } = batch;
        if !published.is_empty() && published.iter().all(|one| *one == Published::Unknown) {
            self.release(&then).await;
            return Ok(Settled::default());
        }
        let mut settled = Settled::default();
        let mut outcome = Outcome::default();
        let mut letters = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            match published.get(index).unwrap_or(&Published::Unknown) {
                Published::Yes(position) if index >= aside => {
                    outcome.sent.push((message.seq, position.clone()));
                    settled.sent += 1;
                }
                Published::Yes(position) => {
                    let sent = Some((now, position.clone()));
                    outcome.aside.push(Straggler { sent, ..straggler(message) });
                    settled.sent += 1;
                }
                // The broker is there, or it would not have said anything of others: this one
                // waits, or it would fill every batch.
                Published::Unknown => {
                    let due_at = Some(later(now, PASSED_OVER_MS));
                    outcome.aside.push(Straggler { due_at, ..straggler(message) });
                }
                Published::Refused(why) => {
                    let (refused, letter) = self.refuse(message, why, now);
                    outcome.aside.push(refused);
                    match letter {
                        Some(letter) => {
                            letters.push(letter);
                            settled.dead += 1;
                        }
                        None => settled.failed += 1,
                    }
                }
            }
        }
        outcome.aside.extend(behind.iter().map(straggler));

        let tx = bus_relay::begin(&self.outbox.db).await?;
        let lease_until = full.then(|| later(now, self.outbox.bus_lease_ms()));
        let moved = bus_relay::advance(&tx, self.holder, &then, lease_until).await?;
        let Some(stragglers) = moved else {
            tx.rollback().await?;
            tracing::warn!("another relay has taken the log of the bus over");
            return Ok(Settled::default());
        };
        bus_relay::write(&tx, &outcome, now).await?;
        dead_letter::save(&tx, &letters).await?;
        tx.commit().await?;
        let went_aside = !outcome.aside.is_empty();
        self.held = full.then_some(Held { stragglers: stragglers || went_aside, ..then });
        // Who went aside just now is not known to what was read before.
        self.ahead = ahead.filter(|_| full && !went_aside);
        Ok(settled)
    }

    fn refuse(
        &self,
        message: &Stored,
        why: &str,
        now: Timestamp,
    ) -> (Straggler, Option<DeadLetter>) {
        let verdict = self.outbox.judge(message, why, now);
        let straggler = Straggler {
            attempts: verdict.attempts,
            due_at: verdict.next_attempt_at,
            error: Some(why.to_owned()),
            dead_at: verdict.letter.is_some().then_some(now),
            ..straggler(message)
        };
        (straggler, verdict.letter)
    }
}

/// A message that goes its own way from here on, and is due at once.
fn straggler(message: &Stored) -> Straggler {
    Straggler {
        seq: message.seq,
        aggregate_id: message.aggregate_id,
        attempts: message.attempts,
        due_at: None,
        error: None,
        sent: None,
        dead_at: None,
    }
}

/// Reads what is next. What is new is read before what comes late: an earlier message of the same
/// aggregate was committed before it, so it is seen then at the latest, and goes out first.
async fn read(conn: &Conn, held: &Held, limit: usize, now: Timestamp) -> Result<Batch, DbError> {
    // At most half of a batch, so that what cannot leave does not keep back what can.
    let share = limit.div_ceil(2);
    let due =
        if held.stragglers { bus_relay::due(conn, now, rows(share)).await? } else { Vec::new() };
    let room = limit.saturating_sub(due.len());
    let mut fresh = bus_relay::fresh(conn, held.read_to, rows(room)).await?;
    let mut full = fresh.len() == room || due.len() == share;
    let mut gaps = held.gaps.clone();
    let mut late = Vec::new();
    if !gaps.is_empty() {
        let found = bus_relay::late(conn, &gaps, rows(share)).await?;
        late = found.messages;
        for message in &late {
            gaps.fill(message.seq);
        }
        if late.len() == share {
            // There may be more of it, and it goes before what is new.
            full = true;
            fresh.clear();
        } else {
            gaps.close(found.settled, found.next);
        }
    }
    let read_to = pass(conn, &mut gaps, held.read_to, &fresh).await?;
    let passed = fresh.into_iter().filter(|message| message.seq <= read_to);

    let coming: Vec<Stored> = late.into_iter().chain(passed).collect();
    let (coming, behind) = if held.stragglers {
        let besides: Vec<i64> = due.iter().map(|message| message.seq).collect();
        part(conn, coming, &besides).await?
    } else {
        (coming, Vec::new())
    };
    let (late, fresh): (Vec<Stored>, Vec<Stored>) =
        coming.into_iter().partition(|message| message.seq <= held.read_to);
    let mut messages = due;
    messages.extend(late);
    messages.sort_unstable_by_key(|message| message.seq);
    let aside = messages.len();
    messages.extend(fresh);
    let then = Held { read_to, gaps, ..held.clone() };
    // With too many gaps there is more, but nothing that may go.
    full &= !messages.is_empty() || !behind.is_empty();
    Ok(Batch { messages, aside, behind, then, full })
}

/// Moves over what is new, and says up to where.
async fn pass(conn: &Conn, gaps: &mut Gaps, after: i64, fresh: &[Stored]) -> Result<i64, DbError> {
    let Some(last) = fresh.last() else { return Ok(after) };
    let whole =
        i64::try_from(fresh.len()).is_ok_and(|rows| last.seq.checked_sub(after) == Some(rows));
    if whole {
        return Ok(last.seq);
    }
    let horizon = bus_relay::horizon(conn).await?;
    let passed = gaps.pass(after, fresh.iter().map(|message| message.seq), horizon);
    Ok(fresh.get(..passed).and_then(<[Stored]>::last).map_or(after, |last| last.seq))
}

/// What may go, and what has to wait because an earlier one of its aggregate does.
async fn part(
    conn: &Conn,
    coming: Vec<Stored>,
    besides: &[i64],
) -> Result<(Vec<Stored>, Vec<Stored>), DbError> {
    let aggregates: HashSet<Uuid> = coming.iter().map(|message| message.aggregate_id).collect();
    let aggregates: Vec<Uuid> = aggregates.into_iter().collect();
    let waiting = bus_relay::waiting(conn, &aggregates, besides).await?;
    let waiting: HashSet<Uuid> = waiting.into_iter().collect();
    Ok(coming.into_iter().partition(|message| !waiting.contains(&message.aggregate_id)))
}

fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
