//! The end of an account: the person is forgotten, their bookings stay in the ledger.

use super::signed_in;
use crate::app::interests::leave::leave;
use crate::app::once::transaction;
use crate::app::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::organization::MemberRole;
use crate::domain::refusal::Refusal;
use crate::postgres::{account, api_key, audit, organization, refresh_token};

/// Anonymises the caller's account, revokes all its credentials and leaves its organisations.
///
/// # Errors
/// [`Refusal::LastOwner`] if an organisation would be left without one.
pub async fn delete(app: &App, caller: &Caller, origin: &Origin) -> Result<()> {
    signed_in(caller)?;
    let (id, now) = (caller.user_id, app.clock.now());
    transaction(app, async |tx| {
        account::lock(tx, id).await?.ok_or(Refusal::Unauthenticated)?;
        // Locked before the owners are counted: nobody else can leave meanwhile.
        for organization in organization::lock_all_of(tx, id).await? {
            let role = organization::role_of(tx, organization, id).await?;
            let owns = role == Some(MemberRole::Owner);
            if owns && !organization::has_other_owner(tx, organization, id).await? {
                return Err(Refusal::LastOwner.into());
            }
        }
        organization::remove_everywhere(tx, id).await?;
        leave(app, tx, id, origin).await?;
        refresh_token::revoke_all(tx, id, now).await?;
        api_key::revoke_all(tx, id, now).await?;
        account::anonymise(tx, id, now).await?;
        let (subject, request) = (id.to_string(), origin.correlation_id.as_str());
        audit::append(tx, now, Some(id), "account.deleted", &subject, Some(request), None).await?;
        Ok(())
    })
    .await?;
    app.wakes.bus_relay.ring();
    app.revocations.void(id, now);
    Ok(())
}
