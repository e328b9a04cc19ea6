//! The bus's part of the roster: from the outbox to the streams, and from there to the handlers.

use std::sync::Arc;
use std::time::Duration;

use super::{IDLE, SWEEP, duty};
use crate::actors::Phase;
use crate::actors::bus_consumer::BusConsumer;
use crate::actors::bus_keeper::BusKeeper;
use crate::actors::bus_relay::BusRelay;
use crate::actors::pace::Pace;
use crate::actors::supervisor::Supervisor;
use crate::app::App;
use crate::app::messages::bus_line::BusLine;
use crate::app::messages::handle::{self, Handling};
use crate::app::messages::parcels::Parcels;
use crate::app::messages::recover::{Duty, Recovery};
use crate::app::messages::relay::Outbox;
use crate::app::messages::shares::Shares;
use crate::app::messages::take::Taker;
use crate::bus::{self, EventBus};
use crate::domain::message::Lane;
use crate::postgres::Db;
use crate::wake::Wake;

/// Relay, consumers and keeper.
pub fn start(supervisor: &Supervisor, app: &App, pace: impl Fn() -> Pace) -> anyhow::Result<()> {
    let handlers = handle::all(app.ids);
    let parcels = app.parcels.clone();
    // Each of them uses one connection at a time; the relay also reads ahead and keeps its lease.
    let db = Db::by_key(&app.config.postgres, handlers.len() + 4)?;
    relay(supervisor, app, &db, &parcels, pace())?;
    keeper(supervisor, app, &db, &parcels, &handlers, pace());
    for handler in handlers {
        consumer(supervisor, app, &db, handler);
    }
    Ok(())
}

fn relay(
    supervisor: &Supervisor,
    app: &App,
    db: &Db,
    parcels: &Parcels,
    pace: Pace,
) -> anyhow::Result<()> {
    let also = match app.config.bus.also_publish_to {
        Some(provider) => Some(bus::open_as(provider, &app.config, &app.clock)?),
        None => None,
    };
    let buses: (Arc<dyn EventBus>, Option<Arc<dyn EventBus>>) = (Arc::clone(&app.bus), also);
    let (app, db, parcels) = (app.clone(), db.clone(), parcels.clone());
    let tick = Duration::from_millis(app.config.relay.tick_ms);
    let duty = duty("bus-relay", Phase::Relay, app.wakes.bus_relay.clone(), tick);
    let batch_max = usize::try_from(app.config.relay.batch_max).unwrap_or(usize::MAX);
    let holder = app.ids.uuid();
    supervisor.spawn(duty, move || {
        let line = BusLine::new(outbox(&app, &db), holder);
        let (parcels, buses, pace) = (parcels.clone(), buses.clone(), (pace.clone(), batch_max));
        BusRelay::new(line, parcels, buses, pace, app.spans.clone())
    });
    Ok(())
}

fn keeper(
    supervisor: &Supervisor,
    app: &App,
    db: &Db,
    parcels: &Parcels,
    handlers: &[Handling],
    pace: Pace,
) {
    let duties: Vec<Duty> = handlers.iter().map(|one| (one.service(), Some(one.kinds()))).collect();
    let (app, db, parcels) = (app.clone(), db.clone(), parcels.clone());
    supervisor.spawn(duty("bus-keeper", Phase::Workers, Wake::default(), SWEEP), move || {
        let recovery = Recovery::new(Lane::Bus, outbox(&app, &db), duties.clone());
        let (bus, relay) = (Arc::clone(&app.bus), app.wakes.bus_relay.clone());
        let upkeep = (relay, app.signals.clone(), app.config.bus.max_length);
        let keeper =
            BusKeeper::new(recovery, parcels.clone(), bus, app.clock.clone(), pace.clone(), upkeep);
        std::future::ready(Ok(keeper))
    });
}

fn consumer(supervisor: &Supervisor, app: &App, db: &Db, handler: Handling) {
    let (app, db) = (app.clone(), db.clone());
    let service = handler.service();
    let name = format!("bus-consumer-{}", service.name());
    let holder = app.ids.uuid();
    // What it waits for is the broker: it is never rung, and rests only to look up.
    supervisor.spawn(duty(&name, Phase::Workers, Wake::default(), IDLE), move || {
        let config = &app.config.bus;
        let taker = Taker::new(&app, db.clone(), Arc::clone(&handler));
        let streams = taker.streams().iter().map(ToString::to_string).collect();
        let (clock, lease_ms) = (app.clock.clone(), config.stream_lease_ms);
        let shares = Shares::new(db.clone(), clock, holder, service, streams, lease_ms);
        let consumer = BusConsumer::new(Arc::clone(&app.bus), taker, shares, config.read_max);
        std::future::ready(Ok(consumer))
    });
}

fn outbox(app: &App, db: &Db) -> Outbox {
    let (clock, config) = (app.clock.clone(), Arc::clone(&app.config));
    Outbox::new(db.clone(), clock, app.ids, config)
}
