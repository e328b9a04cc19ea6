//! A person's alerts, and how far they have seen them.

use uuid::Uuid;

use crate::app::once::transaction;
use crate::app::{App, Page, Result};
use crate::domain::account::Caller;
use crate::domain::alert::ListedAlert;
use crate::domain::ids::AlertId;
use crate::domain::refusal::Refusal;
use crate::postgres::alert;
pub use crate::postgres::alert::Pointer;

/// A page of the caller's alerts, the newest first, and how far they have seen them.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    app: &App,
    caller: &Caller,
    after: Option<Uuid>,
    limit: i64,
) -> Result<(Page<ListedAlert>, Pointer)> {
    let conn = app.db.get().await?;
    let pointer = alert::pointer(&conn, caller.user_id).await?;
    let found = alert::list(&conn, caller.user_id, after, limit.saturating_add(1)).await?;
    Ok((Page::cut(found, limit, |one| one.alert.id.to_string()), pointer))
}

/// Notes that the caller has seen their alerts up to this one. The pointer never goes back.
///
/// # Errors
/// [`Refusal::NotFound`] if it is not theirs.
pub async fn see(app: &App, caller: &Caller, up_to: AlertId) -> Result<Pointer> {
    let seen = transaction(app, async |tx| {
        if !alert::is_owned(tx, caller.user_id, up_to).await? {
            return Err(Refusal::NotFound("alert").into());
        }
        alert::see(tx, caller.user_id, up_to, app.clock.now()).await?;
        Ok(alert::pointer(tx, caller.user_id).await?)
    });
    seen.await
}
