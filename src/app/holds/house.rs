//! What has to be known of an event before its seats are held: read once a second, however many
//! ask. Whether a seat is free is asked anew each time; who gets it, PostgreSQL decides.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::app::{App, Error, Result};
use crate::domain::best_available::Plan;
use crate::domain::event::{EventStatus, SalesRules};
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::postgres::{event, seat_map};

/// What was read this long ago is read again.
const FRESH: Duration = Duration::from_secs(1);
/// Most events that are remembered.
const HOUSES_MAX: usize = 1_000;

/// What is known of an event.
#[derive(Debug)]
pub(super) struct House {
    pub rules: SalesRules,
    pub capacity: u32,
    version: i64,
    plan: Arc<OnceCell<Option<Plan>>>,
}

impl House {
    /// The plan of its seat map, if there is one. Made when first asked for: maps are large.
    pub async fn plan(&self, app: &App, event: EventId) -> Result<Option<&Plan>> {
        let make = || async {
            let conn = app.db.get().await?;
            let map = seat_map::find(&conn, event).await?;
            Ok::<_, Error>(map.as_ref().map(Plan::of))
        };
        Ok(self.plan.get_or_try_init(make).await?.as_ref())
    }
}

type Known = HashMap<EventId, (Instant, Arc<House>)>;

/// What is known of the events that people hold seats of. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Houses(Arc<Mutex<Known>>);

/// Whether people may know of the event: asked before they are told what else is wrong.
///
/// # Errors
/// [`Refusal::NotFound`] if not; when PostgreSQL is away.
pub async fn find(app: &App, id: EventId) -> Result<()> {
    let known = house(app, id).await?;
    let shown = |house: &House| house.rules.status != EventStatus::Draft;
    if shown(&known) || shown(&*read(app, id).await?) {
        Ok(())
    } else {
        Err(Refusal::NotFound("event").into())
    }
}

/// What is known of the event, as of at most a second ago.
///
/// # Errors
/// [`Refusal::NotFound`]; when PostgreSQL is away.
pub(super) async fn house(app: &App, id: EventId) -> Result<Arc<House>> {
    match known(app, id) {
        Some((at, house)) if at.elapsed() < FRESH => Ok(house),
        _ => read(app, id).await,
    }
}

fn known(app: &App, id: EventId) -> Option<(Instant, Arc<House>)> {
    app.houses.0.lock().ok().and_then(|houses| houses.get(&id).cloned())
}

/// What is known of the event now.
///
/// # Errors
/// [`Refusal::NotFound`]; when PostgreSQL is away.
pub(super) async fn read(app: &App, id: EventId) -> Result<Arc<House>> {
    let conn = app.db.get().await?;
    let event = event::find(&conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    drop(conn);
    let same = known(app, id).filter(|(_, house)| house.version == event.version);
    let plan = same.map_or_else(Arc::default, |(_, house)| Arc::clone(&house.plan));
    let (capacity, version) = (event.stock.capacity, event.version);
    let house = Arc::new(House { rules: event.rules, capacity, version, plan });
    if let Ok(mut houses) = app.houses.0.lock() {
        if houses.len() >= HOUSES_MAX {
            houses.retain(|_, (read, _)| read.elapsed() < FRESH);
        }
        if houses.len() < HOUSES_MAX {
            houses.insert(id, (Instant::now(), Arc::clone(&house)));
        }
    }
    Ok(house)
}
