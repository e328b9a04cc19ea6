//! The command line: one verb a file.

pub mod bench;
pub mod dead_letters;
pub mod demo;
pub mod doctor;
pub mod hammer;
pub mod integrity;
pub mod migrate;
pub mod serve;
pub mod streams;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Seats that are really yours: holds, bookings, fair waitlists, and every consequence as a
/// message. Settings: config/default.toml, the file named by `HAPPENING_CONFIG`, the environment.
#[derive(Debug, Parser)]
#[command(name = "happening", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves, until SIGTERM or SIGINT
    Serve(serve::Args),
    /// Brings the database schema up to date
    Migrate(migrate::Args),
    /// Lists messages that died, sends them again, or drops them
    DeadLetters(dead_letters::Args),
    /// Lists the streams of the bus, or shows what passes by
    Streams(streams::Args),
    /// Checks every dependency and says how to mend what it finds
    Doctor(doctor::Args),
    /// Compares Redis with `PostgreSQL`, and `PostgreSQL` with itself
    Integrity(integrity::Args),
    /// Loads the demo (known accounts, two events on sale) and, with --serve, serves it
    Demo(demo::Args),
    /// Sends buyers at an own instance and says whether it kept its promises
    Hammer(hammer::Args),
    /// Measures the speed promises (`./dev bench` starts what it needs)
    Bench(bench::Args),
}

impl Cli {
    /// Does it. The exit code tells what was found; an error is why it could not be done.
    ///
    /// # Errors
    /// When the settings cannot be used, or the command fails.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(args) => serve::run(args, Config::load()?).await,
            Command::Migrate(args) => migrate::run(args, Config::load()?).await,
            Command::DeadLetters(args) => dead_letters::run(args, Config::load()?).await,
            Command::Streams(args) => streams::run(args, Config::load()?).await,
            // The doctor also examines settings that cannot be used.
            Command::Doctor(args) => doctor::run(args, Config::load()).await,
            Command::Integrity(args) => integrity::run(args, Config::load()?).await,
            Command::Demo(args) => demo::run(args).await,
            // The hammer needs settings only to reach the database.
            Command::Hammer(args) => hammer::run(args, Config::load()).await,
            Command::Bench(args) => bench::run(args).await,
        }
    }
}

/// Prints to standard output; unlike `println!`, a reader that has gone away is no panic.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
