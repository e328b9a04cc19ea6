//! `happening serve`: the server, until somebody asks it to stop.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::postgres::{Db, migrate};
use crate::server::Server;
use crate::telemetry;

/// How long the check of the schema may take before it is left to `/health/ready`.
const SCHEMA_CHECK: Duration = Duration::from_secs(5);

/// How to serve.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Bring the database schema up to date first
    #[arg(long)]
    migrate: bool,
}

/// Serves.
///
/// # Errors
/// When it cannot start, or ends for another reason than a signal.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    telemetry::logs::start(&config.log)?;
    if args.migrate {
        super::migrate::apply(&config).await?;
    } else {
        check_schema(&config).await?;
    }
    let server = Server::start(config).await?;
    until_signalled(server).await
}

/// Serves until SIGTERM or SIGINT; the second one cuts the orderly stop short.
pub(super) async fn until_signalled(server: Server) -> anyhow::Result<ExitCode> {
    let terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let (stop, force) = (CancellationToken::new(), server.force());
    let serving = server.run_until(stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended.map(|()| ExitCode::SUCCESS),
        () = watch(terminate, interrupt, stop, force) => {}
    }
    serving.await.map(|()| ExitCode::SUCCESS)
}

/// First signal: stop. Second: at once.
async fn watch(
    mut terminate: Signal,
    mut interrupt: Signal,
    stop: CancellationToken,
    force: CancellationToken,
) {
    for token in [stop, force] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    }
}

/// A schema that is behind would fail every request: better not to start. A database that is
/// away may come: then `/health/ready` says so.
async fn check_schema(config: &Config) -> anyhow::Result<()> {
    let db = Db::new(&config.postgres, 1)?;
    match timeout(SCHEMA_CHECK, migrate::pending(&db)).await {
        Ok(Ok(pending)) if !pending.is_empty() => {
            let list = pending.join(", ");
            bail!("the schema is behind ({list}): run `happening migrate` or serve with --migrate")
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = format!("{error:#}"), "the schema could not be checked");
        }
        Err(_) => tracing::warn!("the schema could not be checked in time"),
    }
    Ok(())
}
