//! Looking at messages that died, and dropping those that nobody needs.

use serde_json::json;
use uuid::Uuid;

use crate::app::{App, Origin, Page, Result};
use crate::domain::dead_letter::{DeadLetter, Filter, Group};
use crate::domain::ids::{DeadLetterId, UserId};
use crate::domain::refusal::Refusal;
use crate::postgres::{audit, dead_letter};

/// Most groups in one answer.
const GROUPS_MAX: i64 = 100;

/// A page of open letters, the newest first.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    app: &App,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Page<DeadLetter>> {
    let conn = app.db.get().await?;
    let mut items = dead_letter::list(&conn, filter, after, limit.saturating_add(1)).await?;
    let size = usize::try_from(limit).unwrap_or(0);
    let is_last = items.len() <= size;
    items.truncate(size);
    let next = items.last().filter(|_| !is_last).map(|last| last.id.to_string());
    Ok(Page { items, next })
}

/// Open letters by what they died of; the hundred largest groups.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn groups(app: &App, filter: &Filter) -> Result<Vec<Group>> {
    Ok(dead_letter::groups(&*app.db.get().await?, filter, GROUPS_MAX).await?)
}

/// One letter.
///
/// # Errors
/// [`Refusal::NotFound`].
pub async fn show(app: &App, id: DeadLetterId) -> Result<DeadLetter> {
    let found = dead_letter::find(&*app.db.get().await?, id).await?;
    Ok(found.ok_or(Refusal::NotFound("dead letter"))?.0)
}

/// Drops an open letter for good. `actor` is `None` for somebody at the command line.
///
/// # Errors
/// [`Refusal::NotFound`], or [`Refusal::AlreadyRedriven`] when it was sent again meanwhile.
pub async fn remove(
    app: &App,
    actor: Option<UserId>,
    origin: &Origin,
    id: DeadLetterId,
) -> Result<()> {
    let tx = app.db.begin().await?;
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
    let (now, action, subject) = (app.clock.now(), "dead_letter.dropped", id.to_string());
    let request = Some(origin.correlation_id.as_str());
    audit::append(&tx, now, actor, action, &subject, request, Some(&detail)).await?;
    tx.commit().await?;
    Ok(())
}
