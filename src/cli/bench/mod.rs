//! `happening bench`: the speed promises, measured. Every ratio compares the server with something
//! else on the same machine in the same minutes (`pgbench` doing the plain transaction, the bare
//! broker, a bare round trip, a Socket.IO server in Node), taking turns so that noise meets both.

mod broker;
mod bus;
mod flat;
mod hot;
mod lone;
mod machine;
mod pgbench;
mod result;
mod rig;
mod sockets;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use self::machine::Idle;
use self::pgbench::Pgbench;
use self::result::Board;
use self::rig::Services;
use crate::config::{self, Config};

/// The exit status when a target was missed.
const MISSED: u8 = 1;
/// The exit status when the bench could not be run.
const FAILED: u8 = 2;
/// How long a run of everything may take, however slow the machine; three runs take about a
/// quarter of an hour.
const BOUND_PER_RUN: Duration = Duration::from_mins(8);

/// Measures the speed promises against durable services: `DATABASE_URL`, `REDIS_URL`,
/// `RABBITMQ_URL`. Exit status: 0 all targets met, 1 one missed, 2 could not be run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A smoke test of a minute: one short run each, written to bench-quick.json.
    #[arg(long)]
    pub quick: bool,
    /// Only these measurements.
    #[arg(long, value_enum)]
    pub only: Vec<Case>,
    /// Send no Idempotency-Key with the bookings.
    #[arg(long)]
    pub no_keys: bool,
    /// Runs of each measurement; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    pub runs: u16,
    /// Where the results go; what other benches wrote there stays.
    #[arg(long, default_value = "target/bench.json")]
    pub out: PathBuf,
}

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Case {
    /// One hot event at 64 and 256 connections, sustained, and how the messages drain.
    Hot,
    /// Telling people that there is nothing left.
    SoldOut,
    /// One booking on an idle server.
    Lone,
    /// 10, 100 and 10,000 seats on sale.
    Seats,
    /// 1 and 1,000 events.
    Events,
    /// 0 and 1,000,000 old bookings.
    Past,
    /// People who watch seats live, beside a Socket.IO server in Node.
    Sockets,
    /// Messages of the bus: publishing, consuming, and how long from one to the other.
    Bus,
}

impl Case {
    const ALL: [Self; 8] = [
        Self::Hot,
        Self::SoldOut,
        Self::Lone,
        Self::Seats,
        Self::Events,
        Self::Past,
        Self::Sockets,
        Self::Bus,
    ];
}

/// How long and how much; shorter for a smoke test.
#[derive(Clone, Copy, Debug)]
struct Size {
    runs: u16,
    /// Waiting for an idle machine, all together.
    idle: Duration,
    burst: Duration,
    drain: Duration,
    plain: Duration,
    short: Duration,
    lone_bookings: u64,
    events: usize,
    bookings: u64,
    past: i64,
    /// Idle watchers, if there are descriptors for so many.
    idle_watchers: u32,
    /// Times that each server in turn spreads some holds.
    turns: u32,
    /// How long many hold at once.
    rush: Duration,
    /// Messages that are published and consumed, and how long they flow.
    messages: u32,
    flow: Duration,
}

impl Size {
    fn of(args: &Args) -> Self {
        let seconds = Duration::from_secs;
        if args.quick {
            Self {
                runs: 1,
                idle: seconds(5),
                burst: seconds(4),
                drain: seconds(4),
                plain: seconds(2),
                short: seconds(1),
                lone_bookings: 300,
                events: 100,
                bookings: 3000,
                past: 50_000,
                idle_watchers: 1000,
                turns: 2,
                rush: seconds(3),
                messages: 5_000,
                flow: seconds(3),
            }
        } else {
            Self {
                runs: args.runs,
                idle: seconds(90),
                burst: seconds(20),
                drain: seconds(8),
                plain: seconds(8),
                short: seconds(4),
                lone_bookings: 2000,
                events: 1000,
                bookings: 20_000,
                past: 1_000_000,
                idle_watchers: 10_000,
                turns: 10,
                rush: seconds(10),
                messages: 30_000,
                flow: seconds(15),
            }
        }
    }
}

/// What every measurement needs.
struct Bench {
    services: Services,
    pgbench: Pgbench,
    board: Board,
    idle: Idle,
    size: Size,
    keys: bool,
}

/// Measures, prints the table, writes the results and gives the exit status.
///
/// # Errors
/// Never: what keeps it from running is printed, with exit status 2.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match bench(&args).await {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::from(MISSED)),
        Err(error) => {
            eprintln!("happening bench could not run: {error:#}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

async fn bench(args: &Args) -> anyhow::Result<bool> {
    let out =
        if args.quick { args.out.with_file_name("bench-quick.json") } else { args.out.clone() };
    let services = Services::connect(Config::load_with(&rig::settings())?).await?;
    let pgbench = Pgbench::new(config::program("PGBENCH", "pgbench"), &services).await?;
    let size = Size::of(args);
    let mut bench = Bench {
        services,
        pgbench,
        board: Board::default(),
        idle: Idle::new(size.idle),
        size,
        keys: !args.no_keys,
    };
    let wanted: BTreeSet<Case> =
        if args.only.is_empty() { Case::ALL.into() } else { args.only.iter().copied().collect() };
    let bound = BOUND_PER_RUN * u32::from(size.runs);
    let measured = match tokio::time::timeout(bound, bench.measure(&wanted)).await {
        Ok(measured) => measured,
        Err(_) => Err(anyhow::anyhow!("not done after {bound:?}; is the machine busy?")),
    };
    // What was measured until something broke is worth keeping.
    if !bench.board.is_empty() {
        bench.board.write(&out).with_context(|| format!("cannot write {}", out.display()))?;
        crate::cli::say(&format!("{}written to {}\n", bench.board.table(), out.display()))?;
    }
    bench.services.clean_up().await;
    measured?;
    Ok(bench.board.passes())
}

impl Bench {
    async fn measure(&mut self, wanted: &BTreeSet<Case>) -> anyhow::Result<()> {
        for case in wanted {
            match case {
                Case::Hot => hot::measure(self).await.context("the hot event")?,
                Case::SoldOut => lone::sold_out(self).await.context("the sold-out event")?,
                Case::Lone => lone::measure(self).await.context("the lone booking")?,
                Case::Seats => flat::seats(self).await.context("seats on sale")?,
                Case::Events => flat::events(self).await.context("many events")?,
                Case::Past => flat::past(self).await.context("old bookings")?,
                Case::Bus => bus::measure(self).await.context("the bus")?,
                Case::Sockets => sockets::measure(self).await.context("sockets")?,
            }
        }
        Ok(())
    }

    /// A line about a run, for those who watch.
    fn say(text: impl std::fmt::Display) {
        eprintln!("{text}");
    }
}
