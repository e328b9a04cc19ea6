//! `happening streams`: what is on the bus, and what passes by, on the broker directly.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::sleep;

use super::say;
use crate::app::messages::streams::{self, Passed, Tail, place};
use crate::app::{App, Error};
use crate::config::Config;
use crate::domain::refusal::Refusal;
use crate::http::problem::Problem;
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
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(app: &App) -> anyhow::Result<()> {
    let mut table = format!(
        "{:<28} {:>10} {:<20} {:>8} {:>8} {:>12}\n",
        "STREAM", "LENGTH", "GROUP", "LAG", "PENDING", "OLDEST"
    );
    for kind in app.registry.types() {
        for sight in streams::look(app, kind).await.map_err(told)? {
            let stream = sight.stream.to_string();
            if sight.groups.is_empty() {
                writeln!(table, "{stream:<28} {:>10} (nobody reads it)", "")?;
            }
            for (group, lag) in sight.groups {
                let oldest = lag.oldest_age.map_or("-".to_owned(), |age| format!("{age:.1?}"));
                let (length, behind, pending) = (lag.length, lag.lag, lag.pending);
                writeln!(
                    table,
                    "{stream:<28} {length:>10} {group:<20} {behind:>8} {pending:>8} {oldest:>12}"
                )?;
            }
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
