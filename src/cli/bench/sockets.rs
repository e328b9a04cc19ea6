//! Sockets beside a small Socket.IO server in Node: what an idle watcher takes, how soon all hear
//! of a hold, and whether a rush of holds reaches everybody. All with the same client.

mod hall;
mod peer;
mod wire;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use uuid::Uuid;

use self::hall::{Dialect, Hall, Place, replay};
use self::peer::Peer;
use self::wire::Wire;
use super::Bench;
use super::result::{Goal, float};
use super::rig::Rig;
use crate::cli::hammer::load::quantile;
use crate::cli::hammer::stage::Kind;

/// Seats of the events, and how many of them are sold where seats are told.
const SEATS: u32 = 5000;
const SOLD: u32 = 2500;
/// Seats in one booking.
const PARTY: u32 = 10;
/// Bookings at once while seats are sold.
const AT_ONCE: usize = 16;
/// People with accounts.
const BUYERS: u64 = 300;
/// Watchers who come and go before memory is looked at, so that what is there once is there.
const WARM: u32 = 100;
/// How long memory may settle.
const SETTLE: Duration = Duration::from_secs(2);
/// Descriptors that a process needs for other things.
const SPARE: u32 = 500;
/// Resident memory of an idle watcher, at most.
const KIB_MAX: f64 = 16.0;
/// Who watches holds.
const WATCHERS: u32 = 1000;
/// Holds of one turn, and the time from one to the next.
const HOLDS: u32 = 30;
const CALM: Duration = Duration::from_millis(60);
/// How soon all hear of a hold, as a share of the peer's time.
const SHARE_MAX: f64 = 0.75;
/// Who holds in the rush, each this often: 1,000 holds a second.
const HOLDERS: u32 = 100;
const BEAT: Duration = Duration::from_millis(100);
/// Watchers of the rush who keep all that they are told.
const KEEP: u32 = 10;
/// How long the last of it is waited for; it should take a tenth of that.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures all of it, the servers taking turns.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    if let Err(missing) = peer::prepare() {
        Bench::say(format!("sockets are left out: {missing:#}"));
        return Ok(());
    }
    let crowd = idle_watchers(bench.size.idle_watchers)?;
    for _ in 0..bench.size.runs {
        memory(bench, crowd).await.context("memory")?;
        let mut rig = Rig::raise(&bench.services, BUYERS).await?;
        let measured = live(bench, &mut rig).await;
        rig.raze(&bench.services).await;
        measured?;
    }
    Ok(())
}

/// As many as wanted, or as there are descriptors for; that is said.
fn idle_watchers(wanted: u32) -> anyhow::Result<u32> {
    let limits = std::fs::read_to_string("/proc/self/limits").context("/proc")?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = limit.and_then(|limit| limit.split_whitespace().next()?.parse::<u32>().ok());
    let allowed = limit.map_or(wanted, |limit| limit.saturating_sub(SPARE));
    ensure!(allowed > WATCHERS, "only {allowed} sockets may be open: raise ulimit -n");
    if allowed < wanted {
        Bench::say(format!("  the limit of descriptors allows {allowed} watchers, not {wanted}"));
    }
    Ok(wanted.min(allowed))
}

/// What an idle watcher takes, each time of a server that nobody has used before.
async fn memory(bench: &mut Bench, crowd: u32) -> anyhow::Result<()> {
    bench.idle.wait().await;
    let mut peer = Peer::raise(0)?;
    let place = peer_place(&peer);
    let pid = peer.pid();
    let theirs = weigh(&place, crowd, pid, || peer.collect()).await.context("the peer")?;
    drop(peer);
    bench.board.add("watchers_idle", "sockets", Goal::None, f64::from(crowd));
    bench.board.add("watcher_peer", "KiB each", Goal::None, theirs);
    for (dialect, name) in [(Dialect::Plain, "watcher_plain"), (Dialect::SocketIo, "watcher_io")] {
        let mut rig = Rig::raise(&bench.services, 1).await?;
        let weighed = weigh_rig(&mut rig, dialect, crowd).await;
        rig.raze(&bench.services).await;
        let ours = weighed.context(name)?;
        Bench::say(format!("{name}: {ours:.1} KiB each, the peer {theirs:.1} KiB"));
        bench.board.add(name, "KiB each", Goal::AtMost(KIB_MAX), ours);
        // Below the peer's, not the same.
        let goal = Goal::AtMost(0.999);
        bench.board.add(&format!("{name}_share"), "of the peer's", goal, ours / theirs);
    }
    Ok(())
}

async fn weigh_rig(rig: &mut Rig, dialect: Dialect, crowd: u32) -> anyhow::Result<f64> {
    let events = rig.open(&kind(), 1).await?;
    let place = place(rig, dialect, events.first().context("an event")?);
    weigh(&place, crowd, rig.pid(), || Ok(())).await
}

