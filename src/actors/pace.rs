//! While people are booking, what can wait goes slowly: the relay and the consumers share the
//! machine with the desk. When it is quiet they run free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::wake::Busy;

/// How much of a second a paced portion covers, so that the pace is even and not by fits.
const PORTIONS_PER_SECOND: u32 = 20;
/// How often a waiting one looks whether the desk is still busy.
const LOOK: Duration = Duration::from_millis(25);

/// A rate that several may share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pace {
    busy: Busy,
    clock: Clock,
    per_second: u32,
    begun: Instant,
    /// When the next portion may start, in microseconds since `begun`.
    next_us: Arc<AtomicU64>,
}

impl Pace {
    /// At most `per_second` messages while the desk is busy; 0 is no bound.
    pub fn new(busy: Busy, clock: Clock, per_second: u32) -> Self {
        let next_us = Arc::new(AtomicU64::new(0));
        Self { busy, clock, per_second, begun: Instant::now(), next_us }
    }

    /// How many to take at once: all that `free` allows, or a small portion.
    pub fn portion(&self, free: usize) -> usize {
        if !self.slows() {
            return free;
        }
        let small = (self.per_second / PORTIONS_PER_SECOND).max(1);
        usize::try_from(small).unwrap_or(free).min(free)
    }

    /// Waits until `messages` more fit the rate, or the desk is quiet.
    pub async fn keep(&self, messages: usize) {
        if !self.slows() || messages == 0 {
            return;
        }
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        let cost_us = messages.saturating_mul(1_000_000) / u64::from(self.per_second);
        let now_us = self.now_us();
        let booked = self.next_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            Some(next.max(now_us).saturating_add(cost_us))
        });
        let start_us = booked.unwrap_or(0).max(now_us);
        loop {
            let left = Duration::from_micros(start_us.saturating_sub(self.now_us()));
            if left.is_zero() || !self.slows() {
                return;
            }
            sleep(left.min(LOOK)).await;
        }
    }

    /// Lets work gather for a moment while the desk is busy.
    pub async fn gather(&self, moment: Duration) {
        if self.slows() {
            sleep(moment).await;
        }
    }

    fn slows(&self) -> bool {
        self.per_second > 0 && self.busy.is_busy(self.clock.now().as_millisecond())
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, Timestamp};

    #[tokio::test(start_paused = true)]
    async fn keeps_the_rate_while_busy_and_only_then() {
        let clock = Clock::manual(Timestamp::from_second(1000).unwrap());
        let busy = Busy::default();
        let pace = Pace::new(busy.clone(), clock.clone(), 1000);
        let begun = Instant::now();
        pace.keep(500).await;
        assert_eq!((begun.elapsed().as_millis(), pace.portion(500)), (0, 500));
        busy.touch(clock.now().as_millisecond());
        assert_eq!(pace.portion(500), 50);
        for _ in 0..5 {
            pace.keep(50).await;
        }
        assert!((200..=230).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        clock.advance(SignedDuration::from_secs(1));
        pace.keep(50_000).await;
        assert!(begun.elapsed().as_millis() <= 230);
    }
}
