//! Numbered seats that are held. Scripts alone write them (`lua/part_holds.lua` lists the keys and
//! what holds of them); here they are called and read.

use jiff::Timestamp;
use redis::{Pipeline, Value};

use super::{Away, Link, keys, scripts};
use crate::domain::hold::{Hold, HoldLimit, HoldQuotas, HoldToken};
use crate::domain::ids::{EventId, UserId};

/// An event that may have holds is looked at again after this long.
const LOOK_AGAIN_MS: u64 = 200;
/// Most events that one look sweeps.
pub const SWEEP_MAX: usize = 256;

/// Whose a hold is to be.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The person.
    pub user: UserId,
    /// Where they are, to count against; `None` is not counted.
    pub address: Option<String>,
    /// The session that shows it; `None` has none, and so no grace.
    pub session: Option<String>,
}

/// How long holds last.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long from now.
    pub ttl_ms: u64,
    /// How long at most from the first seat on.
    pub age_max_ms: u64,
    /// How often it may be renewed.
    pub renewals_max: u32,
}

/// What is to be held.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// Which token.
    pub token: &'a HoldToken,
    /// Whose.
    pub owner: &'a Owner,
    /// The seats.
    pub seats: &'a [u32],
    /// Whether these are all that the token is to hold; otherwise it must be a new one, and one
    /// that is known answers as it did at first.
    pub exactly: bool,
}

/// What came of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is held.
    Held(Hold),
    /// These are sold, somebody else's, or none of the event's; nothing changed.
    Conflict(Vec<u32>),
    /// Fewer seats are left to newcomers.
    SoldOut,
    /// A person's, an address's or the event's quota is used up.
    Limit(HoldLimit),
    /// The token holds nothing, or is another person's.
    Gone,
    /// Renewed as often, or as old, as it may be.
    Exhausted,
    /// The event was cancelled.
    Closed,
    /// Redis knows nothing of the event that can be believed.
    Cold,
}

