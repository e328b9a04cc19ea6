//! Does one small chore at every tick: for upkeep that needs no state between two times.

use super::{Actor, Next};

/// A chore, as an actor.
pub struct Housekeeper<F>(pub F);

impl<F, Fut> Actor for Housekeeper<F>
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    async fn step(&mut self) -> anyhow::Result<Next> {
        (self.0)().await?;
        Ok(Next::Rest)
    }
}
