//! `happening integrity [--repair]`: Redis against PostgreSQL, and PostgreSQL against itself, over
//! all published events.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::app::integrity::report::{self, Report};
use crate::config::Config;
use crate::postgres::Db;
use crate::redis::Redis;

/// What to do about what is found.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show in Redis what PostgreSQL knows, where they differ
    #[arg(long)]
    repair: bool,
}

/// Compares, repairs if asked, and tells. Exit status 1 if something is wrong and was not
/// repaired.
///
/// # Errors
/// When PostgreSQL or Redis is away.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let db = Db::new(&config.postgres, 1)?;
    let redis = Redis::new(&config.redis)?;
    let report = report::examine(&db, &redis, args.repair).await?;
    super::say(&lines(&report))?;
    let healthy = report.contradictions.is_empty() && (args.repair || report.drifts.is_empty());
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn lines(report: &Report) -> String {
    let mut lines = String::new();
    for drift in &report.drifts {
        let shown = drift.shown.map_or_else(|| "nothing".to_owned(), |shown| shown.to_string());
        let _ = writeln!(
            lines,
            "event {}: {} seats available, Redis shows {shown}; {} parties waiting, Redis \
             shows {}; {} numbered seats sold, Redis shows {}",
            drift.event,
            drift.available,
            drift.waiting,
            drift.shown_waiting,
            drift.sold,
            drift.shown_sold
        );
    }
    for broken in &report.contradictions {
        let _ = writeln!(lines, "event {}: CONTRADICTION: {}", broken.event, broken.detail);
    }
    let _ = writeln!(
        lines,
        "{} events differ in Redis, {} repaired; {} contradict their bookings",
        report.drifts.len(),
        report.repaired,
        report.contradictions.len()
    );
    lines
}
