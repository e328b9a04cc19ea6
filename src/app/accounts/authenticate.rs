//! Credential to caller.

use super::digest;
use crate::app::{App, Result};
use crate::domain::account::{API_KEY_PREFIX, Caller};
use crate::domain::refusal::Refusal;
use crate::postgres::api_key;

/// The length of the random part of a key: 32 bytes in base64url.
const SECRET_LEN: usize = 43;

/// Proves a bearer token: an access token, which needs no database, or an API key (`hk_…`).
///
/// # Errors
/// [`Refusal::Unauthenticated`] for anything that is not good now.
pub async fn bearer(app: &App, token: &str) -> Result<Caller> {
    if let Some(secret) = token.strip_prefix(API_KEY_PREFIX) {
        if secret.len() != SECRET_LEN {
            return Err(Refusal::Unauthenticated.into());
        }
        let conn = app.db.get().await?;
        let caller = api_key::prove(&conn, &digest(token), app.clock.now()).await?;
        return caller.ok_or_else(|| Refusal::Unauthenticated.into());
    }
    let proof = app.tokens.prove(token).filter(|proof| !app.revocations.is_void(proof));
    Ok(proof.ok_or(Refusal::Unauthenticated)?.into())
}
