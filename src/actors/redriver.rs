//! Goes on with the jobs that send many dead letters again, as fast as each of them may.

use super::{Actor, Next};
use crate::app::messages::dead_letters::DeadLetters;

/// The redriver. Any number may work at once: each job is taken by one of them.
pub struct Redriver {
    /// The letters.
    pub letters: DeadLetters,
}

impl Actor for Redriver {
    async fn step(&mut self) -> anyhow::Result<Next> {
        self.letters.step_all().await?;
        // The rate says when there is more to do: the tick asks it.
        Ok(Next::Rest)
    }
}
