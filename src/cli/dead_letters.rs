//! `happening dead-letters`: messages that died, listed, sent again or dropped, on the database
//! directly, so that it works while nothing else does.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::anyhow;
use uuid::Uuid;

use super::say;
use crate::app::messages::dead_letters::DeadLetters;
use crate::app::messages::redrive::{LIMIT_MAX, Plan};
use crate::app::{Error, Origin};
use crate::clock::{Clock, Ids};
use crate::config::Config;
use crate::domain::dead_letter::{DeadLetter, Filter, Group};
use crate::domain::ids::DeadLetterId;
use crate::http::problem::Problem;
use crate::postgres::Db;

/// What to do with dead letters.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists open letters, the newest first
    List {
        #[command(flatten)]
        which: Which,
        /// Groups of letters that died of the same thing, the largest first
        #[arg(long)]
        groups: bool,
        /// How many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Shows a letter with its payload
    Show {
        /// Which
        id: Uuid,
    },
    /// Sends a letter again, or all that are meant
    Redrive {
        /// Which
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<Uuid>,
        /// All open letters, or those that --type, --source and --fingerprint name
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        which: Which,
        /// Only tell what would be done
        #[arg(long, requires = "all")]
        dry_run: bool,
        /// How many a second
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rate: u32,
    },
    /// Drops a letter for good
    Drop {
        /// Which
        id: Uuid,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Of this message type
    #[arg(long = "type")]
    kind: Option<String>,
    /// From here: relay, broker or a service such as inbox-service
    #[arg(long)]
    source: Option<String>,
    /// That died of the same thing
    #[arg(long)]
    fingerprint: Option<String>,
}

impl From<Which> for Filter {
    fn from(which: Which) -> Self {
        Self { kind: which.kind, source: which.source, fingerprint: which.fingerprint }
    }
}

/// Does it.
///
/// # Errors
/// When PostgreSQL is away, there is no such letter, or it was dealt with before.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let letters = DeadLetters::new(Db::new(&config.postgres, 1)?, Clock::default());
    let origin = Origin { correlation_id: format!("cli-{}", Ids.uuid()), traceparent: None };
    match args.command {
        Command::List { which, groups, limit } => {
            list(&letters, &which.into(), groups, limit).await?;
        }
        Command::Show { id } => {
            let (letter, is_open) = letters.show(DeadLetterId(id)).await.map_err(told)?;
            show(&letter, is_open)?;
        }
        Command::Redrive { id: Some(id), .. } => {
            letters.redrive_now(None, &origin, DeadLetterId(id)).await.map_err(told)?;
            say(&format!("{id} is on its way again\n"))?;
        }
        Command::Redrive { id: None, all: _, which, dry_run, rate } => {
            let plan =
                Plan { filter: which.into(), limit: LIMIT_MAX, rate_per_second: rate, dry_run };
            return redrive_all(&letters, &origin, &plan).await;
        }
        Command::Drop { id } => {
            letters.remove(None, &origin, DeadLetterId(id)).await.map_err(told)?;
            say(&format!("{id} is gone\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(
    letters: &DeadLetters,
    filter: &Filter,
    groups: bool,
    limit: i64,
) -> anyhow::Result<()> {
    let mut out = String::new();
    if groups {
        for group in letters.groups(filter).await.map_err(told)? {
            let Group { count, fingerprint, source, kind, reason, .. } = group;
            writeln!(out, "{count:>6}  {fingerprint}  {source}  {kind}  {reason}")?;
        }
        return say(&out);
    }
    let page = letters.list(filter, None, limit).await.map_err(told)?;
    for letter in &page.items {
        let DeadLetter { id, source, kind, reason, died_at, .. } = letter;
        writeln!(out, "{id}  {died_at:.0}  {source}  {kind}  {reason}")?;
    }
    if page.items.is_empty() {
        out.push_str("there are none\n");
    } else if page.next.is_some() {
        out.push_str("… and more: see --limit, --groups, --type\n");
    }
    say(&out)
}

fn show(letter: &DeadLetter, is_open: bool) -> anyhow::Result<()> {
    let state = if is_open { "open" } else { "sent again" };
    let correlation = letter.correlation_id.as_deref().unwrap_or("-");
    let mut out = String::new();
    writeln!(out, "id           {}", letter.id)?;
    writeln!(out, "message      {}", letter.message_id)?;
    writeln!(out, "type         {}", letter.kind)?;
    writeln!(out, "source       {}", letter.source)?;
    writeln!(out, "reason       {}", letter.reason)?;
    writeln!(out, "fingerprint  {}", letter.fingerprint)?;
    writeln!(out, "attempts     {}", letter.attempts)?;
    writeln!(out, "died         {}", letter.died_at)?;
    writeln!(out, "state        {state}")?;
    writeln!(out, "redrives     {}", letter.redrives)?;
    writeln!(out, "correlation  {correlation}")?;
    writeln!(out, "payload      {}", letter.payload)?;
    say(&out)
}

/// Sends the newest portion again.
async fn redrive_all(
    letters: &DeadLetters,
    origin: &Origin,
    plan: &Plan,
) -> anyhow::Result<ExitCode> {
    let done = letters.redrive_all(None, origin, plan).await.map_err(told)?;
    let mut out = String::new();
    for (id, why) in &done.refused {
        writeln!(out, "{id} {why}")?;
    }
    let verb = if plan.dry_run { "would be" } else { "are" };
    let (sent, open) = (done.redriven.len(), done.matched);
    writeln!(out, "{sent} of {open} letters {verb} on their way again")?;
    if open > LIMIT_MAX {
        writeln!(out, "that were the newest {LIMIT_MAX}; run it again for the rest")?;
    }
    say(&out)?;
    Ok(if done.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A verb's error for somebody at a terminal.
fn told(error: Error) -> anyhow::Error {
    match error {
        Error::Refused(refusal) => anyhow!("{}", Problem::from(refusal)),
        Error::Unavailable { part, cause: Some(cause), .. } => {
            cause.context(format!("{part} is away"))
        }
        Error::Unavailable { part, cause: None, .. } => anyhow!("{part} is away"),
        Error::Fault(error) => error,
    }
}
