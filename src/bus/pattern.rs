//! Which types somebody means: one (`vendor.created`), those of a resource (`vendor.*`), one action
//! of all (`*.deleted`), or all (`>`). Tokens as in NATS: `*` is one, `>` is the rest (S2.22).

use super::Stream;

/// Whether `kind` is meant by `pattern`.
pub fn matches(pattern: &str, kind: &str) -> bool {
    let mut kind = kind.split('.');
    for token in pattern.split('.') {
        match (token, kind.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    kind.next().is_none()
}

/// Those of `streams` that are meant, all shards of them.
pub fn select(pattern: &str, streams: &[Stream]) -> Vec<Stream> {
    streams.iter().filter(|stream| matches(pattern, stream.kind())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_token_and_an_arrow_is_the_rest() {
        for (pattern, kind, meant) in [
            ("vendor.created", "vendor.created", true),
            ("vendor.created", "vendor.deleted", false),
            ("vendor.*", "vendor.created", true),
            ("vendor.*", "post.created", false),
            ("*.created", "post.created", true),
            ("*", "post.created", false),
            (">", "post.created", true),
            ("vendor.>", "vendor.created", true),
            ("vendor.>", "vendor", false),
            ("vendor", "vendor.created", false),
            ("vendor.created.*", "vendor.created", false),
            ("", "vendor.created", false),
        ] {
            assert_eq!(matches(pattern, kind), meant, "{pattern} {kind}");
        }
    }

    #[test]
    fn a_pattern_takes_all_shards() {
        let streams = [
            Stream::of("post.created"),
            Stream::shard("post.created", 1),
            Stream::of("post.liked"),
        ];
        assert_eq!(select("post.created", &streams).len(), 2);
        assert_eq!(select(">", &streams).len(), 3);
    }
}
