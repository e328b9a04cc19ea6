//! Ends holds whose time is over and so tells whoever watches, without any traffic. It takes no
//! input: each step looks at the next events in which seats are held.

use super::{Actor, Next};
use crate::app::App;
use crate::app::holds::sweep;

/// Sweeps.
pub struct HoldSweeper {
    /// The handles.
    pub app: App,
}

impl Actor for HoldSweeper {
    async fn step(&mut self) -> anyhow::Result<Next> {
        Ok(if sweep::step(&self.app).await? { Next::Again } else { Next::Rest })
    }
}
