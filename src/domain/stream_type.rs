//! The registry of message types that travel on the bus: a closed list. A type is
//! `resource.action`; what is not listed here is neither published nor consumed.

use std::fmt;

/// Largest data of a message, in bytes as JSON: with its envelope it stays below the 1 MiB that
/// brokers take.
pub const DATA_MAX: usize = 1_000_000;

/// Who may publish. A service names the verb that writes the message in the transaction of its
/// cause; an operator is an administrator, or their API key, who publishes by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Publisher {
    /// People's interests in events.
    Interests,
    /// People's ratings of events.
    Ratings,
    /// Whom people follow, and what they post and like.
    Social,
    /// Vendors.
    Vendors,
    /// Somebody who operates the instance.
    Operator,
}

impl Publisher {
    /// The name in documents and in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interests => "interests",
            Self::Ratings => "ratings",
            Self::Social => "social",
            Self::Vendors => "vendors",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The shape of a type's data in one version.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Counts from 1.
    pub version: u32,
    /// JSON Schema, draft 2020-12.
    pub text: &'static str,
}

/// One type and all that is fixed about it.
#[derive(Clone, Copy, Debug)]
pub struct StreamType {
    /// `resource.action`.
    pub name: &'static str,
    /// What it tells, for people.
    pub about: &'static str,
    /// What is published now.
    pub schema: Schema,
    /// What may still arrive; each has an upcast to the version after it.
    pub older: &'static [Schema],
    /// Who may publish it.
    pub publishers: &'static [Publisher],
    /// How long streams keep it, in hours. Whatever a group has not acknowledged stays.
    pub retention_hours: u32,
    /// JSON pointer to the member of the data by which order is kept.
    pub partition_key: &'static str,
    /// Over how many streams it is spread, by its key.
    pub shards: u16,
    /// JSON pointers to members that only readers with the key may see.
    pub encrypted: &'static [&'static str],
    /// Somebody is told at once when one cannot be published (S3.44).
    pub critical: bool,
    /// The name of its Redis stream, if it is not made of the type's.
    pub redis_name: Option<&'static str>,
}

macro_rules! schema {
    ($name:literal, $version:literal) => {
        Schema {
            version: $version,
            text: include_str!(concat!("schemas/", $name, ".v", $version, ".json")),
        }
    };
}

/// What most types have in common.
const PLAIN: StreamType = StreamType {
    name: "",
    about: "",
    schema: Schema { version: 1, text: "{}" },
    older: &[],
    publishers: &[],
    retention_hours: 7 * 24,
    partition_key: "",
    shards: 1,
    encrypted: &[],
    critical: false,
    redis_name: None,
};
/// A vendor's own lines: consumers of ours read them, whoever else taps the broker does not.
const VENDOR_SECRETS: &[&str] = &["/phone", "/email"];
const VENDOR: StreamType = StreamType {
    publishers: &[Publisher::Vendors, Publisher::Operator],
    retention_hours: 30 * 24,
    partition_key: "/id",
    encrypted: VENDOR_SECRETS,
    ..PLAIN
};

/// Every type. Ratings and follows of organisers are a person's own word: only the service that
/// took them from the person publishes them.
pub const ALL: &[StreamType] = &[
    StreamType {
        name: "interest.changed",
        about: "A person's interest in an event changed.",
        schema: schema!("interest.changed", 1),
        publishers: &[Publisher::Interests, Publisher::Operator],
        partition_key: "/eventId",
        critical: true,
        redis_name: Some("newEveInters"),
        ..PLAIN
    },
    StreamType {
        name: "event.rated",
        about: "A person rated an event, or took the rating back.",
        schema: schema!("event.rated", 1),
        publishers: &[Publisher::Ratings],
        partition_key: "/eventId",
        ..PLAIN
    },
    StreamType {
        name: "organizer.followed",
        about: "A person follows an organiser.",
        schema: schema!("organizer.followed", 1),
        publishers: &[Publisher::Social],
        partition_key: "/organizationId",
        ..PLAIN
    },
    StreamType {
        name: "organizer.unfollowed",
        about: "A person follows an organiser no more.",
        schema: schema!("organizer.unfollowed", 1),
        publishers: &[Publisher::Social],
        partition_key: "/organizationId",
        ..PLAIN
    },
    StreamType {
        name: "alert.continued",
        about: "More followers are to be told who is interested in an event.",
        schema: schema!("alert.continued", 1),
        publishers: &[Publisher::Interests],
        partition_key: "/eventId",
        ..PLAIN
    },
    StreamType {
        name: "post.created",
        about: "A person posted something.",
        schema: schema!("post.created", 1),
        publishers: &[Publisher::Social, Publisher::Operator],
        partition_key: "/user_id",
        ..PLAIN
    },
    StreamType {
        name: "post.liked",
        about: "A person likes a post.",
        schema: schema!("post.liked", 1),
        publishers: &[Publisher::Social, Publisher::Operator],
        partition_key: "/post_id",
        ..PLAIN
    },
    StreamType {
        name: "follower.added",
        about: "A person follows another.",
        schema: schema!("follower.added", 1),
        publishers: &[Publisher::Social, Publisher::Operator],
        partition_key: "/followed_id",
        ..PLAIN
    },
    StreamType {
        name: "vendor.created",
        about: "A vendor was created.",
        schema: schema!("vendor.created", 1),
        ..VENDOR
    },
    StreamType {
        name: "vendor.updated",
        about: "A vendor was changed; the data is all of it.",
        schema: schema!("vendor.updated", 1),
        ..VENDOR
    },
    StreamType {
        name: "vendor.deleted",
        about: "A vendor was deleted; the data is what it was.",
        schema: schema!("vendor.deleted", 1),
        ..VENDOR
    },
];

