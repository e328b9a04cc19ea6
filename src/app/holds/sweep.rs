//! Holds end when their time is over, whether or not anybody comes by.

use crate::app::{App, Result};
use crate::redis::holds;

/// Ends what is over in some events, and has those served who waited for the seats; true if more
/// may wait to be looked at. While Redis is away nothing is held.
///
/// # Errors
/// None that would have to be mended here.
pub async fn step(app: &App) -> Result<bool> {
    let swept = holds::sweep(&app.redis.link).await.unwrap_or_default();
    for event in swept.unserved {
        // Nobody waits for the answer; if the desk is busy, the waitlist's sweeper comes by.
        app.desk.serve(event);
    }
    Ok(swept.looked >= holds::SWEEP_MAX)
}
