//! How fast one client may speak.

use std::time::Duration;

use tokio::time::Instant;

/// So many more frames that were too many than fine ones, and the client is sent away: it does not
/// listen.
const STRIKES_MAX: u32 = 200;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Fine,
    /// It is refused.
    TooFast,
    /// Its sender is sent away.
    Enough,
}

/// One client's pace: the time at which it would have sent all its frames at the steady rate
/// (GCRA), so that a socket remembers no more than an instant.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    until: Instant,
    strikes: u32,
}

impl Pace {
    /// Nothing was sent yet.
    pub fn new(now: Instant) -> Self {
        Self { until: now, strikes: 0 }
    }

    /// Counts a frame that came at `now`: `rate` a second, `burst` at once.
    pub fn count(&mut self, now: Instant, rate: u32, burst: u32) -> Verdict {
        let each = Duration::from_secs(1) / rate.max(1);
        let until = self.until.max(now);
        if until.saturating_duration_since(now) > each.saturating_mul(burst.saturating_sub(1)) {
            self.strikes = self.strikes.saturating_add(1);
            return if self.strikes > STRIKES_MAX { Verdict::Enough } else { Verdict::TooFast };
        }
        self.strikes = self.strikes.saturating_sub(1);
        self.until = until.checked_add(each).unwrap_or(until);
        Verdict::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_floods_evenly_is_sent_away_as_well() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut count = |ms| pace.count(start + Duration::from_millis(ms), 20, 60);
        // A hundred a second: a fifth of them is fine.
        let verdicts: Vec<Verdict> = (0..1_000).map(|n| count(n * 10)).collect();
        assert_eq!(verdicts.last(), Some(&Verdict::Enough));
    }

    #[test]
    fn a_burst_passes_then_the_steady_rate_then_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut count = |ms| pace.count(start + Duration::from_millis(ms), 10, 5);
        for _ in 0..5 {
            assert_eq!(count(0), Verdict::Fine);
        }
        assert_eq!(count(0), Verdict::TooFast);
        assert_eq!(count(101), Verdict::Fine);
        assert_eq!(count(102), Verdict::TooFast);
        for _ in 0..STRIKES_MAX - 1 {
            assert_eq!(count(103), Verdict::TooFast);
        }
        assert_eq!(count(103), Verdict::Enough);
        assert_eq!(count(5_000), Verdict::Fine, "whoever calms down is welcome");
    }
}
