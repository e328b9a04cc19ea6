//! Housekeeping: sign-ins that nobody can continue any more.

use jiff::SignedDuration;

use crate::app::{App, Result};
use crate::postgres::refresh_token;

/// An expired token is remembered for another day, to tell reuse from nonsense.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Forgets refresh tokens that expired more than a day ago and says how many. To be called now
/// and then.
pub async fn prune(app: &App) -> Result<u64> {
    let now = app.clock.now();
    let conn = app.db.get().await?;
    Ok(refresh_token::prune(&conn, now.checked_sub(KEPT).unwrap_or(now)).await?)
}
