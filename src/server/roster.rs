//! The roster: every long-lived task, in the order in which they start, with its name, what
//! happens when it fails, when it stops, and how long it rests.

mod bus;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Mutex, mpsc};

use crate::actors::booking_desk::{BookingDesk, Doubts};
use crate::actors::booking_gate::BookingGate;
use crate::actors::dead_collector::DeadCollector;
use crate::actors::event_cascade::EventCascade;
use crate::actors::hold_sweeper::HoldSweeper;
use crate::actors::housekeeper::Housekeeper;
use crate::actors::janitor::Janitor;
use crate::actors::lost_mail::LostMail;
use crate::actors::notification_consumer::NotificationConsumer;
use crate::actors::outbox_relay::OutboxRelay;
use crate::actors::pace::Pace;
use crate::actors::reconciler::Reconciler;
use crate::actors::redriver::Redriver;
use crate::actors::seat_hub::SeatHub;
use crate::actors::span_exporter::SpanExporter;
use crate::actors::stock_publisher::StockPublisher;
use crate::actors::supervisor::Supervisor;
use crate::actors::waitlist_sweeper::WaitlistSweeper;
use crate::actors::watchman::Watchman;
use crate::actors::{Actor, Duty, Phase, Policy};
use crate::app::App;
use crate::app::accounts::{prune, revocations};
use crate::app::alarms::watch::Lookout;
use crate::app::bookings::desk::Intake;
use crate::app::bookings::gate::Lives;
use crate::app::bookings::settle::Settler;
use crate::app::bookings::show::Notice;
use crate::app::events::complete;
use crate::app::integrity::epoch;
use crate::app::messages::consume::Inbox;
use crate::app::messages::dead_letters::DeadLetters;
use crate::app::messages::relay::Outbox;
use crate::app::seat_rooms::guard;
use crate::config::{Role, process_name};
use crate::postgres::Db;
use crate::telemetry::otlp::Collector;
use crate::telemetry::spans;
use crate::wake::Wake;

/// Groups that the gate may be ahead of the desk: enough to fill a batch from small groups.
const AHEAD: usize = 64;
/// Publications that may wait for Redis; what does not fit is found by the reconciler.
const PUBLICATIONS: usize = 4096;
/// How long an actor rests that is rung for all it does.
const RUNG: Duration = Duration::from_secs(1);
/// How often holds are looked through for those that are over.
const EXPIRY: Duration = Duration::from_millis(250);
/// How often queues and cancelled events are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// How often jobs that send dead letters again are gone on with.
const REDRIVE: Duration = Duration::from_millis(200);
/// How long a consumer rests without messages.
const IDLE: Duration = Duration::from_millis(5);
/// Who deal with what the consumers receive: one gathers while another commits.
const CONSUMING: u16 = 2;
/// How soon a deactivation elsewhere is known here.
const REVOCATIONS: Duration = Duration::from_secs(1);
/// How often what has expired is forgotten.
const CLEANUP: Duration = Duration::from_mins(10);
/// How often events are looked through for those that are over.
const COMPLETION: Duration = Duration::from_secs(10);
/// How often histograms are folded: what is recorded between is kept raw, in memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts everybody. The desk works in every process: who takes commands settles them.
pub fn start(
    supervisor: &Supervisor,
    app: &App,
    lanes: Vec<Intake>,
    spans: Option<spans::Intake>,
    recorder: &PrometheusHandle,
) -> anyhow::Result<()> {
    if let Some(spans) = spans {
        telling(supervisor, app, spans)?;
    }
    desk(supervisor, app, lanes)?;
    if app.config.plays(Role::Workers) {
        workers(supervisor, app);
        watchman(supervisor, app)?;
        messages(supervisor, app)?;
        let rate = app.config.relay.busy_rate_per_second;
        bus::start(supervisor, app, || Pace::new(app.wakes.busy.clone(), app.clock.clone(), rate))?;
        cleanup(supervisor, app);
    } else {
        // Elsewhere somebody reconciles, but whether this Redis is still the same one is for every
        // process to see: the gate asks it, and the desk shows in it what it did.
        let (handles, tick) = (app.clone(), Duration::from_millis(app.config.reconciler.tick_ms));
        chore(supervisor, "redis-epoch", tick, move || {
            let app = handles.clone();
            async move { Ok(epoch::ensure(&app.db, &app.redis).await.map(drop)?) }
        });
    }
    let handles = app.clone();
    chore(supervisor, "revocations", REVOCATIONS, move || {
        let app = handles.clone();
        async move { Ok(revocations::load(&app).await?) }
    });
    if app.config.plays(Role::Api) {
        sockets(supervisor, app);
    }
    let upkeep = recorder.clone();
    chore(supervisor, "metrics-upkeep", UPKEEP, move || {
        upkeep.run_upkeep();
        async { Ok(()) }
    });
    Ok(())
}

/// Who tells the collector of traces.
fn telling(supervisor: &Supervisor, app: &App, spans: spans::Intake) -> anyhow::Result<()> {
    let collector = Collector::new(&app.config.tracing, app.ids.uuid())?;
    let batch_max = app.config.tracing.batch_max;
    enter(supervisor, duty("span-exporter", Phase::Spans, spans.wake.clone(), RUNG), move || {
        SpanExporter::new(spans.clone(), collector.clone(), batch_max)
    });
    Ok(())
}

