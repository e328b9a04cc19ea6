//! `happening hammer`: a load and truth test to point at an own instance. It puts events on sale,
//! sends buyers at them as fast as they are answered, then reads back what became of every
//! booking and says whether the server kept its promises.

pub mod api;
pub mod client;
pub mod load;
pub mod notice;
mod order;
pub mod person;
pub mod plan;
pub mod progress;
pub mod report;
pub mod stage;
pub mod verdict;
mod worker;

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{ValueEnum, value_parser};

use self::client::Target;
use self::load::Run;
use self::person::{Crowd, Source};
use self::plan::{Limit, Plan};
use self::progress::Progress;
use self::report::Report;
use self::stage::Kind;
use self::verdict::{Evidence, Finding, expected_notices};
use crate::app::accounts::AccessTokens;
use crate::clock::{Clock, Ids};
use crate::config::{Config, ConfigError};
use crate::postgres::Db;

/// The exit status when a promise was broken.
const BROKEN: u8 = 1;
/// The exit status when the test could not be run.
const FAILED: u8 = 2;
/// How long a warm-up lasts.
const WARMUP: Duration = Duration::from_secs(2);
/// The pause before looking again at something that was not as it should be: lost triggers are
/// swept, and Redis agrees with PostgreSQL, within seconds.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How often to look.
const LOOKS: u32 = 6;

/// A load and truth test for an own instance. Exit status: 0 kept every promise, 1 broke one,
/// 2 could not be run.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "these are switches of a command line")]
pub struct Args {
    /// The instance to test.
    #[arg(long, default_value = "http://127.0.0.1:2208")]
    pub url: String,
    /// Seats of each event.
    #[arg(long, default_value_t = 500, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub seats: u32,
    /// Bookings to ask for, over all events.
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    pub buyers: u64,
    /// Ask for this many seconds instead of for a number of bookings.
    #[arg(long, conflicts_with = "buyers", value_parser = value_parser!(u64).range(1..=600))]
    pub seconds: Option<u64>,
    /// Connections that ask at the same time.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..=4096))]
    pub connections: u16,
    /// Threads that drive them.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Sizes of parties: a number or a range, e.g. 1..4.
    #[arg(long, default_value = "1", value_parser = parties)]
    pub parties: RangeInclusive<u32>,
    /// Of a hundred bookings, how many are cancelled once they are answered.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u8).range(0..=100))]
    pub cancel: u8,
    /// Of a hundred bookings, how many are sent twice at once under one Idempotency-Key.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u8).range(0..=100))]
    pub duplicates: u8,
    /// Events to spread the bookings over.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=10_000))]
    pub events: u16,
    /// Seats have numbers, and every second party names those it wants.
    #[arg(long)]
    pub numbered: bool,
    /// The waitlist's policy.
    #[arg(long, value_enum, default_value_t = Policy::Strict)]
    pub policy: Policy,
    /// Whether buyers want to wait when there are no seats.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub waitlist: Switch,
    /// Accounts that book, in turn. Default: 50 over the API, up to 5,000 in the database.
    #[arg(long, value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub accounts: Option<u64>,
    /// How the accounts are made. The database needs `DATABASE_URL` and the server's signing
    /// secret; it is quicker, and notifications are then counted there too.
    #[arg(long, value_enum, default_value_t = AccountsFrom::Api)]
    pub accounts_from: AccountsFrom,
    /// Send no Idempotency-Key.
    #[arg(long)]
    pub no_keys: bool,
    /// First book for two seconds at an event that does not count.
    #[arg(long)]
    pub warmup: bool,
    /// Seconds to wait for the notifications.
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u64).range(0..=3600))]
    pub settle: u64,
    /// Repeats the parties, cancellations and duplicates of an earlier run.
    #[arg(long)]
    pub seed: Option<u64>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// The waitlist's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Nobody passes anybody.
    Strict,
    /// Who fits may pass who does not, a bounded number of times.
    Bypass,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// How accounts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccountsFrom {
    /// They sign up.
    Api,
    /// They are inserted.
    Database,
}

/// Understands `3` and `1..4` (both ends included).
fn parties(raw: &str) -> Result<RangeInclusive<u32>, String> {
    let (least, most) = raw.split_once("..").unwrap_or((raw, raw));
    let most = most.trim_start_matches('=');
    match (least.parse(), most.parse()) {
        (Ok(least), Ok(most)) if 1 <= least && least <= most && most <= 100 => Ok(least..=most),
        _ => Err("must be a number from 1 to 100, or a range such as 1..4".to_owned()),
    }
}

