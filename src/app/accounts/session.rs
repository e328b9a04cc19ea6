//! What a sign-in gives: an access token for the next minutes and a refresh token for the next.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::digest;
use crate::app::{App, Result};
use crate::domain::account::User;
use crate::postgres::{Conn, refresh_token};

/// A sign-in, as it is told once. Not `Debug`: it holds secrets.
pub struct Session {
    /// Who signed in.
    pub user: User,
    /// A JWT.
    pub access_token: String,
    /// Opaque; good for one exchange.
    pub refresh_token: String,
    /// How long the access token is good for, in seconds.
    pub expires_in: u32,
}

/// Opens a new sign-in for a person whom the transaction has locked or made.
pub(super) async fn open(app: &App, tx: &Conn, user: User, now: Timestamp) -> Result<Session> {
    extend(app, tx, user, app.ids.uuid(), now).await
}

/// Issues the next tokens of a sign-in.
pub(super) async fn extend(
    app: &App,
    tx: &Conn,
    user: User,
    family_id: Uuid,
    now: Timestamp,
) -> Result<Session> {
    let secret = app.ids.secret();
    let lifetime = SignedDuration::from_hours(i64::from(app.config.auth.refresh_token_days) * 24);
    let until = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
    refresh_token::insert(tx, &digest(&secret), family_id, user.id, (now, until)).await?;
    Ok(Session {
        access_token: app.tokens.issue(user.id, user.role)?,
        refresh_token: secret,
        expires_in: app.tokens.lifetime_seconds(),
        user,
    })
}
