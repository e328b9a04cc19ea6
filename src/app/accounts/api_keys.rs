//! API keys: made once, shown once, revoked for good.

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::{digest, signed_in};
use crate::app::once::transaction;
use crate::app::{App, Origin, Page, Result};
use crate::domain::account::{API_KEY_PREFIX, ApiKey, Caller, Scope, UserRole};
use crate::domain::ids::ApiKeyId;
use crate::domain::refusal::Refusal;
use crate::postgres::{account, api_key, audit};

/// How many characters of a key are kept to tell it from others.
const SHOWN: usize = 10;

/// A key to make; each field is checked.
pub struct NewApiKey {
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// Until when; `None` is until revoked.
    pub expires_at: Option<Timestamp>,
}

/// Makes a key and answers it with its secret, which is not kept.
///
/// # Errors
/// [`Refusal::Forbidden`] for a caller who uses a key, or who would give the scope `admin`
/// without having the role.
pub async fn create(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    new: NewApiKey,
) -> Result<(ApiKey, String)> {
    signed_in(caller)?;
    if new.scopes.contains(&Scope::Admin) && caller.role != UserRole::Admin {
        return Err(Refusal::Forbidden("only admins can give the scope admin").into());
    }
    let secret = format!("{API_KEY_PREFIX}{}", app.ids.secret());
    let key = ApiKey {
        id: ApiKeyId(app.ids.uuid()),
        user_id: caller.user_id,
        name: new.name,
        prefix: secret.chars().take(SHOWN).collect(),
        scopes: new.scopes,
        created_at: app.clock.now(),
        expires_at: new.expires_at,
    };
    transaction(app, async |tx| {
        // Not for an account that is being deleted.
        account::lock(tx, caller.user_id).await?.ok_or(Refusal::Unauthenticated)?;
        api_key::insert(tx, &key, &digest(&secret)).await?;
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
        let detail = json!({ "name": key.name, "prefix": key.prefix, "scopes": scopes });
        let (id, request) = (key.id.to_string(), origin.correlation_id.as_str());
        let (actor, now) = (Some(caller.user_id), key.created_at);
        audit::append(tx, now, actor, "api_key.created", &id, Some(request), Some(&detail)).await?;
        Ok(())
    })
    .await?;
    Ok((key, secret))
}

/// The caller's keys that were not revoked, newest first.
pub async fn list(
    app: &App,
    caller: &Caller,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Page<ApiKey>> {
    let conn = app.db.get().await?;
    let keys = api_key::list(&conn, caller.user_id, after, limit.saturating_add(1)).await?;
    Ok(Page::cut(keys, limit, |key| key.id.to_string()))
}

/// Revokes a key of the caller's; one that is revoked already stays so.
///
/// # Errors
/// [`Refusal::NotFound`] if the caller never had that key.
pub async fn revoke(app: &App, caller: &Caller, origin: &Origin, id: ApiKeyId) -> Result<()> {
    let now = app.clock.now();
    transaction(app, async |tx| {
        if api_key::revoke(tx, id, caller.user_id, now).await? {
            let (subject, request) = (id.to_string(), origin.correlation_id.as_str());
            let (actor, action) = (Some(caller.user_id), "api_key.revoked");
            audit::append(tx, now, actor, action, &subject, Some(request), None).await?;
        } else if !api_key::exists(tx, id, caller.user_id).await? {
            return Err(Refusal::NotFound("API key").into());
        }
        Ok(())
    })
    .await
}
