//! Finds queues that could be served and are not: what a lost trigger left. Every other trigger
//! promotes in the transaction that freed the seats, so it finds nothing on a good day.

use uuid::Uuid;

use super::{Actor, Next};
use crate::app::App;
use crate::app::bookings::sweep;
use crate::domain::ids::EventId;

/// Sweeps the queues of published events.
pub struct WaitlistSweeper {
    app: App,
    after: EventId,
}

impl WaitlistSweeper {
    /// A sweeper that starts with the oldest event.
    pub fn new(app: App) -> Self {
        Self { app, after: EventId(Uuid::nil()) }
    }
}

impl Actor for WaitlistSweeper {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let last = sweep::step(&self.app, self.after).await?;
        self.after = last.unwrap_or(EventId(Uuid::nil()));
        Ok(if last.is_some() { Next::Again } else { Next::Rest })
    }
}
