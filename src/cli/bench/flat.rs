//! What a booking costs must not depend on how much else there is: seats on sale, events, a past.

use std::time::Duration;

use anyhow::ensure;

use super::Bench;
use super::result::Goal;
use super::rig::{How, Rig};
use crate::cli::hammer::load::{Outcome, Run, quantile};
use crate::cli::hammer::plan::Limit;
use crate::cli::hammer::stage::Kind;
use crate::postgres::rehearsal;

/// What still counts as flat: the dearest at most this many times the cheapest.
const FLAT: Goal = Goal::AtMost(1.5);
/// People who book.
const BUYERS: u64 = 2000;
/// Seats on sale that are compared.
const SEATS: [u32; 3] = [10, 100, 10_000];
/// Bookings of each of those events: as many as the smallest has seats.
const BOOKINGS_PER_EVENT: u64 = 10;
/// Connections when it is about the rate.
const CROWD: u16 = 64;
/// Seats that never run out here.
const MANY: u32 = 1_000_000;

/// One after the other at events with 10, 100 and 10,000 seats, general and numbered.
pub async fn seats(bench: &mut Bench) -> anyhow::Result<()> {
    let mut rig = Rig::raise(&bench.services, BUYERS).await?;
    let measured = seats_at(bench, &mut rig).await;
    rig.raze(&bench.services).await;
    measured
}

async fn seats_at(bench: &mut Bench, rig: &mut Rig) -> anyhow::Result<()> {
    for (numbered, name) in [(false, "seats_general"), (true, "seats_numbered")] {
        for run in 1..=bench.size.runs {
            let mut medians = Vec::new();
            for capacity in SEATS {
                let events = usize::try_from(bench.size.lone_bookings / BOOKINGS_PER_EVENT)?;
                let kind = Kind { capacity, numbered, policy: "strict", party_max: 1 };
                let events = rig.open(&kind, events).await?;
                rig.drained().await?;
                bench.idle.wait().await;
                let limit = Limit::Bookings(bench.size.lone_bookings);
                let ours = rig.load(events, 1, limit, how(bench)).await?;
                let p50_ms = confirmed_p50_ms(&ours)?;
                let figure = format!("{name}_{capacity}_p50");
                bench.board.add(&figure, "ms", Goal::None, p50_ms);
                medians.push(p50_ms);
            }
            Bench::say(format!("{name} run {run}: {medians:.3?} ms"));
            bench.board.add(&format!("{name}_flat"), "dearest/cheapest", FLAT, spread(&medians));
        }
    }
    Ok(())
}

/// The same bookings at one event and at a thousand: alone and in a crowd.
pub async fn events(bench: &mut Bench) -> anyhow::Result<()> {
    let mut rig = Rig::raise(&bench.services, BUYERS).await?;
    let measured = events_at(bench, &mut rig).await;
    rig.raze(&bench.services).await;
    measured
}

async fn events_at(bench: &mut Bench, rig: &mut Rig) -> anyhow::Result<()> {
    let kind = Kind { capacity: MANY, numbered: false, policy: "strict", party_max: 1 };
    let many = rig.open(&kind, bench.size.events).await?;
    let one = many.first().copied().into_iter().collect::<Vec<_>>();
    for run in 1..=bench.size.runs {
        let (mut lone, mut crowd) = (Vec::new(), Vec::new());
        for (events, name) in [(&one, "one"), (&many, "many")] {
            rig.drained().await?;
            bench.idle.wait().await;
            let limit = Limit::Bookings(bench.size.lone_bookings);
            let alone = rig.load(events.clone(), 1, limit, how(bench)).await?;
            lone.push(confirmed_p50_ms(&alone)?);
            rig.drained().await?;
            let limit = Limit::Bookings(bench.size.bookings);
            let together = rig.load(events.clone(), CROWD, limit, how(bench)).await?;
            confirmed_p50_ms(&together)?;
            crowd.push(1e6 / together.per_second());
            let figure = format!("events_{name}_rate");
            bench.board.add(&figure, "bookings/s", Goal::None, together.per_second());
        }
        Bench::say(format!("events run {run}: {lone:.3?} ms alone, {crowd:.1?} µs in a crowd"));
        bench.board.add("events_flat_lone", "dearest/cheapest", FLAT, spread(&lone));
        bench.board.add("events_flat_crowd", "dearest/cheapest", FLAT, spread(&crowd));
    }
    Ok(())
}

/// The same bookings at an event without a past, and at one with a million old bookings.
pub async fn past(bench: &mut Bench) -> anyhow::Result<()> {
    let mut young = Rig::raise(&bench.services, BUYERS).await?;
    let mut old = Rig::raise(&bench.services, BUYERS).await?;
    let measured = past_at(bench, &mut young, &mut old).await;
    young.raze(&bench.services).await;
    old.raze(&bench.services).await;
    measured
}

async fn past_at(bench: &mut Bench, young: &mut Rig, old: &mut Rig) -> anyhow::Result<()> {
    let kind = Kind { capacity: MANY, numbered: false, policy: "strict", party_max: 1 };
    let young_events = young.open(&kind, 1).await?;
    let old_events = old.open(&kind, 1).await?;
    let conn = old.db.get().await?;
    rehearsal::insert_past(&conn, old_events.first().copied().unwrap_or_default(), bench.size.past)
        .await?;
    rehearsal::vacuum(&conn).await?;
    drop(conn);
    for run in 1..=bench.size.runs {
        let mut costs = Vec::new();
        for (rig, events, name) in
            [(&mut *young, &young_events, "none"), (&mut *old, &old_events, "many")]
        {
            bench.services.checkpoint().await;
            bench.idle.wait().await;
            let limit = Limit::Bookings(bench.size.bookings);
            let ours = rig.load(events.clone(), CROWD, limit, how(bench)).await?;
            confirmed_p50_ms(&ours)?;
            costs.push(1e6 / ours.per_second());
            let figure = format!("past_{name}_rate");
            bench.board.add(&figure, "bookings/s", Goal::None, ours.per_second());
            rig.drained().await?;
        }
        Bench::say(format!("past run {run}: {costs:.1?} µs a booking"));
        bench.board.add("past_flat", "dearest/cheapest", FLAT, spread(&costs));
    }
    Ok(())
}

fn how(bench: &Bench) -> How {
    How { keys: bench.keys, waitlist: true }
}

/// The median latency of a run in which everybody got a seat.
fn confirmed_p50_ms(run: &Run) -> anyhow::Result<f64> {
    let odd = run.seen.iter().find(|seen| seen.outcome != Outcome::Confirmed);
    ensure!(odd.is_none(), "somebody got no seat: {odd:?}");
    Ok(Duration::from_micros(quantile(&run.latencies_us(), 500)).as_secs_f64() * 1e3)
}

/// The dearest over the cheapest.
fn spread(costs: &[f64]) -> f64 {
    let dearest = costs.iter().copied().fold(f64::MIN, f64::max);
    let cheapest = costs.iter().copied().fold(f64::MAX, f64::min);
    dearest / cheapest.max(1e-9)
}
