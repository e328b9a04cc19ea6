//! Looking at messages that died, dropping those that nobody needs, and putting others in their
//! place. What was done stays with the letter, and is in the audit log.

use serde_json::{Value, json};
use uuid::Uuid;

use super::publish::aggregate;
use super::registry::{Registry, partition_key};
use crate::app::{App, Origin, Page, Result};
use crate::clock::{Clock, Ids};
use crate::domain::dead_letter::{
    DeadLetter, FailedEvent, Filter, Group, Kept, Resolution, Resolved, Shown,
};
use crate::domain::ids::{DeadLetterId, MessageId, UserId};
use crate::domain::message::{Defect, Lane};
use crate::domain::refusal::Refusal;
use crate::postgres::outbox::{self, RawMessage};
use crate::postgres::{Conn, Db, audit, dead_letter, redrive};
use crate::wake::Wakes;

/// Most groups in one answer.
const GROUPS_MAX: i64 = 100;

/// The messages that died. Made of an [`App`], or at the command line of a database alone.
#[derive(Clone)]
pub struct DeadLetters {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) ids: Ids,
    pub(super) registry: Registry,
    wakes: Wakes,
}

/// Who does something, and from where. `None` is somebody at the command line.
pub type By<'a> = (Option<UserId>, &'a Origin);

impl From<&App> for DeadLetters {
    fn from(app: &App) -> Self {
        Self {
            db: app.db.clone(),
            clock: app.clock.clone(),
            ids: app.ids,
            registry: app.registry.clone(),
            wakes: app.wakes.clone(),
        }
    }
}

impl DeadLetters {
    /// Those in this database.
    pub fn new(db: Db, clock: Clock, registry: Registry) -> Self {
        Self { db, clock, ids: Ids, registry, wakes: Wakes::default() }
    }

    /// A page of letters, the newest first.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn list(
        &self,
        filter: &Filter,
        shown: Shown,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Page<Kept>> {
        let conn = self.db.get().await?;
        let more = limit.saturating_add(1);
        let items = dead_letter::list(&conn, filter, shown, after, more).await?;
        Ok(Page::cut(items, limit, |kept| kept.letter.id.to_string()))
    }

