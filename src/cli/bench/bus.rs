//! The bus: how fast the relay publishes beside the bare client, how fast messages are consumed
//! with their claims and effects beside `psql` inserting the same rows, and how long a message
//! takes from its cause to the commit of its effects.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use uuid::Uuid;

use super::Bench;
use super::result::{Goal, float};
use crate::actors::bus_consumer::BusConsumer;
use crate::actors::bus_relay::BusRelay;
use crate::actors::pace::Pace;
use crate::actors::{Actor as _, Next};
use crate::app::App;
use crate::app::messages::bus_line::BusLine;
use crate::app::messages::handle::{Handled, Handler, Message, Trouble};
use crate::app::messages::parcels::Parcels;
use crate::app::messages::relay::Outbox;
use crate::app::messages::shares::Shares;
use crate::app::messages::take::Taker;
use crate::bus::{Outgoing, Stream};
use crate::cli::hammer::load::quantile;
use crate::clock::Ids;
use crate::config::Provider;
use crate::domain::ids::MessageId;
use crate::domain::processing::ServiceContext;
use crate::postgres::{Conn, Db, migrate, rehearsal};
use crate::server;

/// Consumed at least this share of what `psql` inserts.
const CONSUMED_MIN: f64 = 1.0 / 3.0;
/// Published at least this share of what the bare client publishes.
const PUBLISHED_MIN: f64 = 0.5;
/// From cause to commit, in milliseconds.
const P50_MAX: f64 = 10.0;
const P99_MAX: f64 = 50.0;
/// The flow: so many messages each beat, 1,000 a second.
const BEAT: Duration = Duration::from_millis(5);
const PER_BEAT: i64 = 5;
/// Rows that `psql` inserts in one transaction, and messages that the bare client confirms at once.
const BATCH: usize = 500;
/// How long the last messages may take.
const PATIENCE: Duration = Duration::from_secs(30);
const KINDS: &[&str] = &["interest.changed"];

/// Measures with every broker that is there.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    for _ in 0..bench.size.runs {
        for (provider, name) in [(Provider::Redis, "redis"), (Provider::Nats, "nats")] {
            bench.idle.wait().await;
            run(bench, provider, name).await.with_context(|| format!("over {name}"))?;
        }
    }
    Ok(())
}

/// Writes a row for each message, and remembers when it happened.
#[derive(Clone, Default)]
struct Effects(Arc<Mutex<Vec<Timestamp>>>);

impl Handler for Effects {
    fn service(&self) -> ServiceContext {
        ServiceContext::UserInteractions
    }

    fn kinds(&self) -> &'static [&'static str] {
        KINDS
    }

    fn handle<'a>(
        &'a self,
        tx: &'a Conn,
        batch: &'a [Message],
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Handled, Trouble>> {
        Box::pin(async move {
            let ids: Vec<Uuid> = batch.iter().map(|message| message.id.0).collect();
            let subject =
                |message: &'a Message| message.data.get("eventId").and_then(Value::as_str);
            let subjects: Vec<&str> =
                batch.iter().map(|message| subject(message).unwrap_or_default()).collect();
            rehearsal::write_effects(tx, &ids, &subjects, now).await?;
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            seen.extend(batch.iter().map(|message| message.happened_at));
            Ok(Handled::default())
        })
    }
}

/// The parts of a server that the bus needs, in this process, and nothing else running.
struct Parts {
    app: App,
    effects: Effects,
    relay: BusRelay,
    consumer: BusConsumer,
}

async fn parts(bench: &Bench, provider: Provider) -> anyhow::Result<Parts> {
    let (name, url) = bench.services.create_database("bus").await?;
    let mut config = bench.services.config.clone();
    config.postgres.url = SecretString::from(url);
    config.bus.provider = provider;
    config.bus.prefix = format!("{name}_");
    let app = server::handles(config)?;
    migrate::migrate(&app.db).await?;
    rehearsal::create_effects(&*app.db.get().await?).await?;
    let effects = Effects::default();
    let handler: Arc<dyn Handler> = Arc::new(effects.clone());
    let (db, config) = (Db::by_key(&app.config.postgres, 2)?, Arc::clone(&app.config));
    let parcels = Parcels::new(app.registry.clone(), &[Arc::clone(&handler)]);
    let outbox = Outbox::new(db.clone(), app.clock.clone(), app.ids, config);
    let line = BusLine::new(outbox, app.ids.uuid());
    let pace = Pace::new(app.wakes.busy.clone(), app.clock.clone(), 0);
    let batch_max = usize::try_from(app.config.relay.batch_max)?;
    let relay = BusRelay::new(
        line,
        parcels,
        (Arc::clone(&app.bus), None),
        (pace, batch_max),
        app.spans.clone(),
    )
    .await?;
    let (service, lease_ms) = (handler.service(), app.config.bus.stream_lease_ms);
    let taker = Taker::new(&app, db.clone(), handler);
    let streams = taker.streams().iter().map(ToString::to_string).collect();
    let shares = Shares::new(db, app.clock.clone(), app.ids.uuid(), service, streams, lease_ms);
    let consumer = BusConsumer::new(Arc::clone(&app.bus), taker, shares, app.config.bus.read_max);
    Ok(Parts { app, effects, relay, consumer })
}

