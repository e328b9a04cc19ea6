//! What an operator asks of the process itself: whether PostgreSQL answers, and what is owed.

use super::{App, Result};
use crate::postgres::vitals as statements;
pub use crate::postgres::vitals::Backlog;

/// PostgreSQL answers.
///
/// # Errors
/// When it does not.
pub async fn ping(app: &App) -> Result<()> {
    Ok(statements::ping(&*app.db.get().await?).await?)
}

/// Messages that failed and wait for a retry or a decision (S2.65).
///
/// # Errors
/// When PostgreSQL is away.
pub async fn failed_messages(app: &App) -> Result<i64> {
    Ok(backlog(app).await?.failed)
}

/// What is owed.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn backlog(app: &App) -> Result<Backlog> {
    Ok(statements::backlog(&*app.db.get().await?, app.clock.now()).await?)
}
