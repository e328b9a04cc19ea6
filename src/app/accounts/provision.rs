//! Accounts that the operator makes, not their owners: the demo's people and the first admin.

use serde_json::json;

use super::register::{NewUser, taken};
use crate::app::once::transaction;
use crate::app::{App, Result};
use crate::domain::account::{User, UserRole};
use crate::domain::ids::UserId;
use crate::postgres::{account, audit};

/// Makes sure that an account with that address and role exists. Name and password are those of
/// an account that existed before.
///
/// # Errors
/// [`Refusal::EmailTaken`](crate::domain::refusal::Refusal::EmailTaken) if somebody signed up
/// with the address at the same moment.
pub async fn ensure(app: &App, new: NewUser, role: UserRole) -> Result<User> {
    let now = app.clock.now();
    let NewUser { email, name, password } = new;
    let found = account::find_by_email(&*app.db.get().await?, &email).await?;
    let hash = match found {
        Some(_) => None,
        None => Some(app.passwords.hash(password).await?),
    };
    transaction(app, async |tx| {
        let user = match (found, hash) {
            (Some(found), _) => User { role, ..found.user },
            (None, hash) => {
                let (id, version) = (UserId(app.ids.uuid()), 1);
                let user = User { id, email, name, role: UserRole::User, created_at: now, version };
                account::insert(tx, &user, &hash.unwrap_or_default()).await.map_err(taken)?;
                User { role, ..user }
            }
        };
        if account::set_role(tx, user.id, role, now).await? {
            let (subject, detail) = (user.id.to_string(), json!({ "role": role.name() }));
            audit::append(tx, now, None, "account.role_changed", &subject, None, Some(&detail))
                .await?;
        }
        Ok(user)
    })
    .await
}
