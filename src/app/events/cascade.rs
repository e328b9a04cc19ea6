//! What follows from cancelling an event: its bookings and its queue end, and each person is told.
//! Sales closed with the cancellation itself, so the work can only shrink.

use crate::app::bookings::desk::{Command, Outcome};
use crate::app::once::Answer;
use crate::app::{App, Origin, Result};
use crate::domain::ids::EventId;
use crate::postgres::cascade;

/// Cancelled events looked at in one step.
const EVENTS: i64 = 16;
/// Chunks of one event in one step, so that a large event does not starve the others.
const CHUNKS: usize = 20;

/// Cancels some bookings of cancelled events; whether there may be more to do.
///
/// # Errors
/// When the desk or PostgreSQL is away: the next step goes on where this one was.
pub async fn step(app: &App) -> Result<bool> {
    let conn = app.db.get().await?;
    let pending = cascade::pending(&conn, EVENTS).await?;
    drop(conn);
    for event in &pending {
        close(app, *event).await?;
    }
    Ok(!pending.is_empty())
}

async fn close(app: &App, event: EventId) -> Result<()> {
    let origin = Origin { correlation_id: format!("cascade-{event}"), traceparent: None };
    let mut after = None;
    for _ in 0..CHUNKS {
        let answer = app.desk.submit(event, Command::Close { after }, None, &origin).await;
        match answer {
            Ok(Answer::Fresh(Outcome::Closed(Some(last)))) => after = Some(last),
            Ok(_) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
