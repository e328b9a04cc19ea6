//! Organisations: who founds them, who belongs to them, who is asked to join.
//!
//! To somebody who does not belong to it an organisation does not exist (404); a member who may
//! not do something is told so (403). Instance admins see all and change nothing.

pub mod answer;
pub mod create;
pub mod invite;
pub mod members;
pub mod read;

use crate::app::Result;
use crate::domain::account::Caller;
use crate::domain::ids::OrganizationId;
use crate::domain::organization::MemberRole;
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, organization};

/// The caller's role in the organisation, if it is at least `least`.
///
/// # Errors
/// [`Refusal::NotFound`] for who does not belong to it, [`Refusal::Forbidden`] for a lower role.
pub(super) async fn require(
    conn: &Conn,
    id: OrganizationId,
    caller: &Caller,
    least: MemberRole,
) -> Result<MemberRole> {
    match organization::role_of(conn, id, caller.user_id).await? {
        Some(role) if role >= least => Ok(role),
        Some(_) => Err(lacks(least).into()),
        None if caller.is_admin() && organization::find(conn, id).await?.is_some() => {
            Err(lacks(least).into())
        }
        None => Err(Refusal::NotFound("organization").into()),
    }
}

fn lacks(least: MemberRole) -> Refusal {
    Refusal::Forbidden(match least {
        MemberRole::Owner => "needs the role owner in the organization",
        MemberRole::Organizer => "needs the role organizer in the organization",
        MemberRole::Member => "needs to belong to the organization",
    })
}
