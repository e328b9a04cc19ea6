//! Which seats of an event can be had.

use super::sees;
use crate::app::{App, Result};
use crate::domain::account::Caller;
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::domain::seat_map::SeatMap;
use crate::postgres::booking_views::{self, SeatsNow};
use crate::postgres::seat_map;
use crate::redis::stock::{self, View};

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
    /// Of the last delta that is contained; rises with every change of the seats or of what is
    /// held. While Redis is away the inventory's own, much lower number.
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
    // First what is shown, then what is true: later deltas repeat what is contained already.
    let view = view(app, id).await;
    let conn = app.db.get().await?;
    let now = booking_views::seats(&conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    if !sees(&conn, caller, now.organization_id, now.status).await? {
        return Err(Refusal::NotFound("event").into());
    }
    let map = if with_map { seat_map::find(&conn, id).await? } else { None };
    drop(conn);
    Ok((with_holds(now, view), map))
}

/// The same as everybody who watches sees it, without asking who wants to know: all of it of one
/// version, from Redis alone while that can be believed.
///
/// # Errors
/// [`Refusal::NotFound`]; when PostgreSQL has to be asked and is away.
pub async fn look(app: &App, id: EventId) -> Result<Seats> {
    if let Some(View { version, total, available, taken, held, .. }) = view(app, id).await {
        return Ok(Seats { total, available, taken, held, version });
    }
    let conn = app.db.get().await?;
    let now = booking_views::seats(&conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    Ok(with_holds(now, None))
}

/// What Redis shows; nothing while it cannot be believed.
async fn view(app: &App, id: EventId) -> Option<View> {
    stock::view(&app.redis.link, id).await.ok().flatten()
}

fn with_holds(now: SeatsNow, view: Option<View>) -> Seats {
    let SeatsNow { total, available, version, taken, .. } = now;
    // Without Redis nobody holds anything: what is taken, PostgreSQL knows.
    let Some(view) = view else {
        return Seats { total, available, taken, held: Vec::new(), version };
    };
    let mut held = view.held;
    held.retain(|seat| taken.binary_search(seat).is_err());
    let kept = u32::try_from(held.len()).unwrap_or(u32::MAX);
    Seats { total, available: available.saturating_sub(kept), taken, held, version: view.version }
}