/// The type of that name.
pub fn find(name: &str) -> Option<&'static StreamType> {
    ALL.iter().find(|kind| kind.name == name)
}

impl StreamType {
    /// The version that is published now.
    pub fn version(&self) -> u32 {
        self.schema.version
    }

    /// Every version that may arrive, the newest first.
    pub fn schemas(&self) -> impl Iterator<Item = Schema> + use<'_> {
        std::iter::once(self.schema).chain(self.older.iter().copied())
    }

    /// `dataschema` of a message of that version.
    pub fn data_schema(&self, version: u32) -> String {
        format!("/schemas/{}/{version}", self.name)
    }

    /// Whether `publisher` may publish it.
    pub fn admits(&self, publisher: Publisher) -> bool {
        self.publishers.contains(&publisher)
    }

    /// The Redis stream of a shard: `events:post_created`, then `events:post_created:1` and so on.
    pub fn redis_stream(&self, shard: u16) -> String {
        let first = self
            .redis_name
            .map_or_else(|| format!("events:{}", self.name.replace('.', "_")), str::to_owned);
        if shard == 0 { first } else { format!("{first}:{shard}") }
    }

    /// The NATS subject of a shard: `events.post.created`, then `events.post.created.1` and so on.
    pub fn nats_subject(&self, shard: u16) -> String {
        let first = format!("events.{}", self.name);
        if shard == 0 { first } else { format!("{first}.{shard}") }
    }

    /// The shard of what has this partition key: always the same for the same key.
    pub fn shard_of(&self, key: &str) -> u16 {
        // FNV-1a: good enough to spread, and the same in every process and release.
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        u16::try_from(hash % u64::from(self.shards.max(1))).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_type_is_whole_and_has_names_of_its_own() {
        let mut names = HashSet::new();
        for kind in ALL {
            assert_eq!(kind.name.split('.').count(), 2, "{}", kind.name);
            assert!(find(kind.name).is_some_and(|found| found.name == kind.name));
            assert!(!kind.publishers.is_empty() && !kind.about.is_empty(), "{}", kind.name);
            assert!(kind.partition_key.starts_with('/') && kind.shards > 0, "{}", kind.name);
            for shard in 0..kind.shards {
                assert!(names.insert(kind.redis_stream(shard)), "{}", kind.name);
                assert!(names.insert(kind.nats_subject(shard)), "{}", kind.name);
            }
            for older in kind.older {
                assert!(older.version < kind.version(), "{}", kind.name);
            }
        }
        assert!(find("post").is_none() && find("").is_none());
    }

    #[test]
    fn streams_have_their_documented_names() {
        let names = |name: &str, shard| {
            let kind = find(name).unwrap();
            (kind.redis_stream(shard), kind.nats_subject(shard))
        };
        let pair = |redis: &str, nats: &str| (redis.to_owned(), nats.to_owned());
        assert_eq!(names("post.created", 0), pair("events:post_created", "events.post.created"));
        assert_eq!(
            names("vendor.deleted", 2),
            pair("events:vendor_deleted:2", "events.vendor.deleted.2")
        );
        assert_eq!(names("interest.changed", 0), pair("newEveInters", "events.interest.changed"));
        assert_eq!(
            names("interest.changed", 1),
            pair("newEveInters:1", "events.interest.changed.1")
        );
    }

    #[test]
    fn keys_spread_over_all_shards_and_stay() {
        let kind = StreamType { shards: 4, ..PLAIN };
        let shards: Vec<u16> = (0..1000).map(|n| kind.shard_of(&format!("key-{n}"))).collect();
        for shard in 0..4 {
            let share = shards.iter().filter(|&&found| found == shard).count();
            assert!((150..350).contains(&share), "shard {shard} has {share} of 1000");
        }
        assert_eq!(kind.shard_of("key-7"), shards[7]);
        assert_eq!(PLAIN.shard_of("anything"), 0);
    }
}
