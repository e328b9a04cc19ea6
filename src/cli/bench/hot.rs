//! One hot event that everybody wants a seat of: how many bookings a second, for how long people
//! wait, and how the messages drain meanwhile and afterwards.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Bench;
use super::broker;
use super::pgbench::Plain;
use super::result::{Goal, float};
use super::rig::{How, Rig};
use crate::cli::hammer::load::{Outcome, quantile};
use crate::cli::hammer::plan::Limit;
use crate::cli::hammer::stage::Kind;
use crate::postgres::rehearsal;

/// Connections, and how many times the rate of the plain transaction they have to reach.
const CROWDS: [(u16, f64); 2] = [(64, 15.0), (256, 40.0)];
/// More seats than a burst can sell.
const SEATS: u32 = 1_000_000;
/// People who book.
const BUYERS: u64 = 5000;
/// How often the drain is looked at: counting takes time from it.
const LOOK: Duration = Duration::from_secs(2);

/// What a burst came to.
struct Burst {
    per_second: f64,
    p99_ms: f64,
    /// Messages a second that were sent and arrived, while people booked and afterwards.
    drained_during: f64,
    drained_after: f64,
    /// Acknowledged bookings that are not there.
    missing: f64,
}

/// Measures all of it, pgbench and the server taking turns.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    for run in 1..=bench.size.runs {
        bench.idle.wait().await;
        let raw = broker::raw(&bench.services.config.rabbitmq, bench.size.short).await?;
        bench.board.add("broker_raw", "messages/s", Goal::None, raw);
        let mut rate_before = None;
        for (connections, times) in CROWDS {
            bench.services.checkpoint().await;
            bench.idle.wait().await;
            let plain = bench.pgbench.run(connections, bench.size.plain).await?;
            bench.services.checkpoint().await;
            bench.idle.wait().await;
            let burst = burst(bench, connections).await?;
            Bench::say(format!(
                "hot run {run}, {connections} connections: {:.0}/s, pgbench {:.0}/s",
                burst.per_second, plain.per_second
            ));
            record(bench, connections, times, &plain, &burst, raw);
            if let Some(before) = rate_before.replace(burst.per_second) {
                let ratio = burst.per_second / before;
                bench.board.add("hot_256_over_64", "x", Goal::AtLeast(1.0), ratio);
            }
        }
    }
    Ok(())
}

fn record(bench: &mut Bench, connections: u16, times: f64, plain: &Plain, burst: &Burst, raw: f64) {
    let board = &mut bench.board;
    let mut add = |name: &str, unit: &str, goal: Goal, value: f64| {
        board.add(&format!("{name}_{connections}"), unit, goal, value);
    };
    let ratio = burst.per_second / plain.per_second;
    add("hot_ratio", "x pgbench", Goal::AtLeast(times), ratio);
    add("hot_rate", "bookings/s", Goal::None, burst.per_second);
    add("pgbench_rate", "bookings/s", Goal::None, plain.per_second);
    add("hot_p99", "ms", Goal::None, burst.p99_ms);
    if connections == 64 {
        let share = burst.p99_ms / plain.mean_ms;
        add("hot_p99_share", "of pgbench's mean", Goal::AtMost(0.2), share);
    }
    add("drain_during_burst", "messages/s", Goal::AtLeast(1000.0), burst.drained_during);
    add("drain_after_burst", "messages/s", Goal::None, burst.drained_after);
    let share = burst.drained_after / raw;
    add("drain_after_share", "of the bare broker", Goal::AtLeast(0.333), share);
    add("acknowledged_missing", "bookings", Goal::AtMost(0.0), burst.missing);
}

async fn burst(bench: &Bench, connections: u16) -> anyhow::Result<Burst> {
    let mut rig = Rig::raise(&bench.services, BUYERS).await?;
    let burst = burst_at(&mut rig, bench, connections).await;
    rig.raze(&bench.services).await;
    burst
}

async fn burst_at(rig: &mut Rig, bench: &Bench, connections: u16) -> anyhow::Result<Burst> {
    let kind = Kind { capacity: SEATS, numbered: false, policy: "strict", party_max: 1 };
    let events = rig.open(&kind, 1).await?;
    let how = How { keys: bench.keys, waitlist: true };
    let started = Instant::now();
    let run = rig.load(events.clone(), connections, Limit::For(bench.size.burst), how).await?;
    let during = rig.progress().await?;
    let burst_seconds = started.elapsed().as_secs_f64();
    let (after, after_seconds) = drain(rig, during, bench.size.drain).await?;

    let arrived = |progress: &rehearsal::Progress| count(progress.sent.min(progress.notified));
    let acknowledged = run.count(|outcome| *outcome == Outcome::Confirmed);
    let event = events.first().copied().unwrap_or_default();
    let (there, _) = rehearsal::sold(&*rig.db.get().await?, event).await?;
    let p99 = Duration::from_micros(quantile(&run.latencies_us(), 990));
    if !run.errors.is_empty() {
        Bench::say(format!("  errors: {:?}", run.errors));
    }
    Ok(Burst {
        per_second: float(acknowledged) / run.elapsed.as_secs_f64().max(1e-6),
        p99_ms: p99.as_secs_f64() * 1e3,
        drained_during: float(arrived(&during)) / burst_seconds,
        drained_after: float(arrived(&after).saturating_sub(arrived(&during))) / after_seconds,
        missing: float(acknowledged.saturating_sub(count(there))),
    })
}

/// Watches the messages until all have arrived, or for that long.
async fn drain(
    rig: &Rig,
    from: rehearsal::Progress,
    time: Duration,
) -> anyhow::Result<(rehearsal::Progress, f64)> {
    let started = Instant::now();
    let mut last = (from, 1e-6);
    while last.0.notified < last.0.written && started.elapsed() < time {
        sleep(LOOK.min(time)).await;
        last = (rig.progress().await?, started.elapsed().as_secs_f64());
    }
    Ok(last)
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or_default()
}
