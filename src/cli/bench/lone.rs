//! The two ends of the scale: one person on an idle server, who must not pay for what the crowd
//! gains, and everybody who comes after the last seat is gone.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use super::Bench;
use super::result::Goal;
use super::rig::{How, Rig};
use crate::cli::hammer::load::{Outcome, quantile};
use crate::cli::hammer::plan::Limit;
use crate::cli::hammer::stage::Kind;

/// People who book.
const BUYERS: u64 = 1000;
/// Round trips to Redis that are timed.
const ROUND_TRIPS: usize = 2000;
/// Connections that ask for what is gone.
const CROWD: u16 = 64;

/// One booking at a time, against twice the plain transaction and one Redis round trip.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let mut rig = Rig::raise(&bench.services, BUYERS).await?;
    let measured = lone(bench, &mut rig).await;
    rig.raze(&bench.services).await;
    measured
}

async fn lone(bench: &mut Bench, rig: &mut Rig) -> anyhow::Result<()> {
    let kind = Kind { capacity: 1_000_000, numbered: false, policy: "strict", party_max: 1 };
    let events = rig.open(&kind, 1).await?;
    let how = How { keys: bench.keys, waitlist: true };
    // The first requests prepare statements; they are not the ones to measure.
    rig.load(events.clone(), 1, Limit::Bookings(200), how).await?;
    for run in 1..=bench.size.runs {
        rig.drained().await?;
        bench.idle.wait().await;
        let plain = bench.pgbench.run(1, bench.size.short).await?;
        let redis_ms = redis_round_trip_ms(bench.services.config.redis.url.expose_secret()).await?;
        let limit = Limit::Bookings(bench.size.lone_bookings);
        let ours = rig.load(events.clone(), 1, limit, how).await?;
        let p50 = Duration::from_micros(quantile(&ours.latencies_us(), 500));
        let p50_ms = p50.as_secs_f64() * 1e3;
        let allowed_ms = 2.0 * plain.p50_ms + redis_ms;
        Bench::say(format!("lone run {run}: {p50_ms:.3} ms, allowed {allowed_ms:.3} ms"));
        let board = &mut bench.board;
        let share = p50_ms / allowed_ms;
        board.add("lone_p50_share", "of 2 pgbench + Redis", Goal::AtMost(1.0), share);
        board.add("lone_p50", "ms", Goal::None, p50_ms);
        board.add("pgbench_lone_p50", "ms", Goal::None, plain.p50_ms);
        board.add("redis_round_trip", "ms", Goal::None, redis_ms);
    }
    Ok(())
}

/// The median of a command that does nothing.
async fn redis_round_trip_ms(url: &str) -> anyhow::Result<f64> {
    let client = redis::Client::open(url).context("REDIS_URL")?;
    let mut connection = client.get_multiplexed_async_connection().await.context("REDIS_URL")?;
    let mut times_us = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        let _: String = redis::cmd("PING").query_async(&mut connection).await?;
        times_us.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    times_us.sort_unstable();
    Ok(Duration::from_micros(quantile(&times_us, 500)).as_secs_f64() * 1e3)
}

/// Told that there is nothing left, against the rate at which `pgbench` confirms.
pub async fn sold_out(bench: &mut Bench) -> anyhow::Result<()> {
    let mut rig = Rig::raise(&bench.services, BUYERS).await?;
    let measured = answers(bench, &mut rig).await;
    rig.raze(&bench.services).await;
    measured
}

async fn answers(bench: &mut Bench, rig: &mut Rig) -> anyhow::Result<()> {
    let kind = Kind { capacity: 1, numbered: false, policy: "strict", party_max: 1 };
    let events = rig.open(&kind, 1).await?;
    let how = How { keys: bench.keys, waitlist: false };
    rig.load(events.clone(), 1, Limit::Bookings(2), how).await?;
    for run in 1..=bench.size.runs {
        bench.idle.wait().await;
        let plain = bench.pgbench.run(CROWD, bench.size.short).await?;
        let ours = rig.load(events.clone(), CROWD, Limit::For(bench.size.short), how).await?;
        let told =
            |outcome: &Outcome| matches!(outcome, Outcome::Refused(code) if &**code == "sold_out");
        anyhow::ensure!(
            ours.count(told) == ours.count(|_| true),
            "an event that is sold out answered something else: {:?}",
            ours.seen.iter().map(|seen| &seen.outcome).find(|outcome| !told(outcome))
        );
        Bench::say(format!(
            "sold-out run {run}: {:.0}/s, pgbench confirms {:.0}/s",
            ours.per_second(),
            plain.per_second
        ));
        let ratio = ours.per_second() / plain.per_second;
        bench.board.add("sold_out_ratio", "x pgbench", Goal::AtLeast(5.0), ratio);
        bench.board.add("sold_out_rate", "answers/s", Goal::None, ours.per_second());
    }
    Ok(())
}
