//! The end of one sign-in. Whoever has its refresh token may end it.

use super::digest;
use crate::app::once::transaction;
use crate::app::{App, Result};
use crate::postgres::{account, refresh_token};

/// Ends the sign-in that the token belongs to; an unknown token belongs to one that is over.
pub async fn logout(app: &App, token: &str) -> Result<()> {
    let hash = digest(token);
    transaction(app, async |tx| {
        let Some(owner) = refresh_token::owner(tx, &hash).await? else { return Ok(()) };
        // As in the exchange: the person first, then their tokens.
        account::lock(tx, owner).await?;
        if let Some(issued) = refresh_token::lock(tx, &hash).await? {
            refresh_token::revoke_family(tx, issued.family_id, app.clock.now()).await?;
        }
        Ok(())
    })
    .await
}
