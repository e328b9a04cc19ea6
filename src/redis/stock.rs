//! What Redis shows of an event's seats and queue: published after each commit, rebuilt from a
//! snapshot when anything was missed.

use redis::{Pipeline, Value};

use super::{Away, Link, Redis, keys, scripts};
use crate::domain::ids::EventId;
use crate::domain::inventory::QueueChange;
use crate::domain::stock_view::Snapshot;

/// Requests that the gate let through together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub name: String,
    /// The numbered seats that are pinned in it.
    pub seats: Vec<u32>,
}

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
    /// All seats.
    pub total: u32,
    /// Numbered seats that are nobody's any more.
    pub freed: Vec<u32>,
    /// Numbered seats that are somebody's now.
    pub taken: Vec<u32>,
    /// Whether the event was cancelled: nothing can be held any more.
    pub cancelled: bool,
    /// Leases of requests that were decided in it.
    pub leases: Vec<Lease>,
    /// How the queue changed.
    pub queue: Vec<QueueChange>,
}

impl Publication {
    /// Only settles leases: their requests were decided, and nothing changed.
    pub fn settlement(event: EventId, leases: Vec<Lease>) -> Self {
        Self {
            event,
            base: 0,
            version: 0,
            available: 0,
            total: 0,
            freed: Vec::new(),
            taken: Vec::new(),
            cancelled: false,
            leases,
            queue: Vec::new(),
        }
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
    /// Numbered seats that are sold.
    pub sold: i64,
}

/// Publishes what commits left, in one round trip; answers the events that must be rebuilt because
/// publications in between were lost, or because Redis does not know them.
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
            .arg(keys::state(one.event))
            .arg(keys::slots(one.event))
            .arg(keys::waitlist(one.event))
            .arg(keys::leases(one.event))
            .arg(epoch)
            .arg(one.base)
            .arg(one.version)
            .arg(one.available)
            .arg(one.total)
            .arg(u8::from(one.cancelled))
            .arg(one.leases.len());
        for lease in &one.leases {
            command.arg(&lease.name).arg(lease.seats.len()).arg(&lease.seats);
        }
        command.arg(one.freed.len()).arg(&one.freed).arg(one.taken.len()).arg(&one.taken);
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
    let (sold, bits) = bitmap(&snapshot.taken);
    let mut pipeline = Pipeline::new();
    let command = pipeline
        .cmd("EVALSHA")
        .arg(scripts::REBUILD.get_hash())
        .arg(4)
        .arg(keys::state(event))
        .arg(keys::slots(event))
        .arg(keys::waitlist(event))
        .arg(keys::leases(event))
        .arg(epoch)
        .arg(snapshot.version)
        .arg(snapshot.available)
        .arg(snapshot.total)
        .arg(u8::from(snapshot.numbered))
        .arg(bits)
        .arg(sold);
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
        pipeline.cmd("BITCOUNT").arg(keys::taken(*event));
    }
    let values: Vec<Value> =
        pipeline.query_async(&mut connection).await.map_err(|error| redis.link.failed(error))?;
    let mut values = values.into_iter();
    let mut shown = Vec::with_capacity(events.len());
    for _ in events {
        let mut next = || values.next().unwrap_or(Value::Nil);
        let available = redis::from_redis_value(next()).unwrap_or(None);
        let (version, epoch, stale): Row = redis::from_redis_value(next()).unwrap_or_default();
        let waiting = redis::from_redis_value(next()).unwrap_or(0);
        let sold = redis::from_redis_value(next()).unwrap_or(0);
        shown.push(Shown {
            available,
            version,
            epoch,
            waiting,
            stale: stale.is_some_and(|stale| stale != 0),
            sold,
        });
    }
    Ok(shown)
}

/// An event's seats as everybody sees them, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Of which delta: `epoch * 2^32 + seq`.
    pub version: i64,
    /// All seats.
    pub total: u32,
    /// What a newcomer can book now: what is left to newcomers, less what is held.
    pub available: u32,
    /// Seats left to newcomers, held or not.
    pub slots: u32,
    /// Numbered seats that are sold, ascending.
    pub taken: Vec<u32>,
    /// Numbered seats that are held, ascending.
    pub held: Vec<u32>,
}

