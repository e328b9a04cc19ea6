//! Shows in Redis what commits left, in one round trip for whatever queued up. Nobody who got seats
//! waits for it; whoever gave some back is answered once they can be had again.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use super::{Actor, Next};
use crate::app::bookings::show::{self, Held, Notice};
use crate::postgres::Db;
use crate::redis::Redis;
use crate::wake::Wakes;

/// Most publications in one round trip.
const BATCH_MAX: usize = 256;

/// Publishes counters and queues.
pub struct StockPublisher {
    /// What is to be published.
    pub queue: Arc<Mutex<mpsc::Receiver<Notice>>>,
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
        let (mut held, mut decided) = (Vec::new(), Vec::new());
        let mut queue = self.queue.lock().await;
        while batch.len() + decided.len() < BATCH_MAX {
            match queue.try_recv() {
                Ok(Notice::Commit(publication)) => batch.push(publication),
                Ok(Notice::Decided(event, leases)) => decided.push((event, leases)),
                Ok(Notice::Answers(mut answers)) => held.append(&mut answers),
                Err(_) => break,
            }
        }
        drop(queue);
        if batch.is_empty() && held.is_empty() && decided.is_empty() {
            return Ok(Next::Rest);
        }
        let shown = show::show(&self.db, &self.redis, &batch).await;
        // Shown or not: the commit stands, and Redis being away is nobody's affair but ours.
        held.into_iter().for_each(Held::give);
        if !decided.is_empty() {
            show::show_decided(&self.db, &self.redis, decided).await?;
        }
        if !shown? {
            metrics::counter!("stock_publications_lost_total").increment(1);
            self.wakes.reconciler.ring();
        }
        Ok(Next::Again)
    }

    fn drains(&self) -> bool {
        true
    }
}
