//! Looks whether something is wrong that somebody has to be woken for. Any number of them, one a
//! process, agree on what it is.

use super::{Actor, Next};
use crate::app::Error;
use crate::app::alarms::watch::Lookout;

/// The watchman.
pub struct Watchman {
    lookout: Lookout,
    is_away: bool,
}

impl Watchman {
    /// Knows nothing yet.
    pub fn new(lookout: Lookout) -> Self {
        Self { lookout, is_away: false }
    }
}

impl Actor for Watchman {
    /// Without PostgreSQL it goes on: what it remembers is worth most during an outage.
    async fn step(&mut self) -> anyhow::Result<Next> {
        let was_away = self.is_away;
        self.is_away = match self.lookout.look().await {
            Ok(_) => false,
            Err(Error::Unavailable { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        if self.is_away && !was_away {
            tracing::warn!("alarms are logged and measured only, until PostgreSQL is back");
        }
        Ok(Next::Rest)
    }
}
