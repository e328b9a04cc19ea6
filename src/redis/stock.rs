//! What Redis shows of an event's seats and queue: published after each commit, rebuilt from a
//! snapshot when anything was missed.

use redis::Pipeline;

use super::{Away, Link, Redis, keys, scripts};
use crate::domain::ids::EventId;
use crate::domain::inventory::QueueChange;
use crate::domain::stock_view::Snapshot;

/// What a commit left of an event.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Which event.
    pub event: EventId,
    /// The inventory's version before the commit.
    pub base: i64,
    /// And after it.
    pub version: i64,
    /// Seats available to newcomers now.
    pub available: u32,
    /// Leases of requests that were decided in it.
    pub leases: Vec<String>,
    /// How the queue changed.
    pub queue: Vec<QueueChange>,
}

impl Publication {
    /// Only settles leases: their requests were decided, and nothing changed.
    pub fn settlement(event: EventId, leases: Vec<String>) -> Self {
        Self { event, base: 0, version: 0, available: 0, leases, queue: Vec::new() }
    }
}

/// What Redis says of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// `event:{id}:slots`.
    pub available: Option<i64>,
    /// The version it stands for.
    pub version: Option<i64>,
    /// The epoch it was written in.
    pub epoch: Option<i64>,
    /// How many wait, by the list.
    pub waiting: i64,
    /// Whether the list is known to lack something.
    pub stale: bool,
}

/// Publishes what commits left, in one round trip; answers the events whose queue must be rebuilt
/// because publications in between were lost.
///
/// # Errors
/// When Redis is away.
pub async fn publish(link: &Link, publications: &[Publication]) -> Result<Vec<EventId>, Away> {
    let Some((mut connection, epoch)) = link.believed().await? else { return Ok(Vec::new()) };
    let mut pipeline = Pipeline::new();
    for one in publications {
        let command = pipeline
            .cmd("EVALSHA")
            .arg(scripts::PUBLISH.get_hash())
            .arg(4)
            .arg(keys::slots(one.event))
            .arg(keys::state(one.event))
            .arg(keys::waitlist(one.event))
            .arg(keys::leases(one.event))
            .arg(epoch)
            .arg(one.base)
            .arg(one.version)
            .arg(one.available)
            .arg(one.leases.len())
            .arg(&one.leases);
        for change in &one.queue {
            match change {
                QueueChange::Joined(user) => command.arg("j").arg(user.to_string()),
                QueueChange::Left(user) => command.arg("l").arg(user.to_string()),
            };
        }
    }
    let answers: Vec<String> = scripts::run(&mut connection, &scripts::PUBLISH, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    Ok(publications
        .iter()
        .zip(answers)
        .filter(|(_, answer)| answer == "stale")
        .map(|(one, _)| one.event)
        .collect())
}

/// Sets an event to a snapshot; true if anything was different.
///
/// # Errors
/// When Redis is away or not believed.
pub async fn rebuild(link: &Link, snapshot: &Snapshot) -> Result<bool, Away> {
    let Some((mut connection, epoch)) = link.believed().await? else {
        return Err(Away(anyhow::anyhow!("its incarnation is not believed yet")));
    };
    let event = snapshot.event;
    let mut pipeline = Pipeline::new();
    let command = pipeline
        .cmd("EVALSHA")
        .arg(scripts::REBUILD.get_hash())
        .arg(4)
        .arg(keys::slots(event))
        .arg(keys::state(event))
        .arg(keys::waitlist(event))
        .arg(keys::leases(event))
        .arg(epoch)
        .arg(snapshot.version)
        .arg(snapshot.available);
    for user in &snapshot.waiting {
        command.arg(user.to_string());
    }
    let answers: Vec<String> = scripts::run(&mut connection, &scripts::REBUILD, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    Ok(answers.first().is_some_and(|answer| answer == "ok"))
}

type Row = (Option<i64>, Option<i64>, Option<i64>);

/// What Redis shows of events, in their order.
///
/// # Errors
/// When Redis is away.
pub async fn read(redis: &Redis, events: &[EventId]) -> Result<Vec<Shown>, Away> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = redis.link.connection().await?;
    let mut pipeline = Pipeline::new();
    for event in events {
        pipeline.cmd("GET").arg(keys::slots(*event));
        pipeline.cmd("HMGET").arg(keys::state(*event)).arg(&["version", "epoch", "stale"]);
        pipeline.cmd("LLEN").arg(keys::waitlist(*event));
    }
    let values: Vec<redis::Value> =
        pipeline.query_async(&mut connection).await.map_err(|error| redis.link.failed(error))?;
    let mut values = values.into_iter();
    let mut shown = Vec::with_capacity(events.len());
    for _ in events {
        let mut next = || values.next().unwrap_or(redis::Value::Nil);
        let available = redis::from_redis_value(next()).unwrap_or(None);
        let (version, epoch, stale): Row = redis::from_redis_value(next()).unwrap_or_default();
        let waiting = redis::from_redis_value(next()).unwrap_or(0);
        shown.push(Shown { available, version, epoch, waiting, stale: stale == Some(1) });
    }
    Ok(shown)
}

/// Whether the marker of `epoch` is there; a flush takes it away.
///
/// # Errors
/// When Redis is away.
pub async fn marked(link: &Link, epoch: i64) -> Result<bool, Away> {
    let mut connection = link.connection().await?;
    let marker: Option<i64> = redis::cmd("GET")
        .arg(keys::MARKER)
        .query_async(&mut connection)
        .await
        .map_err(|error| link.failed(error))?;
    Ok(marker == Some(epoch))
}

/// Leaves the marker of `epoch`.
///
/// # Errors
/// When Redis is away.
pub async fn mark(link: &Link, epoch: i64) -> Result<(), Away> {
    let mut connection = link.connection().await?;
    redis::cmd("SET")
        .arg(keys::MARKER)
        .arg(epoch)
        .exec_async(&mut connection)
        .await
        .map_err(|error| link.failed(error))
}
