//! The whole comparison at once, for an operator.

use super::check::{self, Drift};
use super::epoch;
use crate::app::Result;
use crate::postgres::Db;
use crate::postgres::integrity::Broken;
use crate::redis::Redis;

/// Events compared in one round trip.
const WINDOW: u32 = 500;
/// Most findings that a report carries.
const FINDINGS_MAX: usize = 1000;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Events that Redis shows differently, at most a thousand.
    pub drifts: Vec<Drift>,
    /// How many of them were repaired.
    pub repaired: usize,
    /// Events whose sums contradict their bookings, at most a thousand.
    pub contradictions: Vec<Broken>,
}

/// Compares all published events, repairs what Redis shows if asked, and looks for contradictions
/// in PostgreSQL, which nobody may repair without thinking.
///
/// # Errors
/// When PostgreSQL or Redis is away.
pub async fn examine(db: &Db, redis: &Redis, repair: bool) -> Result<Report> {
    let mut report = Report::default();
    if redis.link.trusted().is_none() {
        epoch::ensure(db, redis).await?;
    }
    let mut after = None;
    loop {
        let (drifts, next) = check::compare(db, redis, after, WINDOW).await?;
        if repair {
            report.repaired += check::repair(db, redis, &drifts).await?;
        }
        report.drifts.extend(drifts);
        after = next;
        if after.is_none() || report.drifts.len() >= FINDINGS_MAX {
            break;
        }
    }
    let mut after = None;
    loop {
        let (drifts, next) = check::misplaced(db, redis, after, WINDOW).await?;
        if repair {
            report.repaired += check::repair(db, redis, &drifts).await?;
        }
        report.drifts.extend(drifts);
        after = next;
        if after.is_none() || report.drifts.len() >= FINDINGS_MAX {
            break;
        }
    }
    let mut after = None;
    loop {
        let (broken, next) = check::contradictions(db, after, WINDOW).await?;
        report.contradictions.extend(broken);
        after = next;
        if after.is_none() || report.contradictions.len() >= FINDINGS_MAX {
            break;
        }
    }
    Ok(report)
}
