//! `happening migrate`: the schema, brought up to date. Any number may run at once.

use std::process::ExitCode;

use crate::config::Config;
use crate::postgres::{Db, migrate};

/// How to migrate.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only list what is not applied yet; exit status 1 if there is something
    #[arg(long)]
    check: bool,
}

/// Applies what is pending and says what it was.
///
/// # Errors
/// When PostgreSQL is away or a migration fails.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    if !args.check {
        let applied = apply(&config).await?;
        super::say(&(lines("applied", &applied) + "the schema is up to date\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let pending = migrate::pending(&Db::new(&config.postgres, 1)?).await?;
    super::say(&lines("pending", &pending))?;
    Ok(if pending.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Applies what is pending.
pub(super) async fn apply(config: &Config) -> anyhow::Result<Vec<String>> {
    migrate::migrate(&Db::new(&config.postgres, 1)?).await
}

fn lines(what: &str, names: &[String]) -> String {
    names.iter().fold(String::new(), |lines, name| lines + what + " " + name + "\n")
}
