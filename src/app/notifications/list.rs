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
    let (user, more) = (caller.user_id, limit.saturating_add(1));
    let items = notification::list(&conn, user, after, unread, more).await?;
    Ok(Page::cut(items, limit, |notification| notification.id.to_string()))
}
