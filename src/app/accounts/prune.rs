//! Housekeeping: sign-ins that nobody can continue any more.

use jiff::SignedDuration;

use crate::app::{App, Result};
use crate::postgres::refresh_token;

/// An expired token is remembered for another day, to tell reuse from nonsense.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Rows in one statement, and statements in one call: what is left waits for the next.
const CHUNK: i64 = 5_000;
const CHUNKS_MAX: u32 = 100;

/// Forgets refresh tokens that expired more than a day ago and says how many. To be called now
/// and then.
pub async fn prune(app: &App) -> Result<u64> {
    let now = app.clock.now();
    let before = now.checked_sub(KEPT).unwrap_or(now);
    let mut forgotten = 0;
    for _ in 0..CHUNKS_MAX {
        let some = refresh_token::prune(&*app.db.get().await?, before, CHUNK).await?;
        forgotten += some;
        if some < CHUNK.unsigned_abs() {
            break;
        }
    }
    Ok(forgotten)
}
