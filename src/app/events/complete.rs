//! Events that have taken place.

use crate::app::{App, Result};
use crate::postgres::event;

/// Events completed with one statement.
const CHUNK: i64 = 200;

/// Marks published events that are over as completed, a bounded number of them; true if more may
/// be left.
pub async fn complete_over(app: &App) -> Result<bool> {
    let conn = app.db.get().await?;
    let completed = event::complete_over(&conn, app.clock.now(), CHUNK).await?;
    if completed > 0 {
        tracing::info!(completed, "events are over");
    }
    Ok(i64::try_from(completed).is_ok_and(|completed| completed >= CHUNK))
}
