//! One event.

use super::sees;
use crate::app::{App, Result};
use crate::domain::account::Caller;
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::domain::seat_map::SeatMap;
use crate::postgres::{event, seat_map};

/// The event, and its seat map if `with_map` and it has one.
///
/// # Errors
/// [`Refusal::NotFound`], also for a draft of somebody else's.
pub async fn get(
    app: &App,
    caller: Option<&Caller>,
    id: EventId,
    with_map: bool,
) -> Result<(Event, Option<SeatMap>)> {
    let conn = app.db.get().await?;
    let found = event::find(&conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    if !sees(&conn, caller, found.organization_id, found.rules.status).await? {
        return Err(Refusal::NotFound("event").into());
    }
    let map = if with_map && found.has_seat_map { seat_map::find(&conn, id).await? } else { None };
    Ok((found, map))
}