/// Who serves those who watch seats.
fn sockets(supervisor: &Supervisor, app: &App) {
    let handles = app.clone();
    // It waits by itself and ends a step in time; its rooms are empty by then.
    enter(supervisor, duty("seat-hub", Phase::Intake, Wake::default(), RUNG), move || {
        SeatHub::new(handles.clone())
    });
    let handles = app.clone();
    chore(supervisor, "socket-revocations", REVOCATIONS, move || {
        guard::check_revoked(&handles);
        async { Ok(()) }
    });
    let handles = app.clone();
    let recheck = Duration::from_millis(app.config.sockets.recheck_ms);
    chore(supervisor, "socket-roles", recheck, move || {
        let app = handles.clone();
        async move { Ok(guard::check_roles(&app).await?) }
    });
}

/// The lanes of the booking desk, and who shows what they did.
fn desk(supervisor: &Supervisor, app: &App, lanes: Vec<Intake>) -> anyhow::Result<()> {
    let config = &app.config.booking;
    let (publisher, publications) = mpsc::channel(PUBLICATIONS);
    let publisher_wake = Wake::default();
    let db = Db::by_key(&app.config.postgres, lanes.len())?;
    for (index, intake) in lanes.into_iter().enumerate() {
        let (admitted, queue) = mpsc::channel(AHEAD);
        let (queue, desk_wake) = (Arc::new(Mutex::new(queue)), Wake::default());
        let gate = {
            let (app, intake, desk_wake) = (app.clone(), intake.clone(), desk_wake.clone());
            let batch_max = config.batch_max;
            // A caller waits no longer for a commit, and a lease bounds what is left of it then.
            let pin_ms = config.answer_timeout_ms.saturating_add(config.lease_ms);
            let lives = Lives { lease_ms: config.lease_ms, pin_ms };
            move || BookingGate {
                intake: intake.clone(),
                desk: admitted.clone(),
                desk_wake: desk_wake.clone(),
                redis: app.redis.clone(),
                ids: app.ids,
                batch_max,
                lives,
            }
        };
        let duty = duty(&format!("booking-gate-{index}"), Phase::Intake, intake.wake, RUNG);
        enter(supervisor, duty, gate);
        let desk = {
            let (app, db, publisher_wake) = (app.clone(), db.clone(), publisher_wake.clone());
            let publisher: mpsc::Sender<Notice> = publisher.clone();
            move || BookingDesk {
                queue: Arc::clone(&queue),
                settler: Settler { db: db.clone(), clock: app.clock.clone(), ids: app.ids },
                publisher: publisher.clone(),
                publisher_wake: publisher_wake.clone(),
                wakes: app.wakes.clone(),
                batch_max: app.config.booking.batch_max,
                again: VecDeque::new(),
                doubts: Doubts::default(),
                spans: app.spans.clone(),
            }
        };
        let duty = self::duty(&format!("booking-desk-{index}"), Phase::Workers, desk_wake, RUNG);
        enter(supervisor, duty, desk);
    }
    let (app, queue) = (app.clone(), Arc::new(Mutex::new(publications)));
    let duty = duty("stock-publisher", Phase::Relay, publisher_wake, RUNG);
    enter(supervisor, duty, move || StockPublisher {
        queue: Arc::clone(&queue),
        redis: app.redis.clone(),
        db: app.db.clone(),
        wakes: app.wakes.clone(),
    });
    Ok(())
}

/// Who works whether or not anybody asks.
fn workers(supervisor: &Supervisor, app: &App) {
    let tick = Duration::from_millis(app.config.reconciler.tick_ms);
    let duty_of = |name: &str, wake: &Wake, tick| duty(name, Phase::Workers, wake.clone(), tick);

    let handles = app.clone();
    enter(supervisor, duty_of("event-cascade", &app.wakes.event_cascade, SWEEP), move || {
        EventCascade { app: handles.clone() }
    });
    let handles = app.clone();
    enter(supervisor, duty_of("waitlist-sweeper", &Wake::default(), SWEEP), move || {
        WaitlistSweeper::new(handles.clone())
    });
    let handles = app.clone();
    enter(supervisor, duty_of("hold-sweeper", &app.wakes.hold_sweeper, EXPIRY), move || {
        HoldSweeper { app: handles.clone() }
    });
    let handles = app.clone();
    enter(supervisor, duty_of("reconciler", &app.wakes.reconciler, tick), move || {
        let batch_max = handles.config.reconciler.batch_max;
        Reconciler::new(handles.db.clone(), handles.redis.clone(), batch_max)
    });
}

/// Who sees to it that somebody is woken. It has a connection of its own: it is needed most when
/// there is none to be had.
fn watchman(supervisor: &Supervisor, app: &App) -> anyhow::Result<()> {
    let (handles, db) = (app.clone(), Db::by_key(&app.config.postgres, 1)?);
    let tick = Duration::from_millis(app.config.alarms.tick_ms);
    enter(supervisor, duty("watchman", Phase::Workers, Wake::default(), tick), move || {
        Watchman::new(Lookout::new(handles.clone(), db.clone(), process_name()))
    });
    Ok(())
}

