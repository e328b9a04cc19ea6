//! How much failed lately, out of counters that only ever grow.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// Into how many parts a window is cut: what is older than the window leaves it part by part.
const PARTS: i32 = 60;

/// How many messages a service has dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Those that went well.
    pub fine: u64,
    /// Those that failed, be it for a while.
    pub failed: u64,
}

impl Taken {
    fn since(self, before: Self) -> Self {
        Self {
            fine: self.fine.saturating_sub(before.fine),
            failed: self.failed.saturating_sub(before.failed),
        }
    }
}

/// A window that moves with time.
#[derive(Clone, Debug, Default)]
pub struct Window(VecDeque<(Timestamp, Taken)>);

impl Window {
    /// What was added to the counters within the last `span`, which end at `now` with `total`.
    pub fn look(&mut self, now: Timestamp, total: Taken, span: SignedDuration) -> Taken {
        let begin = now.checked_sub(span).unwrap_or(Timestamp::MIN);
        // The newest look that is as old as the window stays: from it on everything is inside.
        while self.0.get(1).is_some_and(|(at, _)| *at <= begin) {
            self.0.pop_front();
        }
        let before = self.0.front().map_or(total, |(_, taken)| *taken);
        let last = self.0.back().map(|(at, _)| *at);
        if last.is_none_or(|last| now.duration_since(last) >= span / PARTS) {
            self.0.push_back((now, total));
        }
        total.since(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut window = Window::default();
        let span = SignedDuration::from_secs(60);
        let mut look = |second: i64, fine, failed| {
            let at = Timestamp::from_second(1_000_000 + second).unwrap();
            let taken = window.look(at, Taken { fine, failed }, span);
            assert!(window.0.len() <= 62, "{}", window.0.len());
            (taken.fine, taken.failed)
        };
        assert_eq!(look(0, 10, 5), (0, 0), "what was before the first look is not known");
        assert_eq!(look(30, 20, 7), (10, 2));
        assert_eq!(look(60, 20, 7), (10, 2));
        assert_eq!(look(90, 21, 7), (1, 0));
        assert_eq!(look(1000, 21, 7), (0, 0));
        for n in 0..10_000 {
            look(1000 + n / 10, 21, 7);
        }
    }
}
