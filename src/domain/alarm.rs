//! Alarms: what somebody has to be woken for, and how it is told to a person who has just been.
//! When one begins and ends is in `watch`, what is bad enough in `judge`.

pub mod judge;
pub mod rate;
pub mod watch;

use jiff::Timestamp;

use super::ids::AlarmId;
use super::message::storable;

/// The longest note, in characters.
pub const NOTE_MAX: usize = 300;
/// Most alarms that one message tells of.
pub const TOLD_MAX: usize = 20;
/// Most of them that a text for people spells out.
const SPELLED_OUT: usize = 5;
/// Where everything about alarms is seen.
const LOOK: &str = "GET /api/v1/admin/alarms lists all of them; `happening doctor` looks around.";

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlarmKind {
    /// Messages were given up by the relay: nobody gets them unless somebody acts.
    PublicationFailed,
    /// The oldest message that waits somewhere is too old.
    BacklogOld,
    /// Too many of the messages that a service took failed.
    ErrorRate,
    /// A service waits for something that is away.
    BreakerOpen,
    /// Letters of a service die faster than is normal.
    DeadLetters,
}

impl AlarmKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::PublicationFailed,
        Self::BacklogOld,
        Self::ErrorRate,
        Self::BreakerOpen,
        Self::DeadLetters,
    ];

    /// The name in tables, answers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::PublicationFailed => "publication_failed",
            Self::BacklogOld => "backlog_old",
            Self::ErrorRate => "error_rate",
            Self::BreakerOpen => "breaker_open",
            Self::DeadLetters => "dead_letters",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// In what it is measured: `messages`, `seconds` or `percent`.
    pub fn unit(self) -> &'static str {
        match self {
            Self::PublicationFailed | Self::DeadLetters => "messages",
            Self::BacklogOld | Self::BreakerOpen => "seconds",
            Self::ErrorRate => "percent",
        }
    }

    /// A few words, followed by whom it is about.
    fn title(self) -> &'static str {
        match self {
            Self::PublicationFailed => "messages were given up",
            Self::BacklogOld => "messages wait too long",
            Self::ErrorRate => "messages fail",
            Self::BreakerOpen => "a consumer is paused",
            Self::DeadLetters => "dead letters pile up",
        }
    }

    /// What to do next.
    pub fn advice(self) -> &'static str {
        match self {
            Self::PublicationFailed => {
                "`happening dead-letters list --source relay` shows them with their reasons; mend \
                 the cause, then redrive or drop them. The alarm ends when none is left."
            }
            Self::BacklogOld => {
                "`happening doctor` says whether the broker answers, /health/ready whether relay \
                 and consumers run, `happening streams list` how far each group is."
            }
            Self::ErrorRate => {
                "GET /api/v1/admin/audit?action=message.failed shows the reasons, \
                 `happening dead-letters list` what was given up."
            }
            Self::BreakerOpen => {
                "`happening doctor` says what is away and how to mend it. Nothing is lost \
                 meanwhile, and consuming goes on by itself."
            }
            Self::DeadLetters => {
                "`happening dead-letters list` groups them by what they died of; mend that, then \
                 redrive a sample first."
            }
        }
    }
}

/// Something bad, seen at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What is wrong.
    pub kind: AlarmKind,
    /// With whom: a service, a lane of the outbox, a type of messages.
    pub subject: String,
    /// How bad, in the kind's unit.
    pub value: u64,
    /// From which value on it is bad.
    pub limit: u64,
    /// What else helps: the last reason, what is away.
    pub note: String,
    /// Nobody waits whether it passes.
    pub urgent: bool,
}

impl Sighting {
    /// One that may pass by itself.
    pub fn new(kind: AlarmKind, subject: &str, (value, limit): (u64, u64), note: &str) -> Self {
        let (subject, note) = (subject.to_owned(), storable(note, NOTE_MAX));
        Self { kind, subject, value, limit, note, urgent: false }
    }
}

/// An alarm as everybody agrees on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Which. Later ones sort after earlier ones.
    pub id: AlarmId,
    /// What is, or was, wrong when it was seen last.
    pub kind: AlarmKind,
    /// With whom.
    pub subject: String,
    /// How bad, in the kind's unit.
    pub value: u64,
    /// From which value on it is bad.
    pub limit: u64,
    /// What else helps.
    pub note: String,
    /// The process that saw it last.
    pub process: String,
    /// Since when.
    pub opened_at: Timestamp,
    /// When it was seen last.
    pub last_seen_at: Timestamp,
    /// When it was over.
    pub closed_at: Option<Timestamp>,
}

