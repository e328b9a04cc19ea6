//! What streams are called, and places on them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::domain::stream_type;

/// A stream: the messages of one type, or one of the shards that a busy type is spread over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    kind: Arc<str>,
    shard: u16,
}

impl Stream {
    /// The only stream of a type, or its first shard.
    pub fn of(kind: &str) -> Self {
        Self::shard(kind, 0)
    }

    /// A shard of a type, counted from 0.
    pub fn shard(kind: &str, shard: u16) -> Self {
        Self { kind: kind.into(), shard }
    }

    /// The type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The shard.
    pub fn number(&self) -> u16 {
        self.shard
    }

    /// Its key on Redis: `events:post_created`, `events:post_created:1` (S3.39).
    pub fn redis_key(&self, prefix: &str) -> String {
        let special = stream_type::find(self.kind()).and_then(|kind| kind.redis_name);
        let name = special
            .map_or_else(|| format!("events:{}", self.kind().replace('.', "_")), str::to_owned);
        match self.shard {
            0 => format!("{prefix}{name}"),
            shard => format!("{prefix}{name}:{shard}"),
        }
    }

    /// Its subject on NATS: `events.post.created`, `events.post.created.1` (S2.22).
    pub fn nats_subject(&self, prefix: &str) -> String {
        match self.shard {
            0 => format!("{prefix}events.{}", self.kind),
            shard => format!("{prefix}events.{}.{shard}", self.kind),
        }
    }

    /// Its name on NATS, where names have no dots: `events_post_created`, `events_post_created_1`.
    pub fn nats_name(&self, prefix: &str) -> String {
        self.nats_subject(prefix).replace('.', "_")
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shard {
            0 => f.write_str(self.kind()),
            shard => write!(f, "{}:{shard}", self.kind),
        }
    }
}

/// A place on a stream. Later messages have greater ones; those of different providers do not
/// compare in any way that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Position {
    /// Redis: `1700000000000-0`.
    Entry {
        /// Milliseconds of the server's clock.
        ms: u64,
        /// Which one of that millisecond.
        seq: u64,
    },
    /// NATS and memory: counted from 1.
    Sequence(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { ms, seq } => write!(f, "{ms}-{seq}"),
            Self::Sequence(number) => write!(f, "{number}"),
        }
    }
}

/// It is neither `1700000000000-0` nor `42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place on a stream")]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| NotAPosition);
        match text.split_once('-') {
            Some((ms, seq)) => Ok(Self::Entry { ms: number(ms)?, seq: number(seq)? }),
            None => number(text).map(Self::Sequence),
        }
    }
}

/// By which a delivery is acknowledged: stream and place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Where it came from.
    pub stream: Stream,
    /// Its place there.
    pub position: Position,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_documented() {
        let post = Stream::of("post.created");
        assert_eq!(post.redis_key(""), "events:post_created");
        assert_eq!(post.nats_subject(""), "events.post.created");
        assert_eq!(post.nats_name(""), "events_post_created");
        let second = Stream::shard("post.created", 1);
        assert_eq!(second.redis_key(""), "events:post_created:1");
        assert_eq!(second.nats_subject(""), "events.post.created.1");
        assert_eq!(second.nats_name(""), "events_post_created_1");
        assert_eq!(second.to_string(), "post.created:1");
        assert_eq!(Stream::of("interest.changed").redis_key("t:"), "t:newEveInters");
        assert_eq!(Stream::shard("interest.changed", 2).redis_key(""), "newEveInters:2");
        assert_eq!(Stream::of("interest.changed").nats_subject(""), "events.interest.changed");
    }

    #[test]
    fn the_registry_says_the_same() {
        for kind in stream_type::ALL {
            for shard in 0..kind.shards {
                let stream = Stream::shard(kind.name, shard);
                assert_eq!(stream.redis_key(""), kind.redis_stream(shard));
                assert_eq!(stream.nats_subject(""), kind.nats_subject(shard));
            }
        }
    }

    #[test]
    fn positions_are_read_as_they_are_written_and_order_by_number() {
        let places = ["9-9", "10-0", "10-2", "10-10"];
        let read: Vec<Position> = places.iter().map(|place| place.parse().unwrap()).collect();
        assert!(read.is_sorted());
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), places);
        assert!("9".parse::<Position>().unwrap() < "10".parse().unwrap());
        for wrong in ["", "-", "1-", "-1", "a", "1-2-3", "99999999999999999999"] {
            assert_eq!(wrong.parse::<Position>(), Err(NotAPosition), "{wrong}");
        }
    }
}
