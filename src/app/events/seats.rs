//! Which seats of an event can be had.

use super::sees;
use crate::app::{App, Result};
use crate::domain::account::Caller;
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::domain::seat_map::SeatMap;
use crate::postgres::booking_views::{self, SeatsNow};
use crate::postgres::seat_map;
use crate::redis::holds;

/// Seats at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seats {
    /// All seats.
    pub total: u32,
    /// What a newcomer can book now.
    pub available: u32,
    /// Numbered seats that are somebody's, ascending.
    pub taken: Vec<u32>,
    /// Numbered seats that somebody holds, ascending.
    pub held: Vec<u32>,
    /// Rises with every change of the inventory.
    pub version: i64,
}

/// An event's seats, and its seat map if `with_map` and it has one.
///
/// # Errors
/// [`Refusal::NotFound`], also for a draft of somebody else's.
pub async fn seats(
    app: &App,
    caller: Option<&Caller>,
    id: EventId,
    with_map: bool,
) -> Result<(Seats, Option<SeatMap>)> {
    let conn = app.db.get().await?;
    let now = booking_views::seats(&conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    if !sees(&conn, caller, now.organization_id, now.status).await? {
        return Err(Refusal::NotFound("event").into());
    }
    let map = if with_map { seat_map::find(&conn, id).await? } else { None };
    drop(conn);
    Ok((with_holds(app, id, now).await, map))
}

/// The same without asking who wants to know.
pub(super) async fn look(app: &App, id: EventId) -> Result<Seats> {
    let conn = app.db.get().await?;
    let now = booking_views::seats(&conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    drop(conn);
    Ok(with_holds(app, id, now).await)
}

async fn with_holds(app: &App, id: EventId, now: SeatsNow) -> Seats {
    let SeatsNow { total, available, version, numbered, taken, .. } = now;
    let mut held = Vec::new();
    if numbered {
        // Without Redis nobody holds anything: what is taken, PostgreSQL knows.
        held = holds::held(&app.redis, id, total).await.unwrap_or_default();
        held.retain(|seat| taken.binary_search(seat).is_err());
    }
    Seats { total, available, taken, held, version }
}
