//! Sending dead letters again: a new outbox row with the message's own id, and the service that
//! gave it up starts counting anew, in one transaction. A letter that keeps dying is not sent
//! again for ever.

use jiff::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;

use super::consume::streams;
use super::dead_letters::DeadLetters;
use super::later;
use crate::app::{Error, Origin, Result};
use crate::domain::dead_letter::{BROKER, DeadLetter, Filter, REDRIVES_MAX, RELAY};
use crate::domain::ids::{DeadLetterId, UserId};
use crate::domain::message::Lane;
use crate::domain::processing::ServiceContext;
use crate::domain::refusal::Refusal;
use crate::postgres::outbox::{self, RawMessage};
use crate::postgres::{Conn, audit, dead_letter, inbox};

/// Most letters sent again by one call.
pub const LIMIT_MAX: i64 = 1000;

/// Which letters, how many, how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which.
    pub filter: Filter,
    /// At most so many, the newest first; up to [`LIMIT_MAX`].
    pub limit: i64,
    /// Not more than so many a second.
    pub rate_per_second: u32,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default)]
pub struct Redriven {
    /// Open letters that the filter means, also those beyond the limit.
    pub matched: i64,
    /// Sent again.
    pub redriven: Vec<DeadLetterId>,
    /// Not sent again, and why.
    pub refused: Vec<(DeadLetterId, &'static str)>,
}

impl DeadLetters {
    /// Sends one letter again and answers it. `actor` is `None` for somebody at the command line.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::AlreadyRedriven`], or [`Refusal::Invalid`] when sending
    /// it again would lead to nothing.
    pub async fn redrive(
        &self,
        tx: &Conn,
        actor: Option<UserId>,
        origin: &Origin,
        id: DeadLetterId,
    ) -> Result<DeadLetter> {
        let found = dead_letter::lock(tx, id).await?;
        let (letter, is_open) = found.ok_or(Refusal::NotFound("dead letter"))?;
        if !is_open {
            return Err(Refusal::AlreadyRedriven.into());
        }
        if let Some((code, detail)) = hopeless(&letter) {
            return Err(Refusal::invalid("/id", code, detail).into());
        }
        let now = self.clock.now();
        send(tx, (actor, origin), &letter, now, None).await?;
        Ok(DeadLetter { redrives: letter.redrives.saturating_add(1), ..letter })
    }

    /// The same in a transaction of its own.
    ///
    /// # Errors
    /// The same.
    pub async fn redrive_now(
        &self,
        actor: Option<UserId>,
        origin: &Origin,
        id: DeadLetterId,
    ) -> Result<DeadLetter> {
        let tx = self.db.begin().await?;
        let letter = self.redrive(&tx, actor, origin, id).await?;
        tx.commit().await?;
        self.relay.ring();
        Ok(letter)
    }

    /// Sends letters again, each in a transaction of its own and spread over time by the rate.
    ///
    /// # Errors
    /// When PostgreSQL is away; what was sent until then stays so, and the call can be repeated.
    pub async fn redrive_all(
        &self,
        actor: Option<UserId>,
        origin: &Origin,
        plan: &Plan,
    ) -> Result<Redriven> {
        let conn = self.db.get().await?;
        let matched = dead_letter::count(&conn, &plan.filter).await?;
        let limit = plan.limit.clamp(1, LIMIT_MAX);
        let letters = dead_letter::list(&conn, &plan.filter, None, limit).await?;
        drop(conn);
        let mut done = Redriven { matched, ..Redriven::default() };
        let now = self.clock.now();
        let gap_us = 1_000_000 / u64::from(plan.rate_per_second.max(1));
        for letter in letters {
            if let Some((_, detail)) = hopeless(&letter) {
                done.refused.push((letter.id, detail));
                continue;
            }
            let nth = u64::try_from(done.redriven.len()).unwrap_or(u64::MAX);
            let not_before = later(now, nth.saturating_mul(gap_us) / 1000);
            if plan.dry_run || self.again((actor, origin), letter.id, not_before).await? {
                done.redriven.push(letter.id);
            }
        }
        self.relay.ring();
        Ok(done)
    }

    /// Sends a letter again unless somebody dealt with it meanwhile.
    async fn again(
        &self,
        by: (Option<UserId>, &Origin),
        id: DeadLetterId,
        not_before: Timestamp,
    ) -> Result<bool> {
        let tx = self.db.begin().await?;
        let Some((letter, true)) = dead_letter::lock(&tx, id).await? else {
            tx.rollback().await?;
            return Ok(false);
        };
        send(&tx, by, &letter, self.clock.now(), Some(not_before)).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Why a letter is not worth sending again.
fn hopeless(letter: &DeadLetter) -> Option<(&'static str, &'static str)> {
    if letter.redrives >= REDRIVES_MAX {
        return Some(("redrive_loop", "was sent again too often: mend the cause or drop it"));
    }
    // `RawValue` reads JSON without making anything of it.
    if serde_json::from_str::<&RawValue>(&letter.payload).is_err() {
        return Some(("not_json", "its payload is not JSON, so it would die again: drop it"));
    }
    None
}

async fn send(
    tx: &Conn,
    (actor, origin): (Option<UserId>, &Origin),
    letter: &DeadLetter,
    now: Timestamp,
    not_before: Option<Timestamp>,
) -> Result<()> {
    if dead_letter::mark_redriven(tx, &[letter.id], now).await? == 0 {
        return Err(Error::from(Refusal::AlreadyRedriven));
    }
    let correlation_id = letter.correlation_id.clone();
    let message = RawMessage {
        id: letter.message_id,
        // Its place in the order is lost anyway, and it must not keep others back.
        aggregate_id: letter.message_id.0,
        kind: letter.kind.clone(),
        payload: letter.payload.clone(),
        correlation_id: correlation_id.unwrap_or_else(|| origin.correlation_id.clone()),
        traceparent: letter.traceparent.clone(),
        created_at: now,
        not_before,
        lane: Lane::of(&letter.kind),
    };
    outbox::append_raw(tx, &[message]).await?;
    let service = if [RELAY, BROKER].contains(&letter.source.as_str()) {
        ServiceContext::InboxService.name()
    } else {
        letter.source.as_str()
    };
    let revision = letter.message_id.to_string();
    inbox::reset(tx, service, &streams(&letter.kind), &revision).await?;
    let detail = json!({
        "message_id": letter.message_id.0, "type": letter.kind, "source": letter.source,
        "reason": letter.reason, "redrives": letter.redrives.saturating_add(1),
    });
    let (action, subject) = ("dead_letter.redriven", letter.id.to_string());
    let request = Some(origin.correlation_id.as_str());
    audit::append(tx, now, actor, action, &subject, request, Some(&detail)).await?;
    Ok(())
}