/// Resident memory that each of `crowd` watchers takes, in KiB.
async fn weigh(
    place: &Place,
    crowd: u32,
    pid: u32,
    mut collect: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    Hall::fill(place, WARM, 0).await?.clear().await;
    sleep(SETTLE).await;
    collect()?;
    let before = resident_kib(pid)?;
    let mut hall = Hall::fill(place, crowd, 0).await?;
    sleep(SETTLE).await;
    collect()?;
    let after = resident_kib(pid)?;
    hall.check()?;
    hall.clear().await;
    Ok((after - before) / f64::from(crowd))
}

fn resident_kib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the server")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// One of the servers whose watchers hear of holds.
struct Stand {
    name: &'static str,
    place: Place,
    hall: Hall,
    holder: Wire,
    seat: u32,
    took_us: Vec<u64>,
}

/// How soon all hear, and then the rush.
async fn live(bench: &mut Bench, rig: &mut Rig) -> anyhow::Result<()> {
    let events = rig.open(&kind(), 3).await?;
    let [plain, io, rush_event] = events.as_slice() else { anyhow::bail!("three events") };
    for event in [plain, io] {
        sell(rig, event).await.context("seats are sold")?;
    }
    let peer = Peer::raise(SOLD)?;
    let token = rig.buyers().first().context("a buyer")?.token.clone();
    let mut stands = Vec::new();
    let written = "socket_snapshots_written_total";
    for (name, place) in [
        ("plain", place(rig, Dialect::Plain, plain)),
        ("io", place(rig, Dialect::SocketIo, io)),
        ("peer", peer_place(&peer)),
    ] {
        let before = rig.counter(written).await?;
        let hall = Hall::fill(&place, WATCHERS, 0).await.context(name)?;
        if name == "plain" {
            let snapshots = rig.counter(written).await? - before;
            bench.board.add("snapshots_written", "for 1,000", Goal::AtMost(1.0), snapshots);
        }
        let mut holder = place.enter(Some(&token)).await.context(name)?;
        place.join(&mut holder).await?;
        stands.push(Stand { name, place, hall, holder, seat: SOLD, took_us: Vec::new() });
    }
    bench.idle.wait().await;
    for turn in 0..=bench.size.turns {
        for stand in &mut stands {
            spread(stand).await.context(stand.name)?;
            // The first turn is there to warm up.
            if turn == 0 {
                stand.took_us.clear();
            }
        }
    }
    record(bench, &mut stands);
    for stand in stands {
        stand.hall.clear().await;
    }
    drop(peer);
    bench.idle.wait().await;
    rush(bench, rig, place(rig, Dialect::Plain, rush_event)).await.context("the rush")
}

/// A turn: some holds at a calm rate.
async fn spread(stand: &mut Stand) -> anyhow::Result<()> {
    let begun = tokio::time::Instant::now();
    for hold in 0..HOLDS {
        sleep_until(begun + CALM * hold).await;
        stand.seat = if stand.seat < SEATS { stand.seat + 1 } else { SOLD + 1 };
        let took = stand.hall.spread(&stand.place, &mut stand.holder, stand.seat).await?;
        stand.took_us.push(u64::try_from(took.as_micros())?);
    }
    stand.hall.check()
}

fn record(bench: &mut Bench, stands: &mut [Stand]) {
    let ms = |us| Duration::from_micros(us).as_secs_f64() * 1e3;
    let mut p99s = Vec::new();
    for stand in stands {
        stand.took_us.sort_unstable();
        let (p50, p99) = (ms(quantile(&stand.took_us, 500)), ms(quantile(&stand.took_us, 990)));
        let name = stand.name;
        Bench::say(format!("hold to all {WATCHERS}, {name}: p50 {p50:.2} ms, p99 {p99:.2} ms"));
        bench.board.add(&format!("hold_to_all_{name}_p50"), "ms", Goal::None, p50);
        bench.board.add(&format!("hold_to_all_{name}_p99"), "ms", Goal::None, p99);
        p99s.push((name, p99));
    }
    let Some((_, theirs)) = p99s.pop() else { return };
    for (name, ours) in p99s {
        let name = format!("hold_to_all_{name}_share");
        bench.board.add(&name, "of the peer's p99", Goal::AtMost(SHARE_MAX), ours / theirs);
    }
}

