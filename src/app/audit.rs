//! What was done and by whom, for those who have to know.

use super::{App, Page, Result};
use crate::domain::audit::{Filter, Line, Place};
use crate::postgres::audit;

/// A page of lines, the newest first.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    app: &App,
    filter: &Filter,
    after: Option<&Place>,
    limit: i64,
) -> Result<Page<Line>> {
    let conn = app.db.get().await?;
    let items = audit::list(&conn, filter, after, limit.saturating_add(1)).await?;
    Ok(Page::cut(items, limit, |line| Place::of(line).name()))
}
