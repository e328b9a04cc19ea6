//! Shows in Redis what commits left. Behind the answers, so that nobody waits for it; in one round
//! trip for whatever queued up.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use super::{Actor, Next};
use crate::app::bookings::show::{self, Publication};
use crate::postgres::Db;
use crate::redis::Redis;
use crate::wake::Wakes;

/// Most publications in one round trip.
const BATCH_MAX: usize = 256;

/// Publishes counters and queues.
pub struct StockPublisher {
    /// What is to be published.
    pub queue: Arc<Mutex<mpsc::Receiver<Publication>>>,
    /// Where to.
    pub redis: Redis,
    /// Where snapshots come from, when publications in between were lost.
    pub db: Db,
    /// The reconciler's bell.
    pub wakes: Wakes,
}

impl Actor for StockPublisher {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let mut batch = Vec::new();
        let mut queue = self.queue.lock().await;
        while batch.len() < BATCH_MAX {
            let Ok(publication) = queue.try_recv() else { break };
            batch.push(publication);
        }
        drop(queue);
        if batch.is_empty() {
            return Ok(Next::Rest);
        }
        if !show::show(&self.db, &self.redis, &batch).await? {
            metrics::counter!("stock_publications_lost_total").increment(1);
            self.wakes.reconciler.ring();
        }
        Ok(Next::Again)
    }

    fn drains(&self) -> bool {
        true
    }
}
