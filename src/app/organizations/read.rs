//! What members, and instance admins, see of organisations.

use uuid::Uuid;

use super::require;
use crate::app::{App, Page, Result};
use crate::domain::account::Caller;
use crate::domain::ids::OrganizationId;
use crate::domain::organization::{MemberRole, Membership, Organization};
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, organization};

/// An organisation and the caller's role in it; `None` for an admin who does not belong to it.
pub type Seen = (Organization, Option<MemberRole>);

/// The caller's organisations, oldest first.
pub async fn list(
    app: &App,
    caller: &Caller,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Page<Seen>> {
    let conn = app.db.get().await?;
    let limit_and_one = limit.saturating_add(1);
    let rows = organization::list_of(&conn, caller.user_id, after, limit_and_one).await?;
    let seen = rows.into_iter().map(|(one, role)| (one, Some(role))).collect();
    Ok(Page::cut(seen, limit, |(one, _): &Seen| one.id.to_string()))
}

/// One organisation.
///
/// # Errors
/// [`Refusal::NotFound`] for who does not belong to it.
pub async fn get(app: &App, caller: &Caller, id: OrganizationId) -> Result<Seen> {
    let conn = app.db.get().await?;
    let role = see(&conn, caller, id).await?;
    let found = organization::find(&conn, id).await?;
    Ok((found.ok_or(Refusal::NotFound("organization"))?, role))
}

/// Who belongs to the organisation.
///
/// # Errors
/// [`Refusal::NotFound`] for who does not belong to it.
pub async fn members(
    app: &App,
    caller: &Caller,
    id: OrganizationId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Page<Membership>> {
    let conn = app.db.get().await?;
    if see(&conn, caller, id).await?.is_none() && organization::find(&conn, id).await?.is_none() {
        return Err(Refusal::NotFound("organization").into());
    }
    let rows = organization::members(&conn, id, after, limit.saturating_add(1)).await?;
    Ok(Page::cut(rows, limit, |member| member.user_id.to_string()))
}

async fn see(conn: &Conn, caller: &Caller, id: OrganizationId) -> Result<Option<MemberRole>> {
    if caller.is_admin() {
        return Ok(organization::role_of(conn, id, caller.user_id).await?);
    }
    require(conn, id, caller, MemberRole::Member).await.map(Some)
}
