//! Serves queues that could be served and are not.

use super::desk::Command;
use crate::app::{App, Origin, Result};
use crate::domain::ids::EventId;
use crate::postgres::cascade;

/// Events swept in one step.
const EVENTS: i64 = 100;

/// Sweeps some published events after `after` that keep seats for their queue; answers the last of
/// them, or nothing when there was none.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn step(app: &App, after: EventId) -> Result<Option<EventId>> {
    let conn = app.db.get().await?;
    let events = cascade::unserved(&conn, after, EVENTS).await?;
    drop(conn);
    for event in &events {
        let origin = Origin { correlation_id: format!("sweep-{event}"), traceparent: None };
        // A refusal or a busy desk: the next round comes by again.
        app.desk.submit(*event, Command::Sweep, None, &origin).await.ok();
    }
    Ok(events.last().copied())
}