/// Many hold at once, on one event: everybody has to see how it ends, and soon.
async fn rush(bench: &mut Bench, rig: &Rig, place: Place) -> anyhow::Result<()> {
    let mut hall = Hall::fill(&place, WATCHERS, KEEP).await?;
    let mut holders = Vec::new();
    for (index, buyer) in (0..HOLDERS).zip(rig.buyers()) {
        let mut wire = place.enter(Some(&buyer.token)).await?;
        place.join(&mut wire).await?;
        holders.push((index, wire));
    }
    let begun = tokio::time::Instant::now() + BEAT;
    let beats = u32::try_from(bench.size.rush.as_millis() / BEAT.as_millis())?;
    let mut holding = JoinSet::new();
    for (index, wire) in holders {
        let start = begun + BEAT * index / HOLDERS;
        holding.spawn(hold_on(place.clone(), wire, index, start, beats));
    }
    let (mut expected, mut took_us, mut open) = (BTreeSet::new(), Vec::new(), Vec::new());
    while let Some(held) = holding.join_next().await {
        let (seat, took, wire) = held??;
        expected.insert(seat);
        took_us.extend(took);
        // Who goes would soon lose the seat.
        open.push(wire);
    }
    let ended = Instant::now();
    let seconds = begun.elapsed().as_secs_f64();
    let seats = rig.api().get(&format!("/events/{}/seats", place.event), None).await?;
    let version = seats.get("version").and_then(Value::as_i64).context("a version")?;
    let behind = hall.reach(version, PATIENCE).await;
    let lag_ms = ended.elapsed().as_secs_f64() * 1e3;
    hall.check()?;
    let held = numbers(&seats, "held");
    let mut wrong = held.symmetric_difference(&expected).count();
    for frames in hall.kept() {
        wrong += replay(&frames)?.symmetric_difference(&held).count();
    }
    hall.clear().await;
    took_us.sort_unstable();
    let rate = float(u64::try_from(took_us.len())?) / seconds;
    let p99_ms = Duration::from_micros(quantile(&took_us, 990)).as_secs_f64() * 1e3;
    Bench::say(format!(
        "rush: {rate:.0} holds/s, granted within {p99_ms:.1} ms (p99), {WATCHERS} watchers had \
         the last of it after {lag_ms:.1} ms, {behind} did not, {wrong} seats were wrong"
    ));
    let count = |count: usize| float(u64::try_from(count).unwrap_or(u64::MAX));
    // The last beat of the last holder ends a little after the second that it is counted in.
    bench.board.add("rush_rate", "holds/s", Goal::AtLeast(980.0), rate);
    bench.board.add("rush_hold_p99", "ms", Goal::None, p99_ms);
    bench.board.add("rush_lag", "ms", Goal::AtMost(1000.0), lag_ms);
    bench.board.add("rush_behind", "watchers", Goal::AtMost(0.0), count(behind));
    bench.board.add("rush_wrong", "seats", Goal::AtMost(0.0), count(wrong));
    Ok(())
}

/// Holds one seat after the other of those that nobody else wants; gives the last one and how long
/// each took.
async fn hold_on(
    place: Place,
    mut wire: Wire,
    index: u32,
    start: tokio::time::Instant,
    beats: u32,
) -> anyhow::Result<(u32, Vec<u64>, Wire)> {
    let own = SEATS / HOLDERS;
    let (mut seat, mut took_us) = (0, Vec::new());
    for beat in 0..beats {
        sleep_until(start + BEAT * beat).await;
        seat = index * own + beat % own + 1;
        let asked = Instant::now();
        place.ask(&mut wire, seat).await?;
        place.granted(&mut wire, seat).await?;
        took_us.push(u64::try_from(asked.elapsed().as_micros())?);
    }
    Ok((seat, took_us, wire))
}

/// Sells the first half of the seats, and waits until everybody can see it.
async fn sell(rig: &Rig, event: &Uuid) -> anyhow::Result<()> {
    let parties = (1..=SOLD).step_by(usize::try_from(PARTY)?).zip(rig.buyers());
    let booked = stream::iter(parties).map(|(first, buyer)| async move {
        let seats: Vec<u32> = (first..first + PARTY).collect();
        let body = json!({"event_id": event, "seat_numbers": seats});
        rig.api().post("/bookings", Some(&buyer.token), None, &body).await
    });
    booked.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let (started, path) = (Instant::now(), format!("/events/{event}/seats"));
    while numbers(&rig.api().get(&path, None).await?, "taken").len() < usize::try_from(SOLD)? {
        ensure!(started.elapsed() < PATIENCE, "they are not shown as taken");
        sleep(BEAT).await;
    }
    Ok(())
}

fn numbers(seats: &Value, list: &str) -> BTreeSet<u32> {
    let list = seats.get(list).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|seat| u32::try_from(seat.as_u64()?).ok()).collect()
}

fn kind() -> Kind {
    Kind { capacity: SEATS, numbered: true, policy: "strict", party_max: PARTY }
}

fn place(rig: &Rig, dialect: Dialect, event: &Uuid) -> Place {
    let port = match dialect {
        Dialect::Plain => rig.port,
        Dialect::SocketIo => rig.socket_port,
    };
    Place { dialect, port, event: event.to_string() }
}

fn peer_place(peer: &Peer) -> Place {
    Place { dialect: Dialect::SocketIo, port: peer.port, event: "bench".to_owned() }
}
