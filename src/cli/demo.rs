//! `happening demo`: something to look at, with accounts whose password everybody knows. With
//! `--serve` it is all one needs: migrate, load, serve, and say what to open.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::app::demo::{self, Demo, PEOPLE};
use crate::config::Config;
use crate::domain::account::DEMO_PASSWORD;
use crate::server::{self, Server};
use crate::telemetry;

/// How to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Switch demo mode on, migrate, load, and serve until SIGTERM or SIGINT
    #[arg(long)]
    serve: bool,
}

/// Loads the demo.
///
/// # Errors
/// When a service is away, or without `--serve` outside of demo mode.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if !args.serve {
        let config = Config::load()?;
        telemetry::logs::start(&config.log)?;
        let loaded = demo::load(&server::handles(config)?).await.map_err(anyhow::Error::from);
        loaded.context("the demo could not be loaded")?;
        super::say("the demo is loaded\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load_demo()?;
    telemetry::logs::start(&config.log)?;
    super::migrate::apply(&config).await?;
    let server = Server::start(config).await?;
    match demo::load(server.app()).await {
        Ok(demo) => super::say(&welcome(&server, demo))?,
        Err(error) => {
            let stop = CancellationToken::new();
            stop.cancel();
            server.run_until(stop).await.ok();
            return Err(anyhow::Error::from(error).context("the demo could not be loaded"));
        }
    }
    super::serve::until_signalled(server).await
}

/// What to open and what to try.
fn welcome(server: &Server, demo: Demo) -> String {
    let mut text = String::from("\nHappening is ready.\n\n");
    if let Some(address) = server.api_address() {
        let base = base(address);
        for (path, what) in [
            ("/", "what is on: book two seats"),
            ("/docs/", "every call, to try in the browser"),
            ("/health/ready", "is it ready, and what runs in it"),
            ("/metrics", "for Prometheus"),
        ] {
            let _ = writeln!(text, "  {:40}  {what}", format!("{base}{path}"));
        }
        let _ = write!(
            text,
            "\nBook two seats from a shell:\n\n  \
             TOKEN=$(curl -s {base}/api/v1/auth/login -H 'Content-Type: application/json' \
             -d '{{\"email\":\"ana@happening.test\",\"password\":\"{DEMO_PASSWORD}\"}}' \
             | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n  \
             curl -s {base}/api/v1/bookings -H \"Authorization: Bearer $TOKEN\" \
             -H 'Content-Type: application/json' \
             -d '{{\"event_id\":\"{}\",\"seats\":2}}'\n",
            demo.general
        );
    }
    let _ = writeln!(text, "\nAccounts (password {DEMO_PASSWORD}):\n");
    for (email, _, _, what) in PEOPLE {
        let _ = writeln!(text, "  {email:26}  {what}");
    }
    let _ = writeln!(
        text,
        "\nEvents on sale:\n\n  {}  Open-Air Night, 500 places\n  {}  Chamber Concert, 60 numbered \
         seats\n",
        demo.general, demo.numbered
    );
    text
}

/// An address that can be opened on this machine.
fn base(address: SocketAddr) -> String {
    let ip = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}
