//! Sign-up.

use super::{Session, not_well_known, session};
use crate::app::once::transaction;
use crate::app::{App, Error, Result};
use crate::domain::account::{User, UserRole};
use crate::domain::ids::UserId;
use crate::domain::refusal::Refusal;
use crate::postgres::{DbError, account};

/// A person who wants an account; each field is checked.
pub struct NewUser {
    /// Lower case.
    pub email: String,
    /// As they want to be called.
    pub name: String,
    /// In the clear; hashed before anything is written.
    pub password: String,
}

/// Makes an account and signs its owner in.
///
/// # Errors
/// [`Refusal::EmailTaken`].
pub async fn register(app: &App, new: NewUser) -> Result<Session> {
    not_well_known(app, &new.password)?;
    let hash = app.passwords.hash(new.password).await?;
    let now = app.clock.now();
    let user = User {
        id: UserId(app.ids.uuid()),
        email: new.email,
        name: new.name,
        role: UserRole::User,
        created_at: now,
        version: 1,
    };
    transaction(app, async |tx| {
        account::insert(tx, &user, &hash).await.map_err(taken)?;
        session::open(app, tx, user, now).await
    })
    .await
}

/// Another account's e-mail address is a refusal, not a fault.
pub(super) fn taken(error: DbError) -> Error {
    match error.violated() {
        Some(account::EMAIL_UNIQUE) => Refusal::EmailTaken.into(),
        _ => error.into(),
    }
}
