//! What of all that was observed is bad enough to be an alarm, if it lasts.

use super::rate::Taken;
use super::{AlarmKind, Sighting};

/// What the outbox's lanes are called in alarms, before the name of the lane.
pub const OUTBOX: &str = "outbox.";

/// From when on something is bad.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How old the oldest message that waits may be, in seconds.
    pub backlog_seconds: u64,
    /// How many in a hundred messages may fail.
    pub error_percent: u64,
    /// Fewer failures than this are no rate.
    pub errors_min: u64,
    /// How many messages of a service may die within the window.
    pub dead_letters_max: u64,
}

/// Messages that died for the same service, or of the same type.
#[derive(Clone, Debug)]
pub struct Dead {
    /// The service that could not process them, or the type that could not be published.
    pub what: String,
    /// How many.
    pub count: u64,
    /// What the last of them died of.
    pub reason: String,
}

/// What PostgreSQL knows.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What the relay gave up and nobody has dealt with, by type, and whether that is urgent.
    pub given_up: Vec<(Dead, bool)>,
    /// What died for services within the window, by service.
    pub died: Vec<Dead>,
    /// Seconds since the oldest unsent message of each lane was written; 0: there is none.
    pub unsent: Vec<(&'static str, u64)>,
}

/// A breaker that is open.
#[derive(Clone, Debug)]
pub struct Paused {
    /// Who waits.
    pub who: String,
    /// For how long, in seconds.
    pub seconds: u64,
    /// For what, and how it showed.
    pub why: String,
}

/// What was observed in one look.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// `None`: PostgreSQL could not be asked.
    pub ledger: Option<Ledger>,
    /// Of the services that are measured: seconds since the oldest message that waits was stored.
    pub backlogs: Vec<(String, u64)>,
    /// What services of this process took within the window.
    pub taken: Vec<(String, Taken)>,
    /// Breakers of this process that are open.
    pub paused: Vec<Paused>,
}

impl Observed {
    /// Whether nothing can be said about that alarm now: neither that it is there nor that it is
    /// over.
    pub fn is_blind(&self, kind: AlarmKind, subject: &str) -> bool {
        match kind {
            AlarmKind::PublicationFailed | AlarmKind::DeadLetters => self.ledger.is_none(),
            AlarmKind::BacklogOld if subject.starts_with(OUTBOX) => self.ledger.is_none(),
            AlarmKind::BacklogOld => !self.backlogs.iter().any(|(service, _)| service == subject),
            AlarmKind::ErrorRate | AlarmKind::BreakerOpen => false,
        }
    }

    /// What is bad.
    pub fn judge(&self, limits: &Limits) -> Vec<Sighting> {
        let mut bad = Vec::new();
        if let Some(ledger) = &self.ledger {
            for (dead, urgent) in ledger.given_up.iter().filter(|(dead, _)| dead.count > 0) {
                let measured = (dead.count, 1);
                let kind = AlarmKind::PublicationFailed;
                let one = Sighting::new(kind, &dead.what, measured, &dead.reason);
                bad.push(Sighting { urgent: *urgent, ..one });
            }
            for dead in ledger.died.iter().filter(|dead| dead.count >= limits.dead_letters_max) {
                let measured = (dead.count, limits.dead_letters_max);
                bad.push(Sighting::new(AlarmKind::DeadLetters, &dead.what, measured, &dead.reason));
            }
        }
        let lanes = self.ledger.iter().flat_map(|ledger| &ledger.unsent);
        let lanes = lanes.map(|(lane, age)| (format!("{OUTBOX}{lane}"), *age));
        for (subject, age) in lanes.chain(self.backlogs.iter().cloned()) {
            if age >= limits.backlog_seconds {
                let measured = (age, limits.backlog_seconds);
                bad.push(Sighting::new(AlarmKind::BacklogOld, &subject, measured, ""));
            }
        }
        for (service, taken) in &self.taken {
            let all = taken.fine.saturating_add(taken.failed);
            let percent = taken.failed.saturating_mul(100).checked_div(all).unwrap_or(0);
            if taken.failed >= limits.errors_min && percent >= limits.error_percent {
                let note = format!("{} of {all}", taken.failed);
                let measured = (percent, limits.error_percent);
                bad.push(Sighting::new(AlarmKind::ErrorRate, service, measured, &note));
            }
        }
        for one in &self.paused {
            bad.push(Sighting::new(AlarmKind::BreakerOpen, &one.who, (one.seconds, 0), &one.why));
        }
        bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { backlog_seconds: 300, error_percent: 20, errors_min: 10, dead_letters_max: 5 };

    fn names(observed: &Observed) -> Vec<(&'static str, String, u64)> {
        let bad = observed.judge(&LIMITS);
        bad.into_iter().map(|one| (one.kind.name(), one.subject, one.value)).collect()
    }

    #[test]
    fn limits_are_where_it_begins() {
        let dead = |what: &str, count| Dead { what: what.into(), count, reason: "so".into() };
        let taken = |fine, failed| Taken { fine, failed };
        let mut observed = Observed {
            ledger: Some(Ledger {
                given_up: vec![
                    (dead("interest.changed", 1), true),
                    (dead("event.rated", 0), false),
                ],
                died: vec![dead("inbox-service", 5), dead("user_interactions", 4)],
                unsent: vec![("mail", 300), ("bus", 299)],
            }),
            backlogs: vec![("inbox-service".into(), 299), ("user_interactions".into(), 301)],
            taken: vec![
                ("a".into(), taken(40, 10)),
                ("b".into(), taken(0, 9)),
                ("c".into(), taken(41, 10)),
                ("d".into(), taken(0, 0)),
            ],
            paused: vec![Paused { who: "a".into(), seconds: 7, why: "redis is away".into() }],
        };
        let expected = [
            ("publication_failed", "interest.changed", 1),
            ("dead_letters", "inbox-service", 5),
            ("backlog_old", "outbox.mail", 300),
            ("backlog_old", "user_interactions", 301),
            ("error_rate", "a", 20),
            ("breaker_open", "a", 7),
        ];
        let expected = expected.map(|(kind, subject, value)| (kind, subject.to_owned(), value));
        assert_eq!(names(&observed), expected);
        assert!(observed.judge(&LIMITS).first().is_some_and(|first| first.urgent));
        assert!(!observed.is_blind(AlarmKind::BacklogOld, "outbox.mail"));
        assert!(observed.is_blind(AlarmKind::BacklogOld, "slack-worker"), "it is not measured");
        observed.ledger = None;
        for (kind, subject) in [
            (AlarmKind::PublicationFailed, "interest.changed"),
            (AlarmKind::DeadLetters, "inbox-service"),
            (AlarmKind::BacklogOld, "outbox.mail"),
        ] {
            assert!(observed.is_blind(kind, subject));
        }
        assert!(!observed.is_blind(AlarmKind::BreakerOpen, "a"));
        assert_eq!(names(&observed).len(), 3);
    }
}
