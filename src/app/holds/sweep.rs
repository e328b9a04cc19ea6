//! Holds end when their time is over, whether or not anybody comes by.

use crate::app::{App, Result};
use crate::redis::holds;

/// Ends what is over in some events; true if more may wait to be looked at. While Redis is away
/// nothing is held.
///
/// # Errors
/// None that would have to be mended here.
pub async fn step(app: &App) -> Result<bool> {
    Ok(holds::sweep(&app.redis.link).await.is_ok_and(|looked| looked >= holds::SWEEP_MAX))
}
