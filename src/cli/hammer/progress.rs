//! One line a second on standard error, rewritten in place on a terminal and otherwise left out,
//! so that logs and `--json` stay clean.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where progress is shown.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    started: Instant,
    /// Milliseconds since the start when a line was last written.
    written_ms: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            shown: std::io::stderr().is_terminal(),
            started: Instant::now(),
            written_ms: AtomicU64::new(0),
        }
    }
}

impl Progress {
    /// Shows nothing.
    pub fn silent() -> Self {
        Self { shown: false, ..Self::default() }
    }

    /// Shows `what` is so far, at most once a second.
    pub fn step(&self, what: &str, done: u64, of: u64) {
        self.line(|| format!("{what}: {done} of {of}"));
    }

    /// Shows a line, at most one a second.
    pub fn line(&self, text: impl FnOnce() -> String) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last_ms = self.written_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(last_ms) >= 1000;
        if !self.shown || !due {
            return;
        }
        self.written_ms.store(now_ms, Ordering::Relaxed);
        let mut out = std::io::stderr().lock();
        let _ = write!(out, "\r\x1b[K{}", text());
        let _ = out.flush();
    }

    /// Clears the line.
    pub fn done(&self) {
        if self.shown && self.written_ms.swap(0, Ordering::Relaxed) > 0 {
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "\r\x1b[K");
            let _ = out.flush();
        }
    }
}

/// What the workers have seen so far, for the line a second.
#[derive(Debug, Default)]
pub struct Tally {
    /// Bookings answered for good.
    pub answered: AtomicU64,
    /// Seats are theirs.
    pub confirmed: AtomicU64,
    /// They wait.
    pub waitlisted: AtomicU64,
    /// Told no.
    pub refused: AtomicU64,
    /// No answer, or a 5xx.
    pub errors: AtomicU64,
}

impl Tally {
    /// Counts one more.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows a line a second until dropped.
    pub async fn show(&self, progress: &Progress) {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(1010)).await;
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let answered = read(&self.answered);
            progress.line(|| {
                format!(
                    "{answered} answered ({}/s) · {} confirmed · {} waitlisted · {} refused · {} \
                     errors",
                    answered.saturating_sub(before),
                    read(&self.confirmed),
                    read(&self.waitlisted),
                    read(&self.refused),
                    read(&self.errors),
                )
            });
            before = answered;
        }
    }
}
