//! What people do with invitations to them: see, accept, decline.

use serde_json::json;
use uuid::Uuid;

use crate::app::{App, Origin, Page, Result};
use crate::domain::account::Caller;
use crate::domain::ids::InvitationId;
use crate::domain::organization::{Invitation, InvitationStatus};
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, account, audit, invitation, organization};

/// The invitations of the caller's e-mail address, newest first.
pub async fn list(
    app: &App,
    caller: &Caller,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Page<Invitation>> {
    let (conn, now) = (app.db.get().await?, app.clock.now());
    let limit_and_one = limit.saturating_add(1);
    let rows = invitation::list_for(&conn, caller.user_id, after, limit_and_one, now).await?;
    Ok(Page::cut(rows, limit, |one| one.id.to_string()))
}

/// An answer that an invited person can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Joins, with the role they were invited to.
    Accept,
    /// Does not.
    Decline,
}

impl Choice {
    fn status(self) -> InvitationStatus {
        match self {
            Self::Accept => InvitationStatus::Accepted,
            Self::Decline => InvitationStatus::Declined,
        }
    }
}

/// Answers an invitation; the same answer again changes nothing and is answered alike.
///
/// # Errors
/// [`Refusal::NotFound`] if it is not the caller's, [`Refusal::InvitationClosed`] if it expired
/// or was answered otherwise.
pub async fn answer(
    app: &App,
    tx: &Conn,
    caller: &Caller,
    origin: &Origin,
    id: InvitationId,
    choice: Choice,
) -> Result<Invitation> {
    let now = app.clock.now();
    // Locked, so that an account that is being deleted does not join anything.
    let account = account::lock(tx, caller.user_id).await?.ok_or(Refusal::Unauthenticated)?;
    let found = invitation::lock_for(tx, id, &account.user.email, now).await?;
    let found = found.ok_or(Refusal::NotFound("invitation"))?;
    let status = choice.status();
    if found.status == status {
        return Ok(found);
    }
    if found.status != InvitationStatus::Pending {
        return Err(Refusal::InvitationClosed.into());
    }
    invitation::answer(tx, id, status, now).await?;
    if choice == Choice::Accept {
        // Whoever came in by another way meanwhile keeps the role they have.
        let (organization, role) = (found.organization_id, found.role);
        let joined = organization::add_member(tx, organization, caller.user_id, role, now).await?;
        if joined {
            let detail = json!({ "invitation_id": id.0, "role": role.name() });
            let (subject, request) = (organization.to_string(), origin.correlation_id.as_str());
            let (actor, action) = (Some(caller.user_id), "member.joined");
            audit::append(tx, now, actor, action, &subject, Some(request), Some(&detail)).await?;
        }
    }
    Ok(Invitation { status, ..found })
}
