//! What is wrong, and what was.

use uuid::Uuid;

use crate::app::{App, Page, Result};
use crate::domain::alarm::{Alarm, AlarmKind};
use crate::postgres::alarm;

/// A page of alarms, the newest first: all, or only those that are (not) open, or of one kind.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    app: &App,
    is_open: Option<bool>,
    kind: Option<AlarmKind>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Page<Alarm>> {
    let conn = app.db.get().await?;
    let found = alarm::list(&conn, is_open, kind, after, limit.saturating_add(1)).await?;
    Ok(Page::cut(found, limit, |one| one.id.to_string()))
}
