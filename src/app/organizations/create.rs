//! The founding of an organisation.

use serde_json::json;

use crate::app::{App, Error, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::ids::OrganizationId;
use crate::domain::organization::{MemberRole, Organization, slug_from};
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, account, audit, organization};

/// How many random characters tell apart organisations of one name.
const SUFFIX: usize = 8;

/// An organisation to found; each field is checked.
pub struct NewOrganization {
    /// What it is called.
    pub name: String,
    /// Its name in addresses; `None`: one is made of the name.
    pub slug: Option<String>,
}

/// Founds an organisation, whose owner the caller becomes.
///
/// # Errors
/// [`Refusal::SlugTaken`].
pub async fn create(
    app: &App,
    tx: &Conn,
    caller: &Caller,
    origin: &Origin,
    new: NewOrganization,
) -> Result<Organization> {
    // Not for an account that is being deleted: the organisation would have no owner.
    account::lock(tx, caller.user_id).await?.ok_or(Refusal::Unauthenticated)?;
    let now = app.clock.now();
    let suffix: String = format!("{:016x}", app.ids.span_id()).chars().take(SUFFIX).collect();
    let made = Organization {
        id: OrganizationId(app.ids.uuid()),
        slug: new.slug.unwrap_or_else(|| slug_from(&new.name, &suffix)),
        name: new.name,
        created_at: now,
        version: 1,
    };
    organization::insert(tx, &made, caller.user_id).await.map_err(|error| {
        match error.violated() {
            Some(organization::SLUG_UNIQUE) => Error::from(Refusal::SlugTaken),
            _ => error.into(),
        }
    })?;
    organization::add_member(tx, made.id, caller.user_id, MemberRole::Owner, now).await?;
    let (subject, request) = (made.id.to_string(), origin.correlation_id.as_str());
    let (actor, detail) = (Some(caller.user_id), json!({ "name": made.name, "slug": made.slug }));
    let action = "organization.created";
    audit::append(tx, now, actor, action, &subject, Some(request), Some(&detail)).await?;
    Ok(made)
}
