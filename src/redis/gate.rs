//! The gate before the desk: refuses early what cannot succeed, in one round trip for a whole
//! batch, and pins the numbered seats of the rest. It never says yes: PostgreSQL does.

use redis::{Pipeline, Value};

use super::stock::Lease;
use super::{Away, Link, keys, scripts};
use crate::domain::ids::{EventId, UserId};

/// One request as the gate sees it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// How many seats.
    pub seats: u32,
    /// Whether the party would wait.
    pub waitlist: bool,
    /// Which seats, if it chooses.
    pub numbers: Vec<u32>,
    /// The hold that the party books from, and who asks.
    pub hold: Option<(String, UserId)>,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Go on to the desk.
    Through,
    /// Go on; these seats are kept for it, which did not choose.
    Wish(Vec<u32>),
    /// Go on; it holds the seats.
    Holds,
    /// Too few seats, and the party would not wait.
    SoldOut,
    /// These seats are sold or held by somebody else.
    Gone(Vec<u32>),
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
    /// The requests, in order. None: only what is held is asked for.
    pub asks: Vec<Ask>,
}

/// What is said to a group.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// To each request; `None` when Redis knows nothing it can be believed about the event (cold):
    /// then all go through, unleased.
    pub passes: Option<Vec<Pass>>,
    /// What was leased.
    pub lease: Lease,
    /// Numbered seats that are held.
    pub held: Vec<u32>,
}

/// How long what is let through stays so if nobody settles it.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// Leases on counts.
    pub lease_ms: u64,
    /// Pins on numbered seats: as long as a commit may take.
    pub pin_ms: u64,
}

/// Asks for all groups at once.
///
/// # Errors
/// When Redis is away.
pub async fn pass(link: &Link, groups: &[Group], lives: Lives) -> Result<Vec<Answer>, Away> {
    let Some((mut connection, epoch)) = link.believed().await? else {
        return Ok(vec![Answer::default(); groups.len()]);
    };
    let mut pipeline = Pipeline::new();
    for group in groups {
        call(&mut pipeline, group, epoch, lives);
    }
    let answers: Vec<Value> = scripts::run(&mut connection, &scripts::RESERVE, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    let mut answers = answers.into_iter();
    groups.iter().map(|group| read(group, &mut answers)).collect()
}

fn call(pipeline: &mut Pipeline, group: &Group, epoch: i64, lives: Lives) {
    if !group.asks.is_empty() {
        let command = pipeline
            .cmd("EVALSHA")
            .arg(scripts::RESERVE.get_hash())
            .arg(3)
            .arg(keys::state(group.event))
            .arg(keys::slots(group.event))
            .arg(keys::leases(group.event))
            .arg(epoch)
            .arg(&group.lease)
            .arg(lives.lease_ms)
            .arg(lives.pin_ms);
        for ask in &group.asks {
            match &ask.hold {
                _ if ask.numbers.is_empty() => command.arg(ask.seats).arg(u8::from(ask.waitlist)),
                Some((token, user)) => command.arg("h").arg(token).arg(user.to_string()),
                None => command.arg("c").arg(u8::from(ask.waitlist)),
            };
            if !ask.numbers.is_empty() {
                command.arg(ask.numbers.len()).arg(&ask.numbers);
            }
        }
    }
    pipeline.cmd("ZRANGE").arg(keys::holds(group.event)).arg(0).arg(-1);
}

fn read(group: &Group, answers: &mut impl Iterator<Item = Value>) -> Result<Answer, Away> {
    let verdicts: Option<Vec<String>> = if group.asks.is_empty() {
        None
    } else {
        redis::from_redis_value(answers.next().unwrap_or(Value::Nil)).map_err(parsing)?
    };
    let held: Vec<u32> =
        redis::from_redis_value(answers.next().unwrap_or(Value::Nil)).map_err(parsing)?;
    if group.asks.is_empty() {
        return Ok(Answer { held, ..Answer::default() });
    }
    let name = group.lease.clone();
    let Some(verdicts) = verdicts else {
        // Whatever was held belongs to a Redis that is gone.
        let void = |ask: &Ask| if ask.hold.is_some() { Pass::HoldLost } else { Pass::Through };
        let void: Vec<Pass> = group.asks.iter().map(void).collect();
        let some = void.contains(&Pass::HoldLost);
        let lease = Lease { name, seats: Vec::new() };
        return Ok(Answer { passes: some.then_some(void), lease, held: Vec::new() });
    };
    let mut verdicts = verdicts.into_iter();
    let said = verdicts.next().unwrap_or_default();
    let mut lists = verdicts.map(|list| seats(&list));
    let mut pinned = Vec::new();
    let mut passes = Vec::with_capacity(group.asks.len());
    for (ask, verdict) in group.asks.iter().zip(said.chars()) {
        passes.push(match verdict {
            '+' => {
                pinned.extend(&ask.numbers);
                Pass::Through
            }
            'P' => {
                let wish = lists.next().unwrap_or_default();
                pinned.extend(&wish);
                Pass::Wish(wish)
            }
            'h' => {
                pinned.extend(&ask.numbers);
                Pass::Holds
            }
            '-' => Pass::SoldOut,
            'S' => Pass::Gone(lists.next().unwrap_or_default()),
            'x' => Pass::HoldLost,
            _ => Pass::Through,
        });
    }
    Ok(Answer { passes: Some(passes), lease: Lease { name, seats: pinned }, held })
}

fn seats(list: &str) -> Vec<u32> {
    list.split(',').filter_map(|seat| seat.parse().ok()).collect()
}

fn parsing(error: redis::ParsingError) -> Away {
    Away(error.into())
}
