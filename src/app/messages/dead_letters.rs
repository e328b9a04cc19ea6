//! Looking at messages that died, and dropping those that nobody needs.

use serde_json::json;
use uuid::Uuid;

use crate::app::{App, Origin, Page, Result};
use crate::clock::Clock;
use crate::domain::dead_letter::{DeadLetter, Filter, Group};
use crate::domain::ids::{DeadLetterId, UserId};
use crate::domain::refusal::Refusal;
use crate::postgres::{Db, audit, dead_letter};
use crate::wake::Wake;

/// Most groups in one answer.
const GROUPS_MAX: i64 = 100;

/// The messages that died. Made of an [`App`], or at the command line of a database alone.
#[derive(Clone)]
pub struct DeadLetters {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) relay: Wake,
}

impl From<&App> for DeadLetters {
    fn from(app: &App) -> Self {
        let relay = app.wakes.outbox_relay.clone();
        Self { db: app.db.clone(), clock: app.clock.clone(), relay }
    }
}

impl DeadLetters {
    /// Those in this database.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, relay: Wake::default() }
    }

    /// A page of open letters, the newest first.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Page<DeadLetter>> {
        let conn = self.db.get().await?;
        let items = dead_letter::list(&conn, filter, after, limit.saturating_add(1)).await?;
        Ok(Page::cut(items, limit, |letter| letter.id.to_string()))
    }

    /// Open letters by what they died of; the hundred largest groups.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn groups(&self, filter: &Filter) -> Result<Vec<Group>> {
        Ok(dead_letter::groups(&*self.db.get().await?, filter, GROUPS_MAX).await?)
    }

    /// One letter, and whether it is open.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn show(&self, id: DeadLetterId) -> Result<(DeadLetter, bool)> {
        let found = dead_letter::find(&*self.db.get().await?, id).await?;
        Ok(found.ok_or(Refusal::NotFound("dead letter"))?)
    }

    /// Drops an open letter for good. `actor` is `None` for somebody at the command line.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], or [`Refusal::AlreadyRedriven`] when it was sent again meanwhile.
    pub async fn remove(
        &self,
        actor: Option<UserId>,
        origin: &Origin,
        id: DeadLetterId,
    ) -> Result<()> {
        let tx = self.db.begin().await?;
        let found = dead_letter::lock(&tx, id).await?;
        let (letter, is_open) = found.ok_or(Refusal::NotFound("dead letter"))?;
        if !is_open {
            return Err(Refusal::AlreadyRedriven.into());
        }
        dead_letter::remove(&tx, id).await?;
        let detail = json!({
            "message_id": letter.message_id.0, "type": letter.kind, "source": letter.source,
            "reason": letter.reason, "payload": letter.payload,
        });
        let (now, action, subject) = (self.clock.now(), "dead_letter.dropped", id.to_string());
        let request = Some(origin.correlation_id.as_str());
        audit::append(&tx, now, actor, action, &subject, request, Some(&detail)).await?;
        Ok(tx.commit().await?)
    }
}
