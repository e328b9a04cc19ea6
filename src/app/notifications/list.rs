//! A person's in-app inbox, the newest first.

use uuid::Uuid;

use crate::app::{App, Page, Result};
use crate::domain::account::Caller;
use crate::domain::notification::Notification;
use crate::postgres::notification;

/// A page of the caller's notifications: all, or only those that were (not) read.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    app: &App,
    caller: &Caller,
    unread: Option<bool>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Page<Notification>> {
    let conn = app.db.get().await?;
    let user = caller.user_id;
    // One more than asked for tells whether there is another page.
    let more = limit.saturating_add(1);
    let mut items = notification::list(&conn, user, after, unread, more).await?;
    let size = usize::try_from(limit).unwrap_or(0);
    let is_last = items.len() <= size;
    items.truncate(size);
    let next = items.last().filter(|_| !is_last).map(|last| last.id.to_string());
    Ok(Page { items, next })
}
