//! The exchange of a refresh token for the next tokens. Each token is good for one exchange: if
//! one comes twice, somebody has a copy, and the whole sign-in ends.

use jiff::Timestamp;

use super::{Session, digest, session};
use crate::app::once::transaction;
use crate::app::{App, Result};
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, account, refresh_token};

/// Exchanges the token.
///
/// # Errors
/// [`Refusal::BadRefreshToken`], also for a token that was used before, whose family is then
/// revoked.
pub async fn refresh(app: &App, token: &str) -> Result<Session> {
    // `None` is committed like a session: the refusal comes after, so what was revoked stays so.
    let session = transaction(app, async |tx| rotate(app, tx, &digest(token)).await).await?;
    session.ok_or_else(|| Refusal::BadRefreshToken.into())
}

async fn rotate(app: &App, tx: &Conn, hash: &[u8; 32]) -> Result<Option<Session>> {
    let Some(owner) = refresh_token::owner(tx, hash).await? else { return Ok(None) };
    // The person first, then their tokens: two exchanges within one sign-in take turns.
    let Some(account) = account::lock(tx, owner).await? else { return Ok(None) };
    let Some(issued) = refresh_token::lock(tx, hash).await? else { return Ok(None) };
    let now: Timestamp = app.clock.now();
    if issued.revoked {
        return Ok(None);
    }
    if issued.used {
        refresh_token::revoke_family(tx, issued.family_id, now).await?;
        metrics::counter!("refresh_token_reuse_total").increment(1);
        tracing::warn!(user_id = %owner, "a refresh token was used twice: its sign-in is ended");
        return Ok(None);
    }
    if issued.expires_at <= now {
        return Ok(None);
    }
    refresh_token::mark_used(tx, hash, now).await?;
    session::extend(app, tx, account.user, issued.family_id, now).await.map(Some)
}