/// Holds seats: all of them, or none.
///
/// # Errors
/// When Redis is away.
pub async fn take(
    link: &Link,
    event: EventId,
    wish: &Wish<'_>,
    terms: Terms,
    quotas: HoldQuotas,
) -> Result<Answer, Away> {
    let Some((mut connection, epoch)) = link.believed().await? else { return Ok(Answer::Cold) };
    let mut pipeline = Pipeline::new();
    let owner = wish.owner;
    pipeline
        .cmd("EVALSHA")
        .arg(scripts::TAKE.get_hash())
        .arg(1)
        .arg(keys::state(event))
        .arg(epoch)
        .arg(if wish.exactly { "set" } else { "new" })
        .arg(wish.token.as_str())
        .arg(owner.user.to_string())
        .arg(owner.address.as_deref().unwrap_or_default())
        .arg(owner.session.as_deref().unwrap_or_default())
        .arg(terms.ttl_ms)
        .arg(terms.age_max_ms)
        .arg(quotas.per_user)
        .arg(quotas.per_address)
        .arg(quotas.per_event)
        .arg(wish.seats);
    // The sweeper looks there at once; that a look was not needed does no harm.
    pipeline.cmd("ZADD").arg(keys::HOLD_EVENTS).arg(0).arg(event.to_string()).ignore();
    let (answer,): (Vec<Value>,) = scripts::run(&mut connection, &scripts::TAKE, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    read(event, answer, wish.token, terms.renewals_max)
}

/// Gives a token's seats more time.
///
/// # Errors
/// When Redis is away.
pub async fn renew(
    link: &Link,
    event: EventId,
    token: &HoldToken,
    user: UserId,
    terms: Terms,
) -> Result<Answer, Away> {
    let Some((mut connection, epoch)) = link.believed().await? else { return Ok(Answer::Cold) };
    let mut pipeline = Pipeline::new();
    pipeline
        .cmd("EVALSHA")
        .arg(scripts::RENEW.get_hash())
        .arg(1)
        .arg(keys::state(event))
        .arg(epoch)
        .arg(token.as_str())
        .arg(user.to_string())
        .arg(terms.ttl_ms)
        .arg(terms.age_max_ms)
        .arg(terms.renewals_max);
    let (answer,): (Vec<Value>,) = scripts::run(&mut connection, &scripts::RENEW, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    read(event, answer, token, terms.renewals_max)
}

/// Lets go what a token holds; false if it is another person's.
///
/// # Errors
/// When Redis is away.
pub async fn release(
    link: &Link,
    event: EventId,
    token: &HoldToken,
    user: UserId,
) -> Result<bool, Away> {
    let Some((mut connection, epoch)) = link.believed().await? else { return Ok(true) };
    let mut pipeline = Pipeline::new();
    pipeline
        .cmd("EVALSHA")
        .arg(scripts::RELEASE.get_hash())
        .arg(1)
        .arg(keys::state(event))
        .arg(epoch)
        .arg(token.as_str())
        .arg(user.to_string());
    // Somebody may wait for the seats: the sweeper looks there at once.
    pipeline.cmd("ZADD").arg(keys::HOLD_EVENTS).arg(0).arg(event.to_string()).ignore();
    let (answer,): (String,) = scripts::run(&mut connection, &scripts::RELEASE, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    Ok(answer != "foreign")
}

/// Notes that the owner's session came (`grace_ms` is `None`: what was shortened is given back) or
/// went (after the last one the seats are kept no longer than the grace).
///
/// # Errors
/// When Redis is away.
pub async fn attend(
    link: &Link,
    event: EventId,
    token: &HoldToken,
    owner: &Owner,
    grace_ms: Option<u64>,
    terms: Terms,
) -> Result<Answer, Away> {
    let Some((mut connection, epoch)) = link.believed().await? else { return Ok(Answer::Cold) };
    let mut pipeline = Pipeline::new();
    pipeline
        .cmd("EVALSHA")
        .arg(scripts::PARK.get_hash())
        .arg(1)
        .arg(keys::state(event))
        .arg(epoch)
        .arg(token.as_str())
        .arg(owner.user.to_string())
        .arg(owner.session.as_deref().unwrap_or_default())
        .arg(grace_ms.map(|ms| ms.to_string()).unwrap_or_default());
    let (answer,): (Vec<Value>,) = scripts::run(&mut connection, &scripts::PARK, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    read(event, answer, token, terms.renewals_max)
}

/// What a sweep found.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// How many events were looked at.
    pub looked: usize,
    /// Those in which seats were let go that somebody waits for.
    pub unserved: Vec<EventId>,
}

/// Ends the holds whose time is over, in some events that were not looked at for a while.
///
/// # Errors
/// When Redis is away.
pub async fn sweep(link: &Link) -> Result<Swept, Away> {
    let Some((mut connection, epoch)) = link.believed().await? else {
        return Ok(Swept::default());
    };
    let mut pipeline = Pipeline::new();
    let hash = scripts::DUE.get_hash();
    let command = pipeline.cmd("EVALSHA").arg(hash).arg(1).arg(keys::HOLD_EVENTS);
    command.arg(LOOK_AGAIN_MS).arg(SWEEP_MAX);
    let (due,): (Vec<String>,) = scripts::run(&mut connection, &scripts::DUE, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    let Some((noted, events)) = due.split_first().filter(|(_, events)| !events.is_empty()) else {
        return Ok(Swept::default());
    };
    // Whatever is no event's id holds nothing.
    let id = |event: &String| EventId(event.parse().unwrap_or_default());
    let mut pipeline = Pipeline::new();
    for event in events {
        let command = pipeline.cmd("EVALSHA").arg(scripts::SWEEP.get_hash()).arg(1);
        command.arg(keys::state(id(event))).arg(epoch);
    }
    let found: Vec<(u64, u64)> = scripts::run(&mut connection, &scripts::SWEEP, &pipeline)
        .await
        .map_err(|error| link.failed(error))?;
    let mut pipeline = Pipeline::new();
    for (event, _) in events.iter().zip(&found).filter(|(_, (left, _))| *left == 0) {
        let command = pipeline.cmd("EVALSHA").arg(scripts::FORGET.get_hash()).arg(1);
        command.arg(keys::HOLD_EVENTS).arg(event).arg(noted);
    }
    if !pipeline.is_empty() {
        let _: Vec<u64> = scripts::run(&mut connection, &scripts::FORGET, &pipeline)
            .await
            .map_err(|error| link.failed(error))?;
    }
    let unserved = events.iter().zip(found).filter(|(_, (_, unserved))| *unserved > 0);
    let unserved = unserved.map(|(event, _)| id(event)).collect();
    Ok(Swept { looked: events.len(), unserved })
}

fn read(
    event: EventId,
    answer: Vec<Value>,
    token: &HoldToken,
    renewals_max: u32,
) -> Result<Answer, Away> {
    let mut parts = answer.into_iter();
    let what: String = one(parts.next())?;
    Ok(match what.as_str() {
        "held" => {
            let (server_time, expires_at) = (time(parts.next())?, time(parts.next())?);
            let renewals: u32 = one(parts.next())?;
            Answer::Held(Hold {
                event,
                token: token.clone(),
                seats: parts.map(|seat| one(Some(seat))).collect::<Result<_, _>>()?,
                expires_at,
                renewals_left: renewals_max.saturating_sub(renewals),
                server_time,
            })
        }
        "conflict" => {
            Answer::Conflict(parts.map(|seat| one(Some(seat))).collect::<Result<_, _>>()?)
        }
        "sold_out" => Answer::SoldOut,
        "user" => Answer::Limit(HoldLimit::User),
        "address" => Answer::Limit(HoldLimit::Address),
        "event" => Answer::Limit(HoldLimit::Event),
        "gone" | "foreign" => Answer::Gone,
        "closed" => Answer::Closed,
        "exhausted" => Answer::Exhausted,
        _ => Answer::Cold,
    })
}

fn one<T: redis::FromRedisValue>(value: Option<Value>) -> Result<T, Away> {
    redis::from_redis_value(value.unwrap_or(Value::Nil)).map_err(|error| Away(error.into()))
}

fn time(value: Option<Value>) -> Result<Timestamp, Away> {
    let ms: i64 = one(value)?;
    Timestamp::from_millisecond(ms).map_err(|error| Away(error.into()))
}
