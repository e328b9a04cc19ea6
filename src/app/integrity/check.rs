//! Compares, a window of events at a time.

use uuid::Uuid;

use super::rebuild;
use crate::app::{Error, Result};
use crate::domain::ids::EventId;
use crate::postgres::Db;
use crate::postgres::integrity::{self, Broken};
use crate::redis::{Redis, stock};

/// An event that Redis shows differently.
#[derive(Clone, Copy, Debug)]
pub struct Drift {
    /// Which event.
    pub event: EventId,
    /// Seats available, by PostgreSQL.
    pub available: u32,
    /// And by Redis; `None`: it does not know.
    pub shown: Option<i64>,
    /// Parties waiting, by PostgreSQL.
    pub waiting: u32,
    /// And by Redis.
    pub shown_waiting: i64,
    /// Numbered seats sold, by PostgreSQL.
    pub sold: u32,
    /// And by Redis.
    pub shown_sold: i64,
    /// A later commit explains it: the publication was on its way.
    pub behind: bool,
}

/// Compares what Redis shows of published events after `after` with what PostgreSQL knows:
/// the differences, and where to go on (`None` at the end).
///
/// # Errors
/// When PostgreSQL or Redis is away.
pub async fn compare(
    db: &Db,
    redis: &Redis,
    after: Option<EventId>,
    limit: u32,
) -> Result<(Vec<Drift>, Option<EventId>)> {
    let conn = db.get().await?;
    let after = after.unwrap_or(EventId(Uuid::nil()));
    let sums = integrity::sums(&conn, after, i64::from(limit)).await?;
    drop(conn);
    let ids: Vec<EventId> = sums.iter().map(|sum| sum.event).collect();
    let shown = stock::read(redis, &ids).await.map_err(|_| Error::unavailable("redis"))?;
    let epoch = redis.link.trusted().map(|trust| trust.epoch);
    let drifts = sums
        .iter()
        .zip(shown)
        .filter(|(sum, shown)| {
            shown.available != Some(i64::from(sum.available))
                || shown.waiting != i64::from(sum.waiting)
                || shown.sold != i64::from(sum.sold)
                || shown.version != Some(sum.version)
                || shown.epoch != epoch
                || shown.stale
        })
        .map(|(sum, shown)| Drift {
            event: sum.event,
            available: sum.available,
            shown: shown.available.filter(|_| shown.epoch == epoch),
            waiting: sum.waiting,
            shown_waiting: shown.waiting,
            sold: sum.sold,
            shown_sold: shown.sold,
            behind: shown.version != Some(sum.version),
        })
        .collect();
    let full = u32::try_from(sums.len()).is_ok_and(|found| found == limit);
    Ok((drifts, sums.last().map(|sum| sum.event).filter(|_| full)))
}

/// Rebuilds those events; how many were different.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn repair(db: &Db, redis: &Redis, drifts: &[Drift]) -> Result<usize> {
    let mut repaired = 0;
    for drift in drifts {
        if rebuild::event(db, redis, drift.event).await? {
            repaired += 1;
        }
    }
    Ok(repaired)
}

/// Looks for events whose sums contradict their bookings: there should never be one, and none can
/// be repaired without a person's judgement.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn contradictions(
    db: &Db,
    after: Option<EventId>,
    limit: u32,
) -> Result<(Vec<Broken>, Option<EventId>)> {
    let conn = db.get().await?;
    let after = after.unwrap_or(EventId(Uuid::nil()));
    Ok(integrity::broken(&conn, after, i64::from(limit)).await?)
}
