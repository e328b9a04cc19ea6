//! Who changed what, and what became of each message: lines that are only ever added.

use jiff::Timestamp;

use super::ids::UserId;

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Somebody changed something that others rely on.
    Change,
    /// A message was published or consumed.
    Message,
}

impl Source {
    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Message => "message",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Change, Self::Message].into_iter().find(|one| one.name() == name)
    }
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// Where it comes from.
    pub source: Source,
    /// Tells it from others of the same moment and source.
    pub key: String,
    /// Who did it; `None`: the system itself.
    pub actor: Option<UserId>,
    /// What was done: `dead_letter.redriven`, `message.published`.
    pub action: String,
    /// To what: its id.
    pub subject: String,
    /// The request that it was done by.
    pub request_id: Option<String>,
    /// The message's type.
    pub kind: Option<String>,
    /// Who consumed the message; of a publication, its lane.
    pub service: Option<String>,
    /// More about it, as JSON text.
    pub detail: Option<String>,
}

/// Which lines; what is not named is any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// From there.
    pub source: Option<Source>,
    /// This was done.
    pub action: Option<String>,
    /// By this person.
    pub actor: Option<UserId>,
    /// To this thing.
    pub subject: Option<String>,
    /// By this request.
    pub request_id: Option<String>,
    /// To messages of this type.
    pub kind: Option<String>,
    /// By this service.
    pub service: Option<String>,
    /// Then or later.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
}

/// The place of a line: the next page begins behind (that is, before) it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// Where it comes from.
    pub source: Source,
    /// Which of that moment.
    pub key: String,
}

impl Place {
    /// The place of a line.
    pub fn of(line: &Line) -> Self {
        Self { at_us: line.at.as_microsecond(), source: line.source, key: line.key.clone() }
    }

    /// As text.
    pub fn name(&self) -> String {
        format!("{} {} {}", self.at_us, self.source.name(), self.key)
    }

    /// What [`Place::name`] made.
    pub fn parse(name: &str) -> Option<Self> {
        let (at_us, rest) = name.split_once(' ')?;
        let (source, key) = rest.split_once(' ')?;
        let (at_us, source) = (at_us.parse().ok()?, Source::parse(source)?);
        Timestamp::from_microsecond(at_us).ok()?;
        (!key.contains('\0')).then(|| Self { at_us, source, key: key.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place =
            Place { at_us: 1_700_000_000_123_456, source: Source::Message, key: "a b".into() };
        assert_eq!(Place::parse(&place.name()), Some(place));
        for bad in [
            "",
            "1",
            "1 change",
            "x change 1",
            "1 other 1",
            "1 change a\0",
            "99999999999999999999 change 1",
        ] {
            assert_eq!(Place::parse(bad), None, "{bad:?}");
        }
    }
}
