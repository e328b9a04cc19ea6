//! Changes of one's own profile. What a sign-in rests on, address and password, is changed only
//! by somebody who proves the current password.

use serde_json::json;

use super::register::taken;
use super::{not_well_known, signed_in};
use crate::app::once::transaction;
use crate::app::{App, Origin, Result};
use crate::domain::account::{Caller, User};
use crate::domain::refusal::Refusal;
use crate::postgres::account::{self, Account};
use crate::postgres::{audit, refresh_token};

/// What to change; each field is checked, and `None` leaves it as it is.
#[derive(Default)]
pub struct Change {
    /// As they want to be called.
    pub name: Option<String>,
    /// Lower case.
    pub email: Option<String>,
    /// The new one, in the clear.
    pub password: Option<String>,
    /// The old one, in the clear.
    pub current_password: Option<String>,
}

/// Changes the caller's profile; a new password ends all other sign-ins.
///
/// # Errors
/// [`Refusal::VersionMismatch`] if `expected` is not the version; `/current_password` is invalid
/// if it is missing or wrong; [`Refusal::EmailTaken`].
pub async fn change(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    change: Change,
    expected: Option<i64>,
) -> Result<User> {
    let found = account::credentials(&*app.db.get().await?, caller.user_id).await?;
    let found = found.ok_or(Refusal::Unauthenticated)?;
    let moves = change.email.as_ref().is_some_and(|email| *email != found.user.email);
    let hash = if moves || change.password.is_some() {
        signed_in(caller)?;
        prove(app, change.current_password, &found).await?;
        match change.password {
            Some(password) => {
                not_well_known(app, &password)?;
                Some(app.passwords.hash(password).await?)
            }
            None => None,
        }
    } else {
        None
    };
    let now = app.clock.now();
    transaction(app, async |tx| {
        let locked = account::lock(tx, caller.user_id).await?.ok_or(Refusal::Unauthenticated)?;
        if expected.is_some_and(|version| version != locked.user.version) {
            return Err(Refusal::VersionMismatch.into());
        }
        if (moves || hash.is_some()) && locked.password_hash != found.password_hash {
            return Err(wrong_password().into());
        }
        let mut changed = locked.clone();
        changed.user.name = change.name.unwrap_or(changed.user.name);
        changed.user.email = change.email.unwrap_or(changed.user.email);
        changed.password_hash = hash.unwrap_or(changed.password_hash);
        let new_email = changed.user.email != locked.user.email;
        let new_password = changed.password_hash != locked.password_hash;
        if !new_email && !new_password && changed.user.name == locked.user.name {
            return Ok(locked.user);
        }
        let user = account::update(tx, &changed, now).await.map_err(taken)?;
        if new_password {
            refresh_token::revoke_all(tx, user.id, now).await?;
        }
        if new_email || new_password {
            let detail = json!({ "email": new_email, "password": new_password });
            let (id, request) = (user.id.to_string(), origin.correlation_id.as_str());
            let action = "account.credentials_changed";
            audit::append(tx, now, Some(user.id), action, &id, Some(request), Some(&detail))
                .await?;
        }
        Ok(user)
    })
    .await
}

async fn prove(app: &App, current: Option<String>, account: &Account) -> Result<()> {
    let Some(current) = current else {
        let detail = "is needed to change the e-mail address or the password";
        return Err(Refusal::invalid("/current_password", "required", detail).into());
    };
    let right = app.passwords.verify(current, Some(account.password_hash.clone())).await?;
    if right { Ok(()) } else { Err(wrong_password().into()) }
}

fn wrong_password() -> Refusal {
    Refusal::invalid("/current_password", "wrong_password", "is not the current password")
}
