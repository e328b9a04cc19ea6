//! The events of a load run: put on sale by an organiser before it, read back by the same
//! organiser after it.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::api::Api;
use super::client::Target;
use super::person::Person;
use super::progress::Progress;
use super::verdict::{Ending, Standing};

/// Events made or read at once.
const AT_ONCE: usize = 4;

/// The kind of event to put on sale.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Seats.
    pub capacity: u32,
    /// Whether they have numbers.
    pub numbered: bool,
    /// `strict` or `bypass`.
    pub policy: &'static str,
    /// The largest party.
    pub party_max: u32,
}

/// What is read of an event.
#[derive(Debug, Deserialize)]
struct Shown {
    capacity: u32,
    available_slots: u32,
    confirmed_seats: u32,
    waitlist_length: u32,
    waitlist: Policy,
}

#[derive(Debug, Deserialize)]
struct Policy {
    policy: String,
    #[serde(default)]
    max_bypass: Option<u32>,
}

/// Puts `count` events on sale and gives their ids.
///
/// # Errors
/// When the server refuses or is away for too long.
pub async fn open(
    target: &Arc<Target>,
    organizer: &Person,
    run: &str,
    kind: &Kind,
    count: usize,
    progress: &Progress,
) -> anyhow::Result<Vec<Uuid>> {
    let token = Some(organizer.token.as_str());
    let body = json!({"name": format!("Hammer {run}"), "slug": format!("hammer-{run}")});
    let organization =
        Api::new(Arc::clone(target)).post("/organizations", token, None, &body).await?;
    let organization = id(&organization).context("the new organisation")?;
    let opened = stream::iter(0..count).map(|index| async move {
        let mut api = Api::new(Arc::clone(target));
        let body = json!({
            "title": format!("Hammer {run} {index}"),
            "starts_at": "2099-01-01T20:00:00.000Z",
            "capacity": kind.capacity,
            "seating": if kind.numbered { "numbered" } else { "general" },
            "max_seats_per_booking": kind.party_max,
            "waitlist": {"policy": kind.policy},
        });
        let path = format!("/organizations/{organization}/events");
        let event = id(&api.post(&path, token, None, &body).await?).context("the new event")?;
        api.post(&format!("/events/{event}/publish"), token, None, &json!({})).await?;
        progress.step(
            "putting events on sale",
            u64::try_from(index).unwrap_or_default(),
            count_u64(count),
        );
        anyhow::Ok(event)
    });
    let events = opened.buffered(AT_ONCE).try_collect().await?;
    progress.done();
    Ok(events)
}

/// Reads back what became of the events.
///
/// # Errors
/// When they cannot be read.
pub async fn read(
    target: &Arc<Target>,
    organizer: &Person,
    events: &[Uuid],
    progress: &Progress,
) -> anyhow::Result<Vec<Ending>> {
    let endings = stream::iter(events.iter().enumerate()).map(|(at, event)| async move {
        let mut api = Api::new(Arc::clone(target));
        let token = organizer.token.as_str();
        let mut bookings: Vec<Standing> = Vec::new();
        api.list(&format!("/events/{event}/bookings"), token, |standing| {
            bookings.push(standing);
            progress.line(|| format!("reading back event {at}: {} bookings", bookings.len()));
        })
        .await?;
        let shown = api.get(&format!("/events/{event}"), Some(token)).await?;
        let shown: Shown = serde_json::from_value(shown).context("the event as it is shown")?;
        let bypass = shown.waitlist.policy == "bypass";
        anyhow::Ok(Ending {
            capacity: shown.capacity,
            available: shown.available_slots,
            confirmed: shown.confirmed_seats,
            waiting: shown.waitlist_length,
            max_bypass: bypass.then(|| shown.waitlist.max_bypass.unwrap_or(u32::MAX)),
            bookings,
        })
    });
    let endings = endings.buffered(AT_ONCE).try_collect().await?;
    progress.done();
    Ok(endings)
}

fn id(thing: &Value) -> anyhow::Result<Uuid> {
    let id = thing.get("id").and_then(Value::as_str).context("has no id")?;
    id.parse().context("has an id that is no UUID")
}

fn count_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
