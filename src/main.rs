//! Arguments, settings, exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use happening::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is still running when all is done gets this long.
const FAREWELL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Libraries that speak TLS pick it up; there is no other way to tell all of them.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("happening: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(Box::pin(cli.run()));
    runtime.shutdown_timeout(FAREWELL);
    outcome.unwrap_or_else(|error| {
        eprintln!("happening: {error:#}");
        ExitCode::FAILURE
    })
}