impl Alarm {
    /// What is wrong and how bad it is, in one sentence.
    pub fn sentence(&self) -> String {
        let Self { subject, value, limit, .. } = self;
        let (age, most) = (span(*value), span(*limit));
        let fact = match self.kind {
            AlarmKind::PublicationFailed if *value == 1 => {
                format!("1 message of type {subject} could not be published and was given up")
            }
            AlarmKind::PublicationFailed => {
                format!("{value} messages of type {subject} could not be published")
            }
            AlarmKind::BacklogOld => {
                format!("The oldest message that waits for {subject} is {age} old (limit {most})")
            }
            AlarmKind::ErrorRate => {
                format!("{value} % of the messages of {subject} failed (limit {limit} %)")
            }
            AlarmKind::BreakerOpen => format!("{subject} has been paused for {age}"),
            AlarmKind::DeadLetters => {
                format!("{value} messages of {subject} died lately (limit {limit})")
            }
        };
        if self.note.is_empty() { format!("{fact}.") } else { format!("{fact}: {}.", self.note) }
    }
}

/// What people are told of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It began.
    Opened,
    /// It is still there.
    Reminder,
    /// It is over.
    Closed,
}

/// Title and text for those who are told that these alarms took that turn.
pub fn compose(turn: Turn, alarms: &[Alarm]) -> (String, String) {
    let title = match (turn, alarms) {
        (Turn::Opened, [one]) => format!("Alarm: {} ({})", one.kind.title(), one.subject),
        (Turn::Reminder, [one]) => format!("Still: {} ({})", one.kind.title(), one.subject),
        (Turn::Closed, [one]) => format!("All clear: {} ({})", one.kind.title(), one.subject),
        (Turn::Opened, many) => format!("{} alarms", many.len()),
        (Turn::Reminder, many) => format!("{} alarms are still open", many.len()),
        (Turn::Closed, many) => format!("{} alarms are over", many.len()),
    };
    let mut body: Vec<String> =
        alarms.iter().take(SPELLED_OUT).map(|one| line(turn, one)).collect();
    if alarms.len() > SPELLED_OUT {
        body.push(format!("And {} more.", alarms.len().saturating_sub(SPELLED_OUT)));
    }
    if turn != Turn::Closed {
        if let [one] = alarms {
            body.push(one.kind.advice().to_owned());
        }
        body.push(LOOK.to_owned());
    }
    (title, body.join(" "))
}

fn line(turn: Turn, alarm: &Alarm) -> String {
    let since = alarm.opened_at.strftime("%Y-%m-%d %H:%M:%S UTC");
    let sentence = alarm.sentence();
    match (turn, alarm.closed_at) {
        (Turn::Closed, Some(end)) => {
            let lasted = end.duration_since(alarm.opened_at).as_secs();
            let lasted = span(u64::try_from(lasted).unwrap_or(0));
            format!("Began {since}, lasted {lasted}. The last that was seen: {sentence}")
        }
        _ => format!("{sentence} Since {since}, seen by {}.", alarm.process),
    }
}

/// Seconds as people say them.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn alarm(kind: AlarmKind, subject: &str, (value, limit): (u64, u64), note: &str) -> Alarm {
        let opened_at: Timestamp = "2026-03-01T03:00:00Z".parse().unwrap();
        Alarm {
            id: AlarmId(Uuid::nil()),
            kind,
            subject: subject.to_owned(),
            value,
            limit,
            note: note.to_owned(),
            process: "web-1:4711".to_owned(),
            opened_at,
            last_seen_at: opened_at,
            closed_at: None,
        }
    }

    #[test]
    fn somebody_who_was_woken_learns_what_since_when_how_bad_and_what_next() {
        let old = alarm(AlarmKind::BacklogOld, "outbox.mail", (900, 300), "");
        let (title, body) = compose(Turn::Opened, std::slice::from_ref(&old));
        assert_eq!(title, "Alarm: messages wait too long (outbox.mail)");
        let parts = ["is 15 min old (limit 5 min)", "2026-03-01 03:00:00 UTC", "web-1", "doctor"];
        for part in parts {
            assert!(body.contains(part), "{part}: {body}");
        }
        let over = Alarm { closed_at: "2026-03-01T05:30:00Z".parse().ok(), ..old.clone() };
        let (title, body) = compose(Turn::Closed, &[over]);
        assert!(title.starts_with("All clear") && body.contains("lasted 2 h"), "{title}: {body}");
        let failed = alarm(AlarmKind::PublicationFailed, "interest.changed", (2, 1), "too long");
        let many = vec![failed; 7];
        let (title, body) = compose(Turn::Reminder, &many);
        assert_eq!(title, "7 alarms are still open");
        assert!(body.contains("And 2 more.") && body.contains("too long"), "{body}");
        assert!(body.contains("/admin/alarms"), "{body}");
    }

    #[test]
    fn every_kind_is_read_as_it_is_written_and_says_something() {
        for kind in AlarmKind::ALL {
            assert_eq!(AlarmKind::parse(kind.name()), Some(kind));
            let one = alarm(kind, "somebody", (41, 40), "the note");
            let sentence = one.sentence();
            assert!(sentence.contains("somebody") && sentence.contains("the note"), "{sentence}");
        }
    }
}