async fn run(bench: &mut Bench, provider: Provider, name: &str) -> anyhow::Result<()> {
    let mut parts = parts(bench, provider).await?;
    let (messages, flow) = (bench.size.messages, bench.size.flow);
    let count = f64::from(messages);
    rehearsal::fill_outbox(&*parts.app.db.get().await?, i64::from(messages)).await?;
    bench.services.checkpoint().await;

    let bare = count / bare(&parts.app, messages).await?.as_secs_f64();
    let begun = Instant::now();
    while parts.relay.step().await? == Next::Again {}
    let published = count / begun.elapsed().as_secs_f64();

    let plain = count / plain(&parts.app, messages).await?.as_secs_f64();
    let begun = Instant::now();
    while parts.seen() < usize::try_from(messages)? {
        parts.consumer.step().await?;
        ensure!(begun.elapsed() < PATIENCE * 4, "only {} were consumed", parts.seen());
    }
    let consumed = count / begun.elapsed().as_secs_f64();
    let rows = rehearsal::count_effects(&*parts.app.db.get().await?).await?;
    ensure!(rows == 2 * i64::from(messages), "{rows} rows of effects");

    let mut took_us = latencies(parts, flow).await?;
    took_us.sort_unstable();
    let ms = |share| Duration::from_micros(quantile(&took_us, share)).as_secs_f64() * 1e3;
    let (p50, p99) = (ms(500), ms(990));
    Bench::say(format!(
        "bus over {name}: {published:.0}/s published (bare {bare:.0}), {consumed:.0}/s consumed \
         (psql {plain:.0}), cause to commit p50 {p50:.1} ms, p99 {p99:.1} ms"
    ));
    let rate = float(u64::try_from(took_us.len())?) / flow.as_secs_f64();
    let mut add = |what: &str, unit, goal, value| {
        bench.board.add(&format!("bus_{name}_{what}"), unit, goal, value);
    };
    add("published", "messages/s", Goal::None, published);
    add("published_share", "of bare", Goal::AtLeast(PUBLISHED_MIN), published / bare);
    add("consumed", "messages/s", Goal::None, consumed);
    add("consumed_share", "of psql", Goal::AtLeast(CONSUMED_MIN), consumed / plain);
    add("flow", "messages/s", Goal::AtLeast(950.0), rate);
    add("latency_p50", "ms", Goal::AtMost(P50_MAX), p50);
    add("latency_p99", "ms", Goal::AtMost(P99_MAX), p99);
    Ok(())
}

impl Parts {
    fn seen(&self) -> usize {
        self.effects.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The bare client publishes messages of the same size, on a stream that nobody reads.
async fn bare(app: &App, messages: u32) -> anyhow::Result<Duration> {
    let stream = Stream::of("post.created");
    app.bus.declare(std::slice::from_ref(&stream), &[]).await?;
    let body = Bytes::from(vec![b'x'; 700]);
    let outgoing =
        || Outgoing { stream: stream.clone(), id: MessageId(Ids.uuid()), body: body.clone() };
    let all: Vec<Outgoing> = (0..messages).map(|_| outgoing()).collect();
    let begun = Instant::now();
    for batch in all.chunks(BATCH) {
        for outcome in app.bus.publish(batch).await {
            outcome?;
        }
    }
    Ok(begun.elapsed())
}

/// The same rows as consuming writes, plainly.
async fn plain(app: &App, messages: u32) -> anyhow::Result<Duration> {
    let all: Vec<Uuid> = (0..messages).map(|_| Ids.uuid()).collect();
    let subject = Ids.uuid().to_string();
    let conn = app.db.get().await?;
    let begun = Instant::now();
    for batch in all.chunks(BATCH) {
        rehearsal::insert_plainly(&conn, batch, &subject, app.clock.now()).await?;
    }
    Ok(begun.elapsed())
}

/// How long messages took that flow for so long, in microseconds.
async fn latencies(parts: Parts, flow: Duration) -> anyhow::Result<Vec<u64>> {
    let Parts { app, effects, mut relay, mut consumer } = parts;
    let mut moving: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let wake = app.wakes.bus_relay.clone();
    moving.spawn(async move {
        loop {
            while relay.step().await? == Next::Again {}
            wake.rung().await;
        }
    });
    let seen = effects.0.clone();
    seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let took: Arc<Mutex<Vec<u64>>> = Arc::default();
    let (clock, kept) = (app.clock.clone(), Arc::clone(&took));
    moving.spawn(async move {
        loop {
            consumer.step().await?;
            let now = clock.now();
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            for happened_at in seen.drain(..) {
                let took = now.duration_since(happened_at).as_micros();
                kept.push(u64::try_from(took).unwrap_or_default());
            }
        }
    });
    let (begun, mut beat, mut sent) = (Instant::now(), interval(BEAT), 0);
    while begun.elapsed() < flow {
        beat.tick().await;
        rehearsal::fill_outbox(&*app.db.get().await?, PER_BEAT).await?;
        app.wakes.bus_relay.ring();
        sent += usize::try_from(PER_BEAT)?;
    }
    let ended = Instant::now();
    while took.lock().unwrap_or_else(PoisonError::into_inner).len() < sent {
        if let Some(failed) = moving.try_join_next() {
            failed??;
        }
        ensure!(ended.elapsed() < PATIENCE, "not all of {sent} messages came through");
        sleep(BEAT).await;
    }
    moving.shutdown().await;
    Ok(std::mem::take(&mut *took.lock().unwrap_or_else(PoisonError::into_inner)))
}
