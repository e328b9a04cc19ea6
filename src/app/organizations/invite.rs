//! Asking somebody to join an organisation (S4.62), and telling them (S4.35).

use jiff::SignedDuration;
use serde_json::json;

use super::require;
use crate::app::{App, Error, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::fact::{Fact, FactKind};
use crate::domain::ids::{InvitationId, MessageId, OrganizationId};
use crate::domain::organization::{Invitation, InvitationStatus, MemberRole};
use crate::domain::refusal::Refusal;
use crate::postgres::outbox::{self, NewMessage};
use crate::postgres::{Conn, account, audit, invitation, organization};

/// Invites the owner of an e-mail address. Organisers may invite to what they are; owners may
/// invite other owners.
///
/// # Errors
/// [`Refusal::AlreadyMember`], [`Refusal::AlreadyInvited`], and those of every verb on
/// organisations.
pub async fn invite(
    app: &App,
    tx: &Conn,
    caller: &Caller,
    origin: &Origin,
    id: OrganizationId,
    (email, role): (String, MemberRole),
) -> Result<Invitation> {
    require(tx, id, caller, role.max(MemberRole::Organizer)).await?;
    let invited = account::find_by_email(tx, &email).await?.map(|account| account.user.id);
    if let Some(invited) = invited
        && organization::role_of(tx, id, invited).await?.is_some()
    {
        return Err(Refusal::AlreadyMember.into());
    }
    let now = app.clock.now();
    let open = SignedDuration::from_hours(i64::from(app.config.auth.invitation_days) * 24);
    let made = Invitation {
        id: InvitationId(app.ids.uuid()),
        organization_id: id,
        email,
        role,
        status: InvitationStatus::Pending,
        created_at: now,
        expires_at: now.checked_add(open).map_err(anyhow::Error::from)?,
    };
    invitation::remove_expired(tx, id, &made.email, now).await?;
    invitation::insert(tx, &made, caller.user_id).await.map_err(|error| {
        match error.violated() {
            Some(invitation::ONE_OPEN) => Error::from(Refusal::AlreadyInvited),
            _ => error.into(),
        }
    })?;
    let message = NewMessage {
        id: MessageId(app.ids.uuid()),
        fact: Fact {
            kind: FactKind::InvitationReceived,
            aggregate_id: made.id.0,
            event_id: None,
            user_id: invited,
            seats: None,
            seat_numbers: Vec::new(),
            booking_id: None,
            invitation: Some((made.id, id)),
            alert: None,
            alarms: Vec::new(),
        },
        correlation_id: origin.correlation_id.clone(),
        traceparent: origin.traceparent.clone(),
        created_at: now,
    };
    outbox::append(tx, &[message]).await?;
    let detail = json!({ "invitation_id": made.id.0, "role": role.name() });
    let (subject, request) = (id.to_string(), origin.correlation_id.as_str());
    let (actor, action) = (Some(caller.user_id), "member.invited");
    audit::append(tx, now, actor, action, &subject, Some(request), Some(&detail)).await?;
    Ok(made)
}
