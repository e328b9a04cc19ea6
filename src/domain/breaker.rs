//! A circuit breaker: while something that is needed is away, nobody is sent there but now and then
//! a probe, so that an outage neither floods the dead letters nor hides behind them.

use std::time::Duration;

/// First pause after a failure, and the longest one.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Everything goes.
    Closed,
    /// One may go, to see how it is.
    Probe,
    /// Nothing goes, for so long.
    Open(Duration),
}

/// A breaker. Times are those of any clock that does not go back, since any moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    until: Duration,
}

impl Breaker {
    /// What is allowed at `now`.
    pub fn gate(&self, now: Duration) -> Gate {
        match self.until.checked_sub(now) {
            _ if self.failures == 0 => Gate::Closed,
            None | Some(Duration::ZERO) => Gate::Probe,
            Some(left) => Gate::Open(left),
        }
    }

    /// Whether it is open or trying.
    pub fn is_open(&self) -> bool {
        self.failures > 0
    }

    /// It failed at `now`: the pause doubles.
    pub fn fail(&mut self, now: Duration) {
        let doubled = PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.until = now.saturating_add(doubled.min(PAUSE_MAX));
    }

    /// It worked; says whether it was open.
    pub fn succeed(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_probes_and_closes() {
        let at = Duration::from_millis;
        let mut breaker = Breaker::default();
        assert_eq!(breaker.gate(at(0)), Gate::Closed);
        breaker.fail(at(1000));
        assert_eq!(breaker.gate(at(1100)), Gate::Open(at(150)));
        assert_eq!(breaker.gate(at(1250)), Gate::Probe);
        breaker.fail(at(1250));
        assert_eq!(breaker.gate(at(1250)), Gate::Open(at(500)), "the pause doubles");
        for _ in 0..100 {
            breaker.fail(at(2000));
        }
        assert_eq!(breaker.gate(at(2000)), Gate::Open(PAUSE_MAX));
        assert!(breaker.is_open() && breaker.succeed() && !breaker.is_open());
        assert_eq!(breaker.gate(at(2000)), Gate::Closed);
        assert!(!breaker.succeed());
    }
}