type Read = ((Option<i64>, Option<i64>, Option<u32>), Option<u32>, Option<Vec<u8>>, Vec<u32>);

/// What is shown of an event; `None` when Redis knows nothing of it that can be believed.
///
/// # Errors
/// When Redis is away.
pub async fn view(link: &Link, event: EventId) -> Result<Option<View>, Away> {
    let Some((mut connection, believed)) = link.believed().await? else { return Ok(None) };
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    pipeline.cmd("HMGET").arg(keys::state(event)).arg(&["epoch", "seq", "total"]);
    pipeline.cmd("GET").arg(keys::slots(event));
    pipeline.cmd("GET").arg(keys::taken(event));
    pipeline.cmd("ZRANGE").arg(keys::holds(event)).arg(0).arg(-1);
    let ((epoch, seq, total), slots, bits, mut held): Read =
        pipeline.query_async(&mut connection).await.map_err(|error| link.failed(error))?;
    let (Some(seq), Some(total), Some(slots)) = (seq, total, slots) else { return Ok(None) };
    if epoch != Some(believed) {
        return Ok(None);
    }
    held.sort_unstable();
    let count = u32::try_from(held.len()).unwrap_or(u32::MAX);
    Ok(Some(View {
        version: version(believed, seq),
        total,
        available: slots.saturating_sub(count),
        slots,
        taken: numbers(&bits.unwrap_or_default()),
        held,
    }))
}

/// The versions of what is shown of events, in their order; `None` where nothing is believed.
///
/// # Errors
/// When Redis is away.
pub async fn versions(link: &Link, events: &[EventId]) -> Result<Vec<Option<i64>>, Away> {
    let believed = if events.is_empty() { None } else { link.believed().await? };
    let Some((mut connection, believed)) = believed else { return Ok(vec![None; events.len()]) };
    let mut pipeline = Pipeline::new();
    for event in events {
        pipeline.cmd("HMGET").arg(keys::state(*event)).arg(&["epoch", "seq"]);
    }
    let read: Vec<(Option<i64>, Option<i64>)> =
        pipeline.query_async(&mut connection).await.map_err(|error| link.failed(error))?;
    Ok(read
        .into_iter()
        .map(|(epoch, seq)| seq.filter(|_| epoch == Some(believed)))
        .map(|seq| seq.map(|seq| version(believed, seq)))
        .collect())
}

/// One number for epoch and delta, as the scripts count them.
fn version(epoch: i64, seq: i64) -> i64 {
    epoch.saturating_mul(1 << 32).saturating_add(seq)
}

/// Seats as a bitmap without zero bytes at its end, and how many they are.
fn bitmap(seats: &[u32]) -> (usize, Vec<u8>) {
    let mut bits = Vec::new();
    for seat in seats {
        let index = usize::try_from(seat / 8).unwrap_or(usize::MAX);
        if bits.len() <= index {
            bits.resize(index.saturating_add(1), 0_u8);
        }
        if let Some(byte) = bits.get_mut(index) {
            *byte |= 0x80 >> (seat % 8);
        }
    }
    (seats.len(), bits)
}

/// The seats of a bitmap, ascending.
fn numbers(bits: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    for (index, byte) in (0_u32..).zip(bits) {
        let set = (0..8_u32).filter(|bit| byte & (0x80 >> bit) != 0);
        numbers.extend(set.map(|bit| index * 8 + bit));
    }
    numbers
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_become_bits_and_bits_become_seats() {
        for seats in [vec![], vec![1], vec![7, 8, 9], vec![1, 2, 3, 64, 65, 1_000_000]] {
            let (count, bits) = bitmap(&seats);
            assert_eq!((count, numbers(&bits)), (seats.len(), seats));
            assert_ne!(bits.last(), Some(&0));
        }
        // As SETBIT counts: the highest bit first.
        assert_eq!(bitmap(&[1]).1, [0b0100_0000]);
    }
}