    /// Open letters by what they died of; the hundred largest groups.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn groups(&self, filter: &Filter) -> Result<Vec<Group>> {
        Ok(dead_letter::groups(&*self.db.get().await?, filter, GROUPS_MAX).await?)
    }

    /// One letter.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn show(&self, id: DeadLetterId) -> Result<Kept> {
        let found = dead_letter::find(&*self.db.get().await?, id).await?;
        Ok(found.ok_or(Refusal::NotFound("dead letter"))?)
    }

    /// A page of publications that failed, those that are tried again and those given up, the
    /// newest messages first.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn failed_events(
        &self,
        kind: Option<&str>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Page<FailedEvent>> {
        let conn = self.db.get().await?;
        let items = redrive::failed_events(&conn, kind, after, limit.saturating_add(1)).await?;
        Ok(Page::cut(items, limit, |event| event.id.to_string()))
    }

    /// Discards an open letter for good, perhaps with a reason.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also when it was discarded before, or [`Refusal::AlreadyRedriven`]
    /// when it was sent again meanwhile.
    pub async fn discard(&self, by: By<'_>, id: DeadLetterId, note: Option<String>) -> Result<()> {
        let tx = self.db.begin().await?;
        let kept = dead_letter::lock(&tx, id).await?;
        let kept = kept.ok_or(Refusal::NotFound("dead letter"))?;
        if kept.resolved.as_ref().is_some_and(|end| end.how == Resolution::Discarded) {
            return Err(Refusal::NotFound("dead letter").into());
        }
        let letter = open(kept)?;
        self.resolve(&tx, by, &letter, Resolution::Discarded, note, None).await?;
        Ok(tx.commit().await?)
    }

    /// Puts a message with other data in the place of a letter's: it has an id of its own, and
    /// each of them names the other.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::AlreadyRedriven`], or [`Refusal::Invalid`] when the data
    /// does not fit the message's type.
    pub async fn copy(
        &self,
        tx: &Conn,
        by: By<'_>,
        id: DeadLetterId,
        data: Value,
        note: Option<String>,
    ) -> Result<Kept> {
        let kept = dead_letter::lock(tx, id).await?;
        let letter = open(kept.ok_or(Refusal::NotFound("dead letter"))?)?;
        let copy = MessageId(self.ids.uuid());
        let (payload, aggregate_id, schema_version) = match Lane::of(&letter.kind) {
            Lane::Bus => {
                let made = self.registry.replace(&letter.kind, letter.message_id, copy, data)?;
                let version = made.version();
                (made.payload, aggregate(&made.partition_key, copy), version)
            }
            Lane::Mail => (mail(&letter, &data)?, copy.0, 1),
        };
        let message = RawMessage {
            id: copy,
            aggregate_id,
            kind: letter.kind.clone(),
            schema_version,
            payload,
            correlation_id: correlation_id(&letter, by.1),
            traceparent: letter.traceparent.clone(),
            created_at: self.clock.now(),
            lane: Lane::of(&letter.kind),
        };
        outbox::append_raw(tx, &[message]).await?;
        let resolved = self.resolve(tx, by, &letter, Resolution::Copied, note, Some(copy)).await?;
        Ok(Kept { letter, resolved: Some(resolved), copy_of: None })
    }

    /// The same in a transaction of its own, with data as JSON text.
    ///
    /// # Errors
    /// The same.
    pub async fn copy_now(
        &self,
        by: By<'_>,
        id: DeadLetterId,
        data: &str,
        note: Option<String>,
    ) -> Result<Kept> {
        let data = serde_json::from_str(data)
            .map_err(|error| Refusal::invalid("/data", "not_json", error.to_string()))?;
        let tx = self.db.begin().await?;
        let kept = self.copy(&tx, by, id, data, note).await?;
        tx.commit().await?;
        self.ring();
        Ok(kept)
    }

    /// Closes a letter and says so in the audit log.
    async fn resolve(
        &self,
        tx: &Conn,
        (actor, origin): By<'_>,
        letter: &DeadLetter,
        how: Resolution,
        note: Option<String>,
        replaced_by: Option<MessageId>,
    ) -> Result<Resolved> {
        let at = self.clock.now();
        let resolved = Resolved { how, at, by: actor, note, replaced_by };
        dead_letter::resolve(tx, &[letter.id], &resolved).await?;
        let mut detail = told(letter);
        if let Some(members) = detail.as_object_mut() {
            // What it says may be private or long, and the log is kept for longer than the letter.
            members.insert("payload_bytes".to_owned(), json!(letter.payload.len()));
            members.insert("note".to_owned(), json!(resolved.note));
            members.insert("replaced_by".to_owned(), json!(replaced_by.map(|id| id.0)));
        }
        let (action, subject) = (format!("dead_letter.{}", how.name()), letter.id.to_string());
        let request = Some(origin.correlation_id.as_str());
        audit::append(tx, at, actor, &action, &subject, request, Some(&detail)).await?;
        Ok(resolved)
    }

    /// Rings those who send what was written to the outbox.
    pub fn ring(&self) {
        self.wakes.outbox_relay.ring();
        self.wakes.bus_relay.ring();
    }

    /// What a letter of the bus is sent again with: its data sealed with today's key, by what its
    /// order is kept, and its version, which is the one that it had, because the inbox knows it by
    /// that. `Err`: it would die again.
    pub(super) fn renew(
        &self,
        letter: &DeadLetter,
    ) -> std::result::Result<(String, Uuid, i32), Defect> {
        let unknown = || Defect::new(format!("there is no type {}", letter.kind));
        let kind = self.registry.find(&letter.kind).ok_or_else(unknown)?;
        let read: Value = serde_json::from_str(&letter.payload)
            .map_err(|error| Defect::new(error.to_string()))?;
        let kept = u32::try_from(letter.schema_version).unwrap_or_default();
        let (version, mut data) = unwrapped(read, kept);
        let id = letter.message_id;
        self.registry.accept(kind.name, version, id, data.clone())?;
        self.registry.open(kind, id, &mut data)?;
        let key = partition_key(kind, &data);
        let sealed = self.registry.seal(kind, id, &mut data);
        sealed.map_err(|error| Defect::new(error.to_string()))?;
        let version = i32::try_from(version).unwrap_or(i32::MAX);
        Ok((data.to_string(), aggregate(&key, id), version))
    }
}

/// An open letter, or what is to be said of one that is not.
pub(super) fn open(kept: Kept) -> std::result::Result<DeadLetter, Refusal> {
    match kept.resolved {
        None => Ok(kept.letter),
        Some(_) => Err(Refusal::AlreadyRedriven),
    }
}

/// What the audit log keeps of a letter.
pub(super) fn told(letter: &DeadLetter) -> Value {
    json!({
        "message_id": letter.message_id.0, "type": letter.kind, "source": letter.source,
        "reason": letter.reason,
    })
}

/// The request that caused a message; of one that came from elsewhere, the one that sends it.
pub(super) fn correlation_id(letter: &DeadLetter, origin: &Origin) -> String {
    letter.correlation_id.clone().unwrap_or_else(|| origin.correlation_id.clone())
}

/// Whether a payload is JSON that PostgreSQL takes, too: not nested too deep.
pub(super) fn is_json(payload: &str) -> bool {
    serde_json::from_str::<Value>(payload).is_ok()
}

/// A letter's payload is a message's data, or its whole envelope if the data could not be had.
fn unwrapped(mut read: Value, kept: u32) -> (u32, Value) {
    if read.get("specversion").is_none() {
        return (kept, read);
    }
    let schema = read.get("dataschema").and_then(Value::as_str).unwrap_or_default();
    let version = schema.rsplit('/').next().and_then(|version| version.parse().ok());
    let data = read.get_mut("data").map(Value::take).unwrap_or_default();
    (version.unwrap_or(kept), data)
}

/// A notification's payload says of which type it is.
fn mail(letter: &DeadLetter, data: &Value) -> Result<String> {
    let kind = data.get("type").and_then(Value::as_str);
    if kind != Some(letter.kind.as_str()) {
        let detail = format!("must be {}", letter.kind);
        return Err(Refusal::invalid("/type", "wrong_type", detail).into());
    }
    Ok(data.to_string())
}
