//! A new event, as a draft.

use serde_json::json;

use crate::app::organizations;
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::event::Event;
use crate::domain::event_draft::EventDraft;
use crate::domain::ids::{EventId, OrganizationId};
use crate::domain::organization::MemberRole;
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, audit, event, organization, seat_map};

/// Writes a new event, which its organisers see until it is published.
///
/// # Errors
/// [`Refusal::Invalid`] when what was said does not fit together; [`Refusal::NotFound`] for who
/// does not belong to the organisation, [`Refusal::Forbidden`] for who does not run events in it.
pub async fn create(
    app: &App,
    tx: &Conn,
    caller: &Caller,
    origin: &Origin,
    organization_id: OrganizationId,
    draft: EventDraft,
) -> Result<Event> {
    if caller.is_admin() {
        let found = organization::find(tx, organization_id).await?;
        found.ok_or(Refusal::NotFound("organization"))?;
    } else {
        organizations::require(tx, organization_id, caller, MemberRole::Organizer).await?;
    }
    let (id, now) = (EventId(app.ids.uuid()), app.clock.now());
    let (made, map) = draft.into_event(id, organization_id, now)?;
    event::insert(tx, &made).await?;
    if map.is_some() {
        seat_map::set(tx, id, map.as_ref()).await?;
    }
    let (subject, request) = (id.to_string(), origin.correlation_id.as_str());
    let detail = json!({ "organization_id": organization_id.0, "title": made.description.title });
    let (actor, action) = (Some(caller.user_id), "event.created");
    audit::append(tx, now, actor, action, &subject, Some(request), Some(&detail)).await?;
    Ok(made)
}
