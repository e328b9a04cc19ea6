//! `happening streams`: what is on the bus, and what passes by, on the broker directly.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::sleep;

use super::say;
use crate::app::messages::tail::{Passed, Tail, place};
use crate::app::messages::{parity, streams};
use crate::app::{App, Error};
use crate::bus;
use crate::config::{Config, Provider};
use crate::domain::refusal::Refusal;
use crate::http::problem::Problem;
use crate::postgres::parity::Booked;
use crate::server;

/// How often a tail looks.
const LOOK: Duration = Duration::from_millis(250);

/// What to see of the bus.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists streams with their length, and how far each group is
    List,
    /// Shows messages as they pass by, one JSON a line; what is encrypted stays so
    Tail {
        /// The type, e.g. interest.changed
        kind: String,
        /// Where to begin: start, an RFC 3339 time, or a place on the stream; by default now
        #[arg(long)]
        from: Option<String>,
        /// Ends after so many; by default never
        #[arg(long)]
        count: Option<usize>,
    },
    /// Compares both brokers with what PostgreSQL says, for moving from one to the other
    Parity,
}

/// Does it.
///
/// # Errors
/// When the settings cannot be used or the bus is away.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let app = server::handles(config)?;
    match args.command {
        Command::List => list(&app).await?,
        Command::Tail { kind, from, count } => tail(&app, &kind, from.as_deref(), count).await?,
        Command::Parity => compare(&app).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(app: &App) -> anyhow::Result<()> {
    let mut table = format!(
        "{:<24} {:>10} {:<20} {:>8} {:>8} {:>12}\n",
        "TYPE", "LENGTH", "GROUP", "LAG", "PENDING", "OLDEST"
    );
    for state in streams::all(app).await {
        let kind = state.kind.name;
        let Some(live) = state.live else {
            writeln!(table, "{kind:<24} {:>10} the broker is away", "?")?;
            continue;
        };
        if live.groups.is_empty() {
            writeln!(table, "{kind:<24} {:>10} (nobody reads it)", live.length)?;
        }
        let length = live.length;
        for (group, now) in live.groups {
            let oldest = now.oldest_age.map_or_else(|| "-".to_owned(), |age| format!("{age:.1?}"));
            let (lag, pending) = (now.lag, now.pending);
            writeln!(
                table,
                "{kind:<24} {length:>10} {group:<20} {lag:>8} {pending:>8} {oldest:>12}"
            )?;
        }
    }
    say(&table)
}

async fn compare(app: &App) -> anyhow::Result<()> {
    let brokers = [Provider::Redis, Provider::Nats];
    let open = |provider| bus::open_as(provider, &app.config, &app.clock);
    let brokers = brokers.map(open).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let mut table = format!(
        "{:<22} {:>9} {:>9} {:>6}  {:<18} {:>8} {:>22} {:>22}\n",
        "TYPE", "WRITTEN", "SENT", "DEAD", "GROUP", "UNDONE", "REDIS LENGTH/LAG", "NATS LENGTH/LAG"
    );
    for one in parity::compare(app, &brokers).await.map_err(told)? {
        let Booked { written, sent, dead } = one.booked;
        write!(table, "{:<22} {written:>9} {sent:>9} {dead:>6}", one.kind)?;
        if one.undone.is_empty() {
            writeln!(table, "  (nobody reads it)")?;
        }
        for (number, (group, undone)) in one.undone.iter().enumerate() {
            let indent = if number == 0 { 0 } else { 49 };
            write!(table, "{:indent$}  {group:<18} {undone:>8}", "")?;
            for live in &one.brokers {
                let now =
                    live.as_ref().and_then(|live| Some((live.length, live.groups.get(group)?)));
                let text = now.map_or_else(
                    || "-".to_owned(),
                    |(length, group)| {
                        format!("{length}/{}", group.lag.saturating_add(group.pending))
                    },
                );
                write!(table, " {text:>22}")?;
            }
            writeln!(table)?;
        }
    }
    say(&table)
}

async fn tail(
    app: &App,
    kind: &str,
    from: Option<&str>,
    count: Option<usize>,
) -> anyhow::Result<()> {
    let from = from.map(place).transpose().map_err(|refusal: Refusal| told(refusal.into()))?;
    let mut tail = Tail::begin(app, kind, from).map_err(told)?;
    let mut left = count.unwrap_or(usize::MAX);
    loop {
        for passed in tail.next().await.map_err(told)? {
            if left == 0 {
                return Ok(());
            }
            say(&line(&passed))?;
            left = left.saturating_sub(1);
        }
        if left == 0 {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

fn line(passed: &Passed) -> String {
    let text = match &passed.message {
        Ok(message) => message.to_string(),
        Err(defect) => format!("unreadable: {}", defect.reason()),
    };
    format!("{} {}  {text}\n", passed.stream, passed.position)
}

fn told(error: Error) -> anyhow::Error {
    let problem = Problem::from(error);
    anyhow!("{}: {}", problem.code(), problem.detail())
}