/// The message plane: from the outbox to the broker, and from there to the inboxes.
fn messages(supervisor: &Supervisor, app: &App) -> anyhow::Result<()> {
    let config = &app.config;
    let rate = config.relay.busy_rate_per_second;
    let pace = || Pace::new(app.wakes.busy.clone(), app.clock.clone(), rate);
    let consumers = config.rabbitmq.consumers;
    let workers = consumers.min(CONSUMING);
    // The relay and each worker use one connection at a time.
    let db = Db::by_key(&config.postgres, usize::from(workers) + 4)?;

    let (handles, relay_db, relay_pace) = (app.clone(), db.clone(), pace());
    let tick = Duration::from_millis(config.relay.tick_ms);
    let wake = app.wakes.outbox_relay.clone();
    supervisor.spawn(duty("outbox-relay", Phase::Relay, wake, tick), move || {
        let (app, db, pace) = (handles.clone(), relay_db.clone(), relay_pace.clone());
        async move {
            let outbox = Outbox::new(db, app.clock.clone(), app.ids, Arc::clone(&app.config));
            OutboxRelay::new(&app.config, outbox, pace, app.spans.clone()).await
        }
    });
    lost_mail(supervisor, app, &db, pace());
    let handles = app.clone();
    enter(supervisor, duty("redriver", Phase::Workers, Wake::default(), REDRIVE), move || {
        Redriver { letters: DeadLetters::from(&handles) }
    });
    let inbox = Inbox::new(app, db);
    let consumers_pace = pace();
    for index in 0..workers {
        let share = (consumers + index) / workers;
        let (config, inbox) = (Arc::clone(config), inbox.clone());
        let (pace, spans) = (consumers_pace.clone(), app.spans.clone());
        let name = format!("notification-consumer-{index}");
        // What it waits for is its socket: it is never rung, and rests only to look up.
        supervisor.spawn(duty(&name, Phase::Workers, Wake::default(), IDLE), move || {
            let (config, inbox) = (Arc::clone(&config), inbox.clone());
            let (pace, spans) = (pace.clone(), spans.clone());
            async move { NotificationConsumer::new(&config, inbox, pace, share, spans).await }
        });
    }
    let config = Arc::clone(config);
    supervisor.spawn(duty("dead-collector", Phase::Workers, Wake::default(), SWEEP), move || {
        let (config, inbox) = (Arc::clone(&config), inbox.clone());
        async move { DeadCollector::new(&config, inbox).await }
    });
    Ok(())
}

/// Who finds what the broker lost.
fn lost_mail(supervisor: &Supervisor, app: &App, db: &Db, pace: Pace) {
    let (app, db) = (app.clone(), db.clone());
    supervisor.spawn(duty("lost-mail", Phase::Workers, Wake::default(), SWEEP), move || {
        let (app, db, pace) = (app.clone(), db.clone(), pace.clone());
        async move {
            let outbox = Outbox::new(db, app.clock.clone(), app.ids, Arc::clone(&app.config));
            let relay = app.wakes.outbox_relay.clone();
            let upkeep = (relay, app.signals.clone(), app.clock.clone());
            LostMail::new(&app.config, outbox, pace, upkeep).await
        }
    });
}

/// Forgets what has expired.
fn cleanup(supervisor: &Supervisor, app: &App) {
    let handles = app.clone();
    enter(supervisor, duty("janitor", Phase::Workers, Wake::default(), CLEANUP), move || {
        let app = &handles;
        Janitor::new(app.db.clone(), app.clock.clone(), Arc::clone(&app.config))
    });
    let handles = app.clone();
    chore(supervisor, "event-completion", COMPLETION, move || {
        let app = handles.clone();
        async move {
            // Bounded, and the next tick goes on.
            complete::complete_over(&app).await?;
            Ok(())
        }
    });
    let handles = app.clone();
    chore(supervisor, "sign-in-cleanup", CLEANUP, move || {
        let app = handles.clone();
        async move {
            let pruned = prune::prune(&app).await?;
            tracing::debug!(pruned, "forgot expired sign-ins");
            Ok(())
        }
    });
}

fn duty(name: &str, phase: Phase, wake: Wake, tick: Duration) -> Duty {
    Duty { name: name.to_owned(), policy: Policy::Restart, phase, wake, tick }
}

/// Enters an actor that needs nothing to be made.
fn enter<A: Actor>(
    supervisor: &Supervisor,
    duty: Duty,
    mut make: impl FnMut() -> A + Send + 'static,
) {
    supervisor.spawn(duty, move || std::future::ready(Ok(make())));
}

/// Enters a chore that is repeated at every tick.
fn chore<F, Fut>(supervisor: &Supervisor, name: &str, tick: Duration, work: F)
where
    F: FnMut() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let duty = duty(name, Phase::Workers, Wake::default(), tick);
    enter(supervisor, duty, move || Housekeeper(work.clone()));
}
