//! One's own profile.

use crate::app::{App, Result};
use crate::domain::account::{Caller, User};
use crate::domain::refusal::Refusal;
use crate::postgres::account;

/// The caller's profile.
///
/// # Errors
/// [`Refusal::Unauthenticated`] if the account is gone.
pub async fn read(app: &App, caller: &Caller) -> Result<User> {
    let found = account::find(&*app.db.get().await?, caller.user_id).await?;
    found.ok_or_else(|| Refusal::Unauthenticated.into())
}
