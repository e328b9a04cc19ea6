//! The gate before the desk: refuses early what cannot succeed, in one round trip for a whole
//! batch. It never says yes: PostgreSQL does.

use redis::{Pipeline, Value};

use super::{Away, Link, keys, scripts};
use crate::domain::ids::EventId;

/// One request as the gate sees it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// How many seats.
    pub seats: u32,
    /// Whether the party would wait.
    pub waitlist: bool,
    /// Which seats, if it chooses.
    pub numbers: Vec<u32>,
    /// The hold that the party books from.
    pub hold_token: Option<String>,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Go on to the desk.
    Through,
    /// Too few seats, and the party would not wait.
    SoldOut,
    /// Somebody else holds these seats.
    Held(Vec<u32>),
    /// The hold token does not hold all of the seats.
    HoldLost,
}

/// All requests of one batch for one event.
#[derive(Clone, Debug)]
pub struct Group {
    /// Which event.
    pub event: EventId,
    /// Names the lease that those let through share.
    pub lease: String,
    /// The requests, in order.
    pub asks: Vec<Ask>,
}

/// Asks for all groups at once. A group's answer is `None` when Redis knows nothing it can be
/// believed about the event (cold): then all its requests go through, unleased.
///
/// # Errors
/// When Redis is away.
pub async fn pass(
    link: &Link,
    groups: &[Group],
    lease_ms: u64,
) -> Result<Vec<Option<Vec<Pass>>>, Away> {
    let Some((mut connection, epoch)) = link.believed().await? else {
        return Ok(vec![None; groups.len()]);
    };
    let mut pipeline = Pipeline::new();
    for group in groups {
        call(&mut pipeline, group, epoch, lease_ms);
    }
    let answers: Vec<Value> = scripts::run(&mut connection, &scripts::RESERVE, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    let mut answers = answers.into_iter();
    groups.iter().map(|group| read(group, &mut answers)).collect()
}

fn call(pipeline: &mut Pipeline, group: &Group, epoch: i64, lease_ms: u64) {
    let command = pipeline
        .cmd("EVALSHA")
        .arg(scripts::RESERVE.get_hash())
        .arg(3)
        .arg(keys::slots(group.event))
        .arg(keys::state(group.event))
        .arg(keys::leases(group.event))
        .arg(epoch)
        .arg(&group.lease)
        .arg(lease_ms);
    for ask in &group.asks {
        command.arg(ask.seats).arg(u8::from(ask.waitlist));
    }
    let wanted: Vec<String> = group.numbers().map(|n| keys::hold(group.event, n)).collect();
    if !wanted.is_empty() {
        pipeline.cmd("MGET").arg(wanted);
    }
}

impl Group {
    fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.asks.iter().flat_map(|ask| ask.numbers.iter().copied())
    }
}

fn read(
    group: &Group,
    answers: &mut impl Iterator<Item = Value>,
) -> Result<Option<Vec<Pass>>, Away> {
    let verdict: Option<String> =
        redis::from_redis_value(answers.next().unwrap_or(Value::Nil)).map_err(parsing)?;
    let mut holders = if group.numbers().next().is_some() {
        let holders: Vec<Option<String>> =
            redis::from_redis_value(answers.next().unwrap_or(Value::Nil)).map_err(parsing)?;
        holders.into_iter()
    } else {
        Vec::new().into_iter()
    };
    let mut verdict = verdict.as_deref().map(str::chars);
    let cold = verdict.is_none();
    let passes: Vec<Pass> = group
        .asks
        .iter()
        .map(|ask| {
            let slots = verdict.as_mut().and_then(Iterator::next);
            let held: Vec<(u32, Option<String>)> =
                ask.numbers.iter().map(|n| (*n, holders.next().flatten())).collect();
            judge(ask, slots, &held)
        })
        .collect();
    let plain = passes.iter().all(|pass| *pass == Pass::Through);
    Ok(if cold && plain { None } else { Some(passes) })
}

fn judge(ask: &Ask, slots: Option<char>, held: &[(u32, Option<String>)]) -> Pass {
    if let Some(token) = &ask.hold_token {
        let owns_all = held.iter().all(|(_, holder)| holder.as_ref() == Some(token));
        return if owns_all { Pass::Through } else { Pass::HoldLost };
    }
    let others: Vec<u32> =
        held.iter().filter(|(_, holder)| holder.is_some()).map(|(number, _)| *number).collect();
    if !others.is_empty() {
        return Pass::Held(others);
    }
    // Of chosen seats the desk says which are taken; a count can be refused here.
    if slots == Some('-') && ask.numbers.is_empty() { Pass::SoldOut } else { Pass::Through }
}

fn parsing(error: redis::ParsingError) -> Away {
    Away(error.into())
}
