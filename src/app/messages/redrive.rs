//! Sending dead letters again: a new outbox row with the message's own id, and the service that
//! gave it up starts counting anew, in one transaction. A letter that keeps dying is not sent
//! again unless somebody insists, and one that can only die again not at all.

use serde_json::Value;

use super::consume::streams;
use super::dead_letters::{By, DeadLetters, correlation_id, is_json, open, told};
use crate::app::Result;
use crate::domain::dead_letter::{
    BROKER, DeadLetter, Kept, REDRIVES_MAX, RELAY, Resolution, Resolved,
};
use crate::domain::ids::DeadLetterId;
use crate::domain::message::Lane;
use crate::domain::processing::ServiceContext;
use crate::domain::refusal::Refusal;
use crate::postgres::inbox::{self, Key};
use crate::postgres::outbox::{self, RawMessage};
use crate::postgres::{Conn, audit, dead_letter};

/// Why a letter is not worth sending again: a stable code, and for people.
pub type Hopeless = (&'static str, String);

/// A letter that can be sent again, and what it becomes.
pub(super) struct Ready {
    letter: DeadLetter,
    message: RawMessage,
}

impl DeadLetters {
    /// Sends one letter again and answers it; `force` sends also one that was sent too often.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::AlreadyRedriven`], or [`Refusal::Invalid`] when sending
    /// it again would lead to nothing.
    pub async fn redrive(
        &self,
        tx: &Conn,
        by: By<'_>,
        id: DeadLetterId,
        force: bool,
    ) -> Result<Kept> {
        let kept = dead_letter::lock(tx, id).await?;
        let letter = open(kept.ok_or(Refusal::NotFound("dead letter"))?)?;
        let ready = self.ready(letter.clone(), by, force).map_err(refusal)?;
        let resolved = self.send(tx, by, &[ready]).await?;
        let redrives = letter.redrives.saturating_add(1);
        let letter = DeadLetter { redrives, ..letter };
        Ok(Kept { letter, resolved: Some(resolved), copy_of: None })
    }

    /// The same in a transaction of its own.
    ///
    /// # Errors
    /// The same.
    pub async fn redrive_now(&self, by: By<'_>, id: DeadLetterId, force: bool) -> Result<Kept> {
        let tx = self.db.begin().await?;
        let kept = self.redrive(&tx, by, id, force).await?;
        tx.commit().await?;
        self.ring();
        Ok(kept)
    }

    /// Says what [`DeadLetters::redrive`] would, and does nothing.
    ///
    /// # Errors
    /// The same.
    pub async fn try_redrive(&self, by: By<'_>, id: DeadLetterId, force: bool) -> Result<Kept> {
        let kept = self.show(id).await?;
        self.ready(open(kept.clone())?, by, force).map_err(refusal)?;
        Ok(kept)
    }

    /// What a letter becomes when it is sent again.
    pub(super) fn ready(
        &self,
        letter: DeadLetter,
        (_, origin): By<'_>,
        force: bool,
    ) -> std::result::Result<Ready, Hopeless> {
        if letter.redrives >= REDRIVES_MAX && !force {
            let detail = "was sent again too often: mend the cause, force it or drop it";
            return Err(("redrive_loop", detail.to_owned()));
        }
        if !is_json(&letter.payload) {
            let detail = "its payload is not JSON, so it would die again: drop it";
            return Err(("not_json", detail.to_owned()));
        }
        let lane = Lane::of(&letter.kind);
        let (payload, aggregate_id, schema_version) = match lane {
            // Its place in the order is lost anyway, and it must not keep others back.
            Lane::Mail => (letter.payload.clone(), letter.message_id.0, 1),
            Lane::Bus => self.renew(&letter).map_err(|defect| {
                let why = defect.reason();
                ("does_not_fit", format!("{why}: it would die again, send an edited copy"))
            })?,
        };
        let message = RawMessage {
            id: letter.message_id,
            aggregate_id,
            kind: letter.kind.clone(),
            schema_version,
            payload,
            correlation_id: correlation_id(&letter, origin),
            traceparent: letter.traceparent.clone(),
            created_at: self.clock.now(),
            lane,
        };
        Ok(Ready { letter, message })
    }

    /// Sends locked, open letters again.
    pub(super) async fn send(
        &self,
        tx: &Conn,
        (actor, origin): By<'_>,
        ready: &[Ready],
    ) -> Result<Resolved> {
        let at = self.clock.now();
        let how = Resolution::Redriven;
        let resolved = Resolved { how, at, by: actor, note: None, replaced_by: None };
        let ids: Vec<DeadLetterId> = ready.iter().map(|one| one.letter.id).collect();
        dead_letter::resolve(tx, &ids, &resolved).await?;
        let messages: Vec<RawMessage> = ready.iter().map(|one| one.message.clone()).collect();
        outbox::append_raw(tx, &messages).await?;
        let given_up: Vec<(Key, &str)> = ready.iter().flat_map(|one| keys(&one.letter)).collect();
        inbox::reset(tx, &given_up).await?;
        let changed: Vec<(String, Value)> = ready.iter().map(|one| noted(&one.letter)).collect();
        let request = Some(origin.correlation_id.as_str());
        audit::append_all(tx, at, actor, "dead_letter.redriven", request, &changed).await?;
        Ok(resolved)
    }
}

/// Under what the service that gave a message up remembers it.
fn keys(letter: &DeadLetter) -> impl Iterator<Item = (Key, &str)> {
    let service = if [RELAY, BROKER].contains(&letter.source.as_str()) {
        ServiceContext::InboxService.name()
    } else {
        letter.source.as_str()
    };
    let revision = letter.message_id.to_string();
    let key = move |stream| (Key { stream, revision: revision.clone() }, service);
    streams(&letter.kind).into_iter().map(key)
}

fn noted(letter: &DeadLetter) -> (String, Value) {
    let mut detail = told(letter);
    if let Some(members) = detail.as_object_mut() {
        members.insert("redrives".to_owned(), letter.redrives.saturating_add(1).into());
    }
    (letter.id.to_string(), detail)
}

fn refusal((code, detail): Hopeless) -> Refusal {
    Refusal::invalid("/id", code, detail)
}
