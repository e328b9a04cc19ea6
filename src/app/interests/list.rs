//! Who is interested in what, as far as one may know it.

use jiff::Timestamp;
use uuid::Uuid;

use super::seen;
use crate::app::{App, Page, Result};
use crate::domain::account::Caller;
use crate::domain::ids::EventId;
use crate::domain::interest::{Interest, InterestCounts};
use crate::postgres::interest;
pub use crate::postgres::interest::{InterestBy, InterestIn, Place};

/// The caller's own interests, the last changed first.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn mine(
    app: &App,
    caller: &Caller,
    after: Option<Place>,
    limit: i64,
) -> Result<Page<InterestIn>> {
    let conn = app.db.get().await?;
    let found = interest::list_of(&conn, caller.user_id, after, limit.saturating_add(1)).await?;
    Ok(Page::cut(found, limit, |one| key(&one.interest, one.interest.event_id.0)))
}

/// How many are interested in an event, and those of them whom everybody may know, the last
/// changed first. Nobody else is named to anybody, not even to organisers.
///
/// # Errors
/// [`NotFound`](crate::domain::refusal::Refusal::NotFound), also for a draft of somebody else's.
pub async fn of_event(
    app: &App,
    caller: &Caller,
    id: EventId,
    after: Option<Place>,
    limit: i64,
) -> Result<(InterestCounts, Page<InterestBy>)> {
    let conn = app.db.get().await?;
    let event = seen(&conn, caller, id).await?;
    let found = interest::list_in(&conn, id, after, limit.saturating_add(1)).await?;
    let page = Page::cut(found, limit, |one| key(&one.interest, one.interest.user_id.0));
    Ok((event.interest, page))
}

/// The place of an interest as a key, and back.
fn key(interest: &Interest, id: Uuid) -> String {
    format!("{}.{id}", interest.changed_at.as_microsecond())
}

/// The place that a key stands for.
pub fn place(key: &str) -> Option<Place> {
    let (at, id) = key.split_once('.')?;
    Some((Timestamp::from_microsecond(at.parse().ok()?).ok()?, id.parse().ok()?))
}
