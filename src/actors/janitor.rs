//! Keeps the tables from growing for ever.

use std::sync::Arc;

use super::{Actor, Next};
use crate::app::forget;
use crate::clock::Clock;
use crate::config::Config;
use crate::postgres::Db;

/// The janitor. Any number may work at once.
pub struct Janitor {
    db: Db,
    clock: Clock,
    config: Arc<Config>,
}

impl Janitor {
    /// A janitor of this database.
    pub fn new(db: Db, clock: Clock, config: Arc<Config>) -> Self {
        Self { db, clock, config }
    }
}

impl Actor for Janitor {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let more = forget::some(&self.db, &self.clock, &self.config).await?;
        Ok(if more { Next::Again } else { Next::Rest })
    }
}
