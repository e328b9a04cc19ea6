//! `happening dead-letters`: messages that died, listed, sent again or dropped, on the database
//! directly, so that it works while nothing else does.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::sleep;
use uuid::Uuid;

use super::say;
use crate::app::messages::dead_letters::{By, DeadLetters};
use crate::app::messages::redrive_jobs::{MOST, Plan, REHEARSED_MAX};
use crate::app::messages::registry::Registry;
use crate::app::messages::seal::Keyring;
use crate::app::{Error, Origin};
use crate::clock::{Clock, Ids};
use crate::config::Config;
use crate::domain::dead_letter::{DeadLetter, Filter, Group, Kept, Redrive, Resolution, Shown};
use crate::domain::ids::{DeadLetterId, RedriveId};
use crate::http::problem::Problem;
use crate::postgres::Db;

/// Between two steps of a job.
const PAUSE: Duration = Duration::from_millis(100);
/// Most jobs in a list.
const JOBS_SHOWN: i64 = 20;

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
        /// How many at most, the oldest first
        #[arg(long, default_value_t = MOST, value_parser = most())]
        limit: i64,
        /// Also letters that were sent again too often
        #[arg(long)]
        force: bool,
        /// Leave the work to a running server
        #[arg(long, requires = "all", conflicts_with = "dry_run")]
        detach: bool,
    },
    /// Tells how far jobs are that send letters again, the newest first
    Progress {
        /// Which one
        id: Option<Uuid>,
    },
    /// Ends a job that sends letters again
    Cancel {
        /// Which
        id: Uuid,
    },
    /// Sends a message with other data in a letter's place
    Copy {
        /// Which letter
        id: Uuid,
        /// The data, as JSON
        data: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Discards a letter for good
    #[command(visible_alias = "discard")]
    Drop {
        /// Which
        id: Uuid,
        /// Why
        #[arg(long)]
        reason: Option<String>,
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
        let Which { kind, source, fingerprint } = which;
        Self { kind, source, fingerprint, ids: Vec::new() }
    }
}

fn most() -> clap::builder::RangedI64ValueParser {
    clap::value_parser!(i64).range(1..=MOST)
}

