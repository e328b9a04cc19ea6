//! Changes of who may do what in an organisation. One owner always stays.

use serde_json::json;

use super::require;
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::organization::{MemberRole, Membership};
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, audit, organization};

/// Gives a member another role; owners may.
///
/// # Errors
/// [`Refusal::NotFound`] if there is no such member, [`Refusal::LastOwner`] if nobody would own
/// the organisation, and those of every verb on organisations.
pub async fn change_role(
    app: &App,
    tx: &Conn,
    caller: &Caller,
    origin: &Origin,
    (id, user_id): (OrganizationId, UserId),
    role: MemberRole,
) -> Result<Membership> {
    organization::lock(tx, id).await?;
    require(tx, id, caller, MemberRole::Owner).await?;
    let member = organization::member(tx, id, user_id).await?;
    let member = member.ok_or(Refusal::NotFound("member"))?;
    if member.role == role {
        return Ok(member);
    }
    keep_an_owner(tx, id, &member).await?;
    organization::set_role(tx, id, user_id, role).await?;
    let detail = json!({ "user_id": user_id.0, "from": member.role.name(), "to": role.name() });
    let (subject, request) = (id.to_string(), origin.correlation_id.as_str());
    let (actor, action, now) = (Some(caller.user_id), "member.role_changed", app.clock.now());
    audit::append(tx, now, actor, action, &subject, Some(request), Some(&detail)).await?;
    Ok(Membership { role, ..member })
}

/// Removes a member; owners may remove anybody, and everybody may leave.
///
/// # Errors
/// As [`change_role`].
pub async fn remove(
    app: &App,
    tx: &Conn,
    caller: &Caller,
    origin: &Origin,
    (id, user_id): (OrganizationId, UserId),
) -> Result<()> {
    organization::lock(tx, id).await?;
    let least = if user_id == caller.user_id { MemberRole::Member } else { MemberRole::Owner };
    require(tx, id, caller, least).await?;
    let member = organization::member(tx, id, user_id).await?;
    let member = member.ok_or(Refusal::NotFound("member"))?;
    keep_an_owner(tx, id, &member).await?;
    organization::remove_member(tx, id, user_id).await?;
    let detail = json!({ "user_id": user_id.0, "role": member.role.name() });
    let (subject, request) = (id.to_string(), origin.correlation_id.as_str());
    let (actor, action, now) = (Some(caller.user_id), "member.removed", app.clock.now());
    audit::append(tx, now, actor, action, &subject, Some(request), Some(&detail)).await?;
    Ok(())
}

/// Refuses to lose that member as an owner if they are the only one. Under the lock.
async fn keep_an_owner(tx: &Conn, id: OrganizationId, member: &Membership) -> Result<()> {
    let owner = member.role == MemberRole::Owner;
    if owner && !organization::has_other_owner(tx, id, member.user_id).await? {
        return Err(Refusal::LastOwner.into());
    }
    Ok(())
}
