//! Cancels the bookings of cancelled events, chunk by chunk. It takes no input: whatever event is
//! cancelled and not done is its work, so it goes on after any crash.

use super::{Actor, Next};
use crate::app::App;
use crate::app::events::cascade;

/// Works through cancelled events.
pub struct EventCascade {
    /// The handles.
    pub app: App,
}

impl Actor for EventCascade {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let more = cascade::step(&self.app).await?;
        Ok(if more { Next::Again } else { Next::Rest })
    }
}
