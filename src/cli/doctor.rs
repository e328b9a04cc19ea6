//! `happening doctor`: checks everything that the process needs, and says how to mend it. It only
//! looks: what it makes (one exclusive queue) is gone when it leaves.

mod ports;
mod postgres;
mod rabbit;
mod redis;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use crate::clock::Ids;
use crate::config::{self, Config, ConfigError};
use crate::telemetry::otlp::Collector;

/// How long one part may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to examine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Machine-readable: `{ok, checks: [{name, status, found, mend}]}`
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Status,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<&'static str>,
}

/// Everything that was looked at.
#[derive(Debug, Default)]
struct Report(Vec<Check>);

impl Report {
    fn ok(&mut self, name: &str, found: impl Into<String>) {
        self.add(name, Status::Ok, found.into(), None);
    }

    fn warn(&mut self, name: &str, found: impl Into<String>, mend: &'static str) {
        self.add(name, Status::Warn, found.into(), Some(mend));
    }

    fn fail(&mut self, name: &str, found: impl Into<String>, mend: &'static str) {
        self.add(name, Status::Fail, found.into(), Some(mend));
    }

    /// Fine if it holds; else as bad as `otherwise`.
    fn expect(
        &mut self,
        name: &str,
        holds: bool,
        found: impl Into<String>,
        otherwise: Status,
        mend: &'static str,
    ) {
        let (status, mend) = if holds { (Status::Ok, None) } else { (otherwise, Some(mend)) };
        self.add(name, status, found.into(), mend);
    }

    fn add(&mut self, name: &str, status: Status, found: String, mend: Option<&'static str>) {
        self.0.push(Check { name: name.to_owned(), status, found, mend });
    }

    fn worst(&self) -> Status {
        self.0.iter().map(|check| check.status).max().unwrap_or(Status::Ok)
    }
}

/// Examines, prints, and fails if something must be mended.
///
/// # Errors
/// Never: what goes wrong is a finding.
pub async fn run(args: Args, config: Result<Config, ConfigError>) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    match config {
        Err(error) => {
            let mend = "correct these keys; config/default.toml explains every one";
            report.fail("config", error.to_string(), mend);
        }
        Ok(config) => {
            settings(&mut report, &config);
            let late = "it accepts connections but does not answer: look at its own log";
            if timeout(PATIENCE, postgres::examine(&mut report, &config)).await.is_err() {
                report.fail("postgres", "no answer", late);
            }
            if timeout(PATIENCE, redis::examine(&mut report, &config)).await.is_err() {
                report.fail("redis", "no answer", late);
            }
            if timeout(PATIENCE, rabbit::examine(&mut report, &config)).await.is_err() {
                report.fail("rabbitmq", "no answer", late);
            }
            ports::examine(&mut report, &config).await;
            collector(&mut report, &config.tracing).await;
        }
    }
    print(&report, args.json)?;
    Ok(if report.worst() == Status::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is allowed but deserves a second look.
fn settings(report: &mut Report, config: &Config) {
    report.ok("config", "every key can be used");
    if config.demo {
        let mend = "unset HAPPENING__DEMO before real people come";
        report.warn("config.demo", "known accounts with a known password sign in", mend);
    } else {
        report.ok("auth.signing_secret", "set, and not the demo's");
    }
    if config.limits.exempt_loopback && !config.demo {
        let mend = "set limits.exempt_loopback = false unless load comes from this machine";
        report.warn("limits.exempt_loopback", "callers on loopback have no limit", mend);
    }
    let local = config.http.host.starts_with("127.") || config.http.host == "::1";
    let found = format!("listens on {}", config.http.host);
    let mend = "let a TLS proxy stand in front, and name it in http.trusted_proxies";
    let proxied = local || !config.http.trusted_proxies.is_empty();
    report.expect("http.host", proxied, found, Status::Warn, mend);
}

/// Whether somebody takes spans, if they are to be taken. Everything else goes on without.
async fn collector(report: &mut Report, tracing: &config::Tracing) {
    if tracing.otlp_endpoint.is_empty() {
        return report.ok("tracing", "off");
    }
    let asked = async { Collector::new(tracing, Ids.uuid())?.send(Vec::new()).await };
    let mend = "start the collector, or correct tracing.otlp_endpoint and tracing.otlp_headers";
    match asked.await {
        Ok(_) => report.ok("tracing", format!("{} takes spans", tracing.otlp_endpoint)),
        Err(error) => report.warn("tracing", format!("{error:#}"), mend),
    }
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let mut text = String::new();
    if json {
        let ok = report.worst() != Status::Fail;
        let value = serde_json::json!({ "ok": ok, "checks": report.0 });
        text = serde_json::to_string_pretty(&value)? + "\n";
    } else {
        let width = report.0.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for Check { name, status, found, mend } in &report.0 {
            let mark = match status {
                Status::Ok => "ok  ",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            let found = found.replace('\n', "\n      ");
            writeln!(text, "{mark}  {name:width$}  {found}")?;
            if let Some(mend) = mend {
                writeln!(text, "      {:width$}  -> {mend}", "")?;
            }
        }
    }
    super::say(&text)
}
