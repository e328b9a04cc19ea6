//! Events: what people attend, from draft to the end.
//!
//! A draft exists for its organisers only (404 for everybody else). Organisers and owners of the
//! organisation, and instance admins, run its events.

pub mod board;
pub mod cancel;
pub mod cascade;
pub mod change;
pub mod complete;
pub mod create;
pub mod get;
pub mod list;
pub mod publish;
pub mod seats;

use crate::app::{App, Error, Result};
use crate::domain::account::Caller;
use crate::domain::event::{Event, EventStatus};
use crate::domain::ids::{EventId, OrganizationId};
use crate::domain::organization::MemberRole;
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, event, organization};

use crate::app::bookings::desk::Outcome;
use crate::app::once::Answer;

/// Whether the caller may run the organisation's events.
pub(super) async fn runs(conn: &Conn, caller: &Caller, id: OrganizationId) -> Result<bool> {
    if caller.is_admin() {
        return Ok(true);
    }
    let role = organization::role_of(conn, id, caller.user_id).await?;
    Ok(role.is_some_and(|role| role >= MemberRole::Organizer))
}

/// Whether the caller, if anybody, may know of an event of that organisation and status.
pub(super) async fn sees(
    conn: &Conn,
    caller: Option<&Caller>,
    id: OrganizationId,
    status: EventStatus,
) -> Result<bool> {
    if status != EventStatus::Draft {
        return Ok(true);
    }
    match caller {
        Some(caller) => runs(conn, caller, id).await,
        None => Ok(false),
    }
}

/// The event, if the caller may run it.
///
/// # Errors
/// [`Refusal::NotFound`] if they may not even know of it, else [`Refusal::Forbidden`].
pub(super) async fn require(app: &App, caller: &Caller, id: EventId) -> Result<Event> {
    let conn = app.db.get().await?;
    let found = event::find(&conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    if runs(&conn, caller, found.organization_id).await? {
        Ok(found)
    } else if found.rules.status == EventStatus::Draft {
        Err(Refusal::NotFound("event").into())
    } else {
        Err(Refusal::Forbidden("needs the role organizer in the event's organization").into())
    }
}

/// What the desk answered to a command about an event.
fn event_of(answer: Answer<Outcome>) -> Result<Answer<Event>> {
    match answer {
        Answer::Fresh(Outcome::Event(event)) => Ok(Answer::Fresh(*event)),
        Answer::Replayed(reply) => Ok(Answer::Replayed(reply)),
        Answer::Fresh(other) => {
            Err(Error::Fault(anyhow::anyhow!("the desk answered {other:?} about an event")))
        }
    }
}
