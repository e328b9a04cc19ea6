//! What this process notices of itself while it works: how services get on with their messages, how
//! long messages wait for them, and what they wait for themselves. It is written down here by
//! whoever notices and read by the watchman, without PostgreSQL or any broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::domain::alarm::judge::Paused;
use crate::domain::alarm::rate::Taken;

/// What was noticed longer ago than this says nothing about now. A breaker's longest pause is
/// shorter, and so is the time that a broker keeps what was given back to it.
const FRESH: SignedDuration = SignedDuration::from_secs(60);

/// The board on which all of it stands. Cheap to clone; as large as there are services.
#[derive(Clone, Debug, Default)]
pub struct Signals(Arc<Mutex<Board>>);

#[derive(Debug, Default)]
struct Board {
    taken: BTreeMap<&'static str, Taken>,
    /// The age of the oldest message that waits, in seconds, and when it was measured.
    backlogs: BTreeMap<&'static str, (u64, Timestamp)>,
    breakers: BTreeMap<&'static str, Outage>,
}

#[derive(Debug)]
struct Outage {
    since: Timestamp,
    /// When it was noticed last.
    last: Timestamp,
    why: String,
}

impl Signals {
    /// A service has dealt with so many messages more: those that went well, and those that did
    /// not.
    pub fn took(&self, service: &'static str, fine: u64, failed: u64) {
        let mut board = self.board();
        let taken = board.taken.entry(service).or_default();
        taken.fine = taken.fine.saturating_add(fine);
        taken.failed = taken.failed.saturating_add(failed);
    }

    /// The oldest message that waits for a service is so many seconds old; 0: none waits.
    pub fn waits(&self, service: &'static str, seconds: u64, now: Timestamp) {
        self.board().backlogs.insert(service, (seconds, now));
    }

    /// Something that `who` needs is away.
    pub fn failed(&self, who: &'static str, why: String, now: Timestamp) {
        let mut board = self.board();
        let outage =
            board.breakers.entry(who).or_insert(Outage { since: now, last: now, why: why.clone() });
        (outage.last, outage.why) = (now, why);
    }

    /// Whatever it was that `who` needs, if anything, it is not there yet.
    pub fn still_failing(&self, who: &'static str, now: Timestamp) {
        if let Some(outage) = self.board().breakers.get_mut(who) {
            outage.last = now;
        }
    }

    /// All that `who` needs is there.
    pub fn recovered(&self, who: &'static str) {
        self.board().breakers.remove(who);
    }

    /// How much services have taken altogether.
    pub fn taken(&self) -> Vec<(&'static str, Taken)> {
        self.board().taken.iter().map(|(service, taken)| (*service, *taken)).collect()
    }

    /// How long messages wait for those services of which that is known.
    pub fn backlogs(&self, now: Timestamp) -> Vec<(String, u64)> {
        let board = self.board();
        let fresh = board.backlogs.iter().filter(|(_, (_, at))| is_fresh(*at, now));
        fresh.map(|(service, (seconds, _))| ((*service).to_owned(), *seconds)).collect()
    }

    /// Who waits for what is away. Who has no more work to notice it by does not wait any more.
    pub fn paused(&self, now: Timestamp) -> Vec<Paused> {
        let mut board = self.board();
        board.breakers.retain(|_, outage| is_fresh(outage.last, now));
        let paused = board.breakers.iter().map(|(who, outage)| {
            let seconds = now.duration_since(outage.since).as_secs();
            let seconds = u64::try_from(seconds).unwrap_or(0);
            Paused { who: (*who).to_owned(), seconds, why: outage.why.clone() }
        });
        paused.collect()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) <= FRESH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noticed_long_ago_says_nothing() {
        let signals = Signals::default();
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        signals.waits("a", 7, at(0));
        assert_eq!(signals.backlogs(at(60)), [("a".to_owned(), 7)]);
        assert_eq!(signals.backlogs(at(61)), []);
        signals.still_failing("a", at(0));
        assert!(signals.paused(at(0)).is_empty());
        signals.failed("a", "redis is away".to_owned(), at(0));
        signals.failed("a", "redis is still away".to_owned(), at(50));
        signals.still_failing("a", at(70));
        let paused = signals.paused(at(130));
        assert_eq!((paused[0].seconds, paused[0].why.as_str()), (130, "redis is still away"));
        assert!(signals.paused(at(131)).is_empty());
        signals.failed("a", String::new(), at(200));
        signals.recovered("a");
        assert!(signals.paused(at(200)).is_empty());
        signals.took("a", 3, 1);
        signals.took("a", 2, 0);
        assert_eq!(signals.taken(), [("a", Taken { fine: 5, failed: 1 })]);
    }
}
