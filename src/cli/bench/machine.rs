//! The machine that everything runs on: waits until it is nearly idle before a run (it may be
//! shared with other work), and finds free ports on it.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::time::sleep;

/// How idle the cores have to be, in percent.
const IDLE_PERCENT: u64 = 85;
/// How long they are watched.
const WINDOW: Duration = Duration::from_millis(500);
/// How long one run waits for an idle machine at most.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Waits for an idle machine, within a budget.
#[derive(Debug)]
pub struct Idle {
    budget: Duration,
}

impl Idle {
    /// Waits for so long at most, all runs together.
    pub fn new(budget: Duration) -> Self {
        Self { budget }
    }

    /// Returns when the machine is nearly idle, or when waiting is not worth it any more.
    pub async fn wait(&mut self) {
        let started = Instant::now();
        let limit = WAIT_MAX.min(self.budget);
        loop {
            let before = jiffies();
            sleep(WINDOW).await;
            let (Some((idle_0, all_0)), Some((idle_1, all_1))) = (before, jiffies()) else { break };
            let all = all_1.saturating_sub(all_0).max(1);
            let percent = idle_1.saturating_sub(idle_0).saturating_mul(100) / all;
            if percent >= IDLE_PERCENT {
                break;
            }
            if started.elapsed() >= limit {
                eprintln!("  the machine is only {percent} % idle; measuring all the same");
                break;
            }
        }
        self.budget = self.budget.saturating_sub(started.elapsed());
    }
}

/// Idle time and all time of all cores so far; `None` where there is no /proc.
fn jiffies() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    parse(&stat)
}

fn parse(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_whitespace().map_while(|time| time.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal (guests are counted in user already)
    let idle = times.get(3)? + times.get(4)?;
    Some((idle, times.iter().take(8).sum()))
}

/// A port on loopback that nobody listens on.
///
/// # Errors
/// When the kernel has none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_read() {
        let stat = "cpu  10 1 5 80 4 0 0 0 7 0\ncpu0 1 2 3\n";
        assert_eq!(parse(stat), Some((84, 100)));
        assert_eq!(parse("intr 1"), None);
    }
}