/// Does it.
///
/// # Errors
/// When PostgreSQL is away, there is no such letter, or it was dealt with before.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let registry = Registry::new(Keyring::new(&config.seal, &config.auth, Ids)?)?;
    let letters = DeadLetters::new(Db::new(&config.postgres, 1)?, Clock::default(), registry);
    let origin = Origin { correlation_id: format!("cli-{}", Ids.uuid()), traceparent: None };
    let by = (None, &origin);
    match args.command {
        Command::List { which, groups, limit } => {
            list(&letters, &which.into(), groups, limit).await?;
        }
        Command::Show { id } => show(&letters.show(DeadLetterId(id)).await.map_err(told)?)?,
        Command::Redrive { id: Some(id), force, .. } => {
            letters.redrive_now(by, DeadLetterId(id), force).await.map_err(told)?;
            say(&format!("{id} is on its way again\n"))?;
        }
        Command::Redrive { id: None, which, dry_run, rate, limit, force, detach, .. } => {
            let plan = Plan { filter: which.into(), limit, rate_per_second: rate, force };
            return if dry_run {
                rehearse(&letters, by, &plan).await
            } else {
                redrive_all(&letters, by, &plan, detach).await
            };
        }
        Command::Progress { id } => progress(&letters, id.map(RedriveId)).await?,
        Command::Cancel { id } => {
            let job = letters.cancel(by, RedriveId(id)).await.map_err(told)?;
            say(&line(&job))?;
        }
        Command::Copy { id, data, reason } => {
            let copy = letters.copy_now(by, DeadLetterId(id), &data, reason).await;
            let end = copy.map_err(told)?.resolved;
            let copy = end.and_then(|end| end.replaced_by);
            let copy = copy.map_or_else(String::new, |copy| copy.to_string());
            say(&format!("{copy} is on its way in place of {id}\n"))?;
        }
        Command::Drop { id, reason } => {
            letters.discard(by, DeadLetterId(id), reason).await.map_err(told)?;
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
    let page = letters.list(filter, Shown::Open, None, limit).await.map_err(told)?;
    for kept in &page.items {
        let DeadLetter { id, source, kind, reason, died_at, .. } = &kept.letter;
        writeln!(out, "{id}  {died_at:.0}  {source}  {kind}  {reason}")?;
    }
    if page.items.is_empty() {
        out.push_str("there are none\n");
    } else if page.next.is_some() {
        out.push_str("… and more: see --limit, --groups, --type\n");
    }
    say(&out)
}

fn show(kept: &Kept) -> anyhow::Result<()> {
    let letter = &kept.letter;
    let state = kept.resolved.as_ref().map_or("open", |end| match end.how {
        Resolution::Redriven => "sent again",
        Resolution::Copied => "sent again as an edited copy",
        Resolution::Discarded => "discarded",
    });
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
    if let Some(end) = &kept.resolved {
        let by = end.by.map_or_else(|| "the command line".to_owned(), |by| by.to_string());
        writeln!(out, "by           {by} at {}", end.at)?;
        if let Some(note) = &end.note {
            writeln!(out, "because      {note}")?;
        }
        if let Some(copy) = end.replaced_by {
            writeln!(out, "copy         {copy}")?;
        }
    }
    if let Some(original) = kept.copy_of {
        writeln!(out, "copy of      {original}")?;
    }
    writeln!(out, "redrives     {}", letter.redrives)?;
    writeln!(out, "correlation  {correlation}")?;
    writeln!(out, "payload      {}", letter.payload)?;
    say(&out)
}

/// Tells what would be sent again.
async fn rehearse(letters: &DeadLetters, by: By<'_>, plan: &Plan) -> anyhow::Result<ExitCode> {
    let would = letters.rehearse(by, plan).await.map_err(told)?;
    let mut out = refusals(&would.refused);
    let (sent, open) = (would.redriven.len(), would.matched);
    writeln!(out, "{sent} of {open} letters would be on their way again")?;
    if open > REHEARSED_MAX && plan.limit > REHEARSED_MAX {
        writeln!(out, "that were the oldest {REHEARSED_MAX}; the others were not looked at")?;
    }
    say(&out)?;
    Ok(if would.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Begins a job, and goes on with it until it is over; a server that runs helps, and goes on with
/// it should this be interrupted.
async fn redrive_all(
    letters: &DeadLetters,
    by: By<'_>,
    plan: &Plan,
    detach: bool,
) -> anyhow::Result<ExitCode> {
    let mut job = letters.begin_now(by, plan).await.map_err(told)?;
    if detach {
        say(&line(&job))?;
        return Ok(ExitCode::SUCCESS);
    }
    while job.finished_at.is_none() {
        letters.step(job.id).await.map_err(told)?;
        job = letters.job(job.id).await.map_err(told)?;
        if job.finished_at.is_none() {
            sleep(PAUSE).await;
        }
    }
    let mut out = refusals(&job.refusals);
    writeln!(out, "{} of {} letters are on their way again", job.redriven, job.matched)?;
    say(&out)?;
    let well = job.refused == 0 && !job.cancelled;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn progress(letters: &DeadLetters, id: Option<RedriveId>) -> anyhow::Result<()> {
    let jobs = match id {
        Some(id) => vec![letters.job(id).await.map_err(told)?],
        None => letters.jobs(None, JOBS_SHOWN).await.map_err(told)?.items,
    };
    let mut out: String = jobs.iter().map(line).collect();
    if id.is_some() {
        out.push_str(&jobs.iter().map(|job| refusals(&job.refusals)).collect::<String>());
    }
    say(if out.is_empty() { "there are none\n" } else { &out })
}

fn line(job: &Redrive) -> String {
    let Redrive { id, matched, redriven, refused, rate_per_second, created_at, .. } = job;
    let state = job.state();
    format!(
        "{id}  {created_at:.0}  {state}  {redriven} sent, {refused} refused of {matched}, \
         {rate_per_second}/s\n"
    )
}

fn refusals(refused: &[(DeadLetterId, String)]) -> String {
    refused.iter().fold(String::new(), |told, (id, why)| told + &format!("{id} {why}\n"))
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
