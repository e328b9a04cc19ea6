//! The end of an account is the end of its interests and follows. Its ratings stay, as nobody's.

use super::{News, tell};
use crate::app::{App, Origin, Result};
use crate::domain::ids::UserId;
use crate::postgres::{Conn, follow, interest};

/// Withdraws all of somebody's interests and follows, in the transaction that closes the account.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn leave(app: &App, tx: &Conn, user: UserId, origin: &Origin) -> Result<()> {
    let now = app.clock.now();
    let mut news = Vec::new();
    for before in interest::lock_all_of(tx, user).await? {
        if let Some(after) = before.change(None, None, now) {
            interest::save(tx, &after).await?;
            news.push(News::interest(&after, before.state));
        }
    }
    for before in follow::lock_all_of(tx, user).await? {
        if let Some(after) = before.change(false, now) {
            follow::save(tx, &after).await?;
            news.push(News::follow(&after));
        }
    }
    tell(app, tx, origin, news).await
}
