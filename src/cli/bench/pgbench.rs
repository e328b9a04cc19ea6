//! The measure of all ratios: `pgbench` doing what a server without a booking desk would do, one
//! transaction a booking, on tables of the same shape in the same database.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::task::spawn_blocking;

use super::rig::Services;
use crate::cli::hammer::load::quantile;
use crate::clock::Ids;

/// The tables.
const TABLES: &str = include_str!("pgbench/tables.sql");
/// The transaction.
const BOOKING: &str = include_str!("pgbench/booking.sql");

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    /// Transactions a second.
    pub per_second: f64,
    /// The mean of a transaction.
    pub mean_ms: f64,
    /// The median of a transaction.
    pub p50_ms: f64,
}

/// The program, its tables and a folder for its files.
#[derive(Debug)]
pub struct Pgbench {
    program: String,
    database_url: String,
    folder: PathBuf,
}

impl Pgbench {
    /// Makes the tables in a database of their own.
    ///
    /// # Errors
    /// When they cannot be made, or there is no such program.
    pub async fn new(program: String, services: &Services) -> anyhow::Result<Self> {
        let found = Command::new(&program).arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            bail!("cannot run {program}: set PGBENCH to PostgreSQL's pgbench");
        }
        let (name, database_url) = services.create_database("plain").await?;
        let db = services.db(&database_url, 1)?;
        let conn = db.get().await.with_context(|| format!("cannot open {name}"))?;
        conn.batch_execute(TABLES).await.context("pgbench's tables")?;
        let folder = std::env::temp_dir().join(format!("happening-bench-{}", Ids.uuid().simple()));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("booking.sql"), BOOKING)?;
        Ok(Self { program, database_url, folder })
    }

    /// Books with `clients` connections for that long.
    ///
    /// # Errors
    /// When it fails or says something else than it used to.
    pub async fn run(&self, clients: u16, time: Duration) -> anyhow::Result<Plain> {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.folder)
            .args(["-n", "-M", "prepared", "-j", "2", "-f", "booking.sql", "-l"])
            .args(["-c", &clients.to_string()])
            .args(["-T", &time.as_secs().max(1).to_string()])
            .args(["--log-prefix=log", "--sampling-rate=0.2", &self.database_url]);
        let output = spawn_blocking(move || command.output()).await?.context("pgbench")?;
        let logs = self.take_logs()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let (per_second, mean_ms) =
            parse(&text).with_context(|| format!("pgbench said something new: {text}"))?;
        let p50 = Duration::from_micros(quantile(&logs, 500));
        Ok(Plain { per_second, mean_ms, p50_ms: p50.as_secs_f64() * 1e3 })
    }

    /// Sorted latencies in microseconds from the files it left.
    fn take_logs(&self) -> anyhow::Result<Vec<u64>> {
        let mut latencies = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let log =
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log."));
            if log {
                let text = std::fs::read_to_string(&path)?;
                latencies.extend(text.lines().filter_map(latency_us));
                std::fs::remove_file(&path)?;
            }
        }
        latencies.sort_unstable();
        Ok(latencies)
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// Transactions a second, and their mean in milliseconds.
fn parse(text: &str) -> Option<(f64, f64)> {
    let after = |start: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(start))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((after("tps = ")?, after("latency average = ")?))
}

/// The third column of a line: client, transaction, microseconds, …
fn latency_us(line: &str) -> Option<u64> {
    line.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_understood() {
        let text = "number of clients: 64\nlatency average = 59.017 ms\n\
                    initial connection time = 112.9 ms\n\
                    tps = 1084.427 (without initial connection time)\n";
        assert_eq!(parse(text), Some((1084.427, 59.017)));
        assert_eq!(parse("pgbench: error"), None);
        assert_eq!(latency_us("0 199 2241 0 1175850568 995598"), Some(2241));
    }
}
