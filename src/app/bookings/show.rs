//! Shows in Redis what commits left of events, and gives the answers that must not come before.

use tokio::sync::oneshot;

use super::desk::Outcome;
use crate::app::Result;
use crate::app::integrity::{epoch, rebuild};
use crate::app::once::Answer;
use crate::domain::ids::EventId;
use crate::postgres::Db;
use crate::redis::Redis;
use crate::redis::stock;
pub use crate::redis::stock::{Lease, Publication};

/// What a lane hands over after a commit, in this order.
#[derive(Debug)]
pub enum Notice {
    /// To be shown.
    Commit(Publication),
    /// An event to be read anew, because what became of a commit was unknown and is decided now;
    /// and the leases of the requests in it, to be settled once it is shown.
    Decided(EventId, Vec<Lease>),
    /// To be given once that is shown.
    Answers(Vec<Held>),
}

/// An answer that waits until what it rests on is shown: whoever is told that seats were given
/// back must not be turned away by counters that do not know it.
#[derive(Debug)]
pub struct Held {
    /// Where it goes.
    pub to: oneshot::Sender<Result<Answer<Outcome>>>,
    /// What it says.
    pub answer: Result<Answer<Outcome>>,
}

impl Held {
    /// Gives it.
    pub fn give(self) {
        // Nobody may be waiting for the answer any more.
        self.to.send(self.answer).ok();
    }
}

/// Shows events as PostgreSQL knows them, and settles leases that had to wait for that.
///
/// # Errors
/// When PostgreSQL is away: then the leases live until their deadlines.
pub async fn show_decided(
    db: &Db,
    redis: &Redis,
    decided: Vec<(EventId, Vec<Lease>)>,
) -> Result<bool> {
    let mut settlements = Vec::new();
    for (event, leases) in decided {
        rebuild::event(db, redis, event).await?;
        settlements.push(Publication::settlement(event, leases));
    }
    show(db, redis, &settlements).await
}

/// Publishes what commits left; events whose publications in between were lost are rebuilt. False
/// when Redis is away: then the reconciler shows it later.
///
/// # Errors
/// When PostgreSQL is away and an event has to be rebuilt.
pub async fn show(db: &Db, redis: &Redis, publications: &[Publication]) -> Result<bool> {
    if publications.is_empty() {
        return Ok(true);
    }
    let Ok(stale) = stock::publish(&redis.link, publications).await else { return Ok(false) };
    if !stale.is_empty() {
        // A Redis that was flushed knows nothing: what is shown now belongs to a new epoch.
        epoch::ensure(db, redis).await?;
    }
    for event in stale {
        rebuild::event(db, redis, event).await?;
    }
    Ok(true)
}
