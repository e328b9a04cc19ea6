//! Compares, a window of events at a time.

use uuid::Uuid;

use super::rebuild;
use crate::app::{Error, Result};
use crate::domain::ids::EventId;
use crate::postgres::Db;
use crate::postgres::integrity::{self, Broken, Sums};
use crate::redis::Redis;
use crate::redis::stock::{self, Shown};

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
        .map(|(sum, shown)| drift(sum, &shown, epoch))
        .collect();
    let full = u32::try_from(sums.len()).is_ok_and(|found| found == limit);
    Ok((drifts, sums.last().map(|sum| sum.event).filter(|_| full)))
}

/// Those of published events after `after` whose sold seats Redis shows as other ones, though as
/// many of the same commit: looked at one by one, for an operator.
///
/// # Errors
/// When PostgreSQL or Redis is away.
pub async fn misplaced(
    db: &Db,
    redis: &Redis,
    after: Option<EventId>,
    limit: u32,
) -> Result<(Vec<Drift>, Option<EventId>)> {
    let conn = db.get().await?;
    let after = after.unwrap_or(EventId(Uuid::nil()));
    let sums = integrity::sums(&conn, after, i64::from(limit)).await?;
    let mut drifts = Vec::new();
    for sum in sums.iter().filter(|sum| sum.sold > 0) {
        let away = |_| Error::unavailable("redis");
        let before = stock::read(redis, &[sum.event]).await.map_err(away)?;
        let view = stock::view(&redis.link, sum.event).await.map_err(away)?;
        let snapshot = integrity::snapshot(&conn, sum.event).await?;
        let shown = stock::read(redis, &[sum.event]).await.map_err(away)?;
        let (Some(view), Some(snapshot), Some(shown)) = (view, snapshot, shown.first()) else {
            continue;
        };
        // A publication in between explains everything.
        let same = before.first() == Some(shown) && shown.version == Some(snapshot.version);
        let counted = shown.sold == i64::try_from(snapshot.taken.len()).unwrap_or(i64::MAX);
        if same && counted && view.taken != snapshot.taken {
            drifts.push(drift(sum, shown, shown.epoch));
        }
    }
    let full = u32::try_from(sums.len()).is_ok_and(|found| found == limit);
    Ok((drifts, sums.last().map(|sum| sum.event).filter(|_| full)))
}

fn drift(sum: &Sums, shown: &Shown, epoch: Option<i64>) -> Drift {
    Drift {
        event: sum.event,
        available: sum.available,
        shown: shown.available.filter(|_| shown.epoch == epoch),
        waiting: sum.waiting,
        shown_waiting: shown.waiting,
        sold: sum.sold,
        shown_sold: shown.sold,
        behind: shown.version != Some(sum.version),
    }
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