/// Runs the test, prints the report and gives the exit status. The settings are needed only for
/// `--accounts-from database`.
///
/// # Errors
/// Never: what keeps it from running is printed, with exit status 2.
pub async fn run(args: Args, config: Result<Config, ConfigError>) -> anyhow::Result<ExitCode> {
    match hammer(&args, config).await {
        Ok(report) => {
            if args.json {
                crate::cli::say(&(serde_json::to_string(&report)? + "\n"))?;
            } else {
                crate::cli::say(&report.text())?;
            }
            Ok(if report.holds { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
        }
        Err(error) => {
            eprintln!("happening hammer could not run: {error:#}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

async fn hammer(args: &Args, config: Result<Config, ConfigError>) -> anyhow::Result<Report> {
    let target = Arc::new(Target::parse(&args.url)?);
    let progress = Progress::default();
    let run = format!("{:012x}", Ids.jitter(1 << 48));
    let seed = args.seed.unwrap_or_else(|| Ids.jitter(u64::MAX));
    eprintln!("{}", outline(args, &target, seed));

    let accounts = args.accounts.unwrap_or(match args.accounts_from {
        AccountsFrom::Api => args.buyers.min(50),
        AccountsFrom::Database => args.buyers.clamp(1, 5000),
    });
    let source = source(args, &target, config)?;
    let mut crowd = Crowd::make(source, &run, accounts, &progress).await?;
    crowd.refresh().await?;

    let kind = Kind {
        capacity: args.seats,
        numbered: args.numbered,
        policy: if args.policy == Policy::Strict { "strict" } else { "bypass" },
        party_max: *args.parties.end(),
    };
    let warm = usize::from(args.warmup);
    let count = usize::from(args.events) + warm;
    let mut events =
        stage::open(&target, crowd.organizer()?, &run, &kind, count, &progress).await?;
    let warming = events.split_off(usize::from(args.events));
    let plan = plan(args, run, seed, accounts, events);
    if args.warmup {
        let warming = Plan {
            run: format!("{}-warm", plan.run),
            events: warming,
            limit: Limit::For(WARMUP),
            ..plan.clone()
        };
        drive(args, warming, &crowd, &target, &progress).await?;
    }
    let run = drive(args, plan.clone(), &crowd, &target, &progress).await?;
    crowd.refresh().await?;
    let findings = verdict(args, &plan, &run, &crowd, &target, &progress).await?;
    Ok(Report::new(target.url(), &run, findings))
}

fn outline(args: &Args, target: &Target, seed: u64) -> String {
    let Args { events, seats, connections, parties, .. } = args;
    let kind = if args.numbered { "numbered" } else { "general" };
    let asked = match args.seconds {
        Some(seconds) => format!("bookings for {seconds} s"),
        None => format!("{} bookings", args.buyers),
    };
    format!(
        "hammering {} (seed {seed})\n{asked} over {connections} connections, parties of {}..{}, \
         at {events} event(s) with {seats} {kind} seats",
        target.url(),
        parties.start(),
        parties.end(),
    )
}

fn source(
    args: &Args,
    target: &Arc<Target>,
    config: Result<Config, ConfigError>,
) -> anyhow::Result<Source> {
    match args.accounts_from {
        AccountsFrom::Api => Ok(Source::Api(Arc::clone(target))),
        AccountsFrom::Database => {
            let config = config?;
            let db = Db::new(&config.postgres, 2)?;
            Ok(Source::Database(db, AccessTokens::new(&config.auth, Clock::default())))
        }
    }
}

fn plan(args: &Args, run: String, seed: u64, people: u64, events: Vec<uuid::Uuid>) -> Plan {
    Plan {
        run,
        seed,
        events,
        capacity: args.seats,
        people,
        parties: args.parties.clone(),
        cancel_percent: args.cancel,
        duplicate_percent: args.duplicates,
        numbered: args.numbered,
        waitlist: args.waitlist == Switch::On,
        keys: !args.no_keys,
        limit: match args.seconds {
            Some(seconds) => Limit::For(Duration::from_secs(seconds)),
            None => Limit::Bookings(args.buyers),
        },
    }
}

async fn drive(
    args: &Args,
    plan: Plan,
    crowd: &Crowd,
    target: &Arc<Target>,
    progress: &Progress,
) -> anyhow::Result<Run> {
    let (connections, threads) = (usize::from(args.connections), usize::from(args.threads));
    load::run(plan, crowd.buyers().to_vec(), target, connections, threads, progress).await
}

/// Reads back and judges; looks again for a while at what is not as it should be.
async fn verdict(
    args: &Args,
    plan: &Plan,
    run: &Run,
    crowd: &Crowd,
    target: &Arc<Target>,
    progress: &Progress,
) -> anyhow::Result<Vec<Finding>> {
    let started = Instant::now();
    let settle = Duration::from_secs(args.settle);
    let source = match crowd.database() {
        Some(db) => notice::Source::Database(db),
        None => notice::Source::Inboxes(target, crowd.buyers()),
    };
    let mut look = 1;
    loop {
        let endings = stage::read(target, crowd.organizer()?, &plan.events, progress).await?;
        let expected = expected_notices(plan, run, &endings);
        let left = settle.saturating_sub(started.elapsed());
        let notices = notice::gather(&source, &plan.events, &expected, left, progress).await?;
        let evidence = Evidence { plan, run, endings: &endings, notices: Some(&notices) };
        let findings = verdict::judge(&evidence);
        if look == LOOKS || findings.iter().all(|finding| finding.holds) {
            return Ok(findings);
        }
        look += 1;
        tokio::time::sleep(SECOND_LOOK).await;
    }
}

#[cfg(test)]
mod tests;
