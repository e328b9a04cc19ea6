//! Which pages may open sockets. Browsers let any page open a socket to anywhere and send what they
//! know of us along, so the server has to look where the page is from.

use crate::config::Config;

/// Whether a page from `origin` may open a socket to us under the name `host`; programs that are
/// no browsers send no origin and may.
pub fn may_open(config: &Config, origin: Option<&str>, host: Option<&str>) -> bool {
    let Some(origin) = origin else { return true };
    let listed = |list: &[String]| list.iter().any(|one| one == "*" || one == origin);
    if listed(&config.sockets.origins) || listed(&config.http.cors_origins) {
        return true;
    }
    let Some((_, authority)) = origin.split_once("://") else { return false };
    // The page and the sockets have ports of their own on the same host.
    host.is_some_and(|host| {
        let (ours, theirs) = (name(host), name(authority));
        !ours.is_empty() && ours.eq_ignore_ascii_case(theirs)
    })
}

/// A host without its port.
fn name(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn only_our_own_and_named_pages_may() {
        let environment: HashMap<String, String> = [
            ("HAPPENING__DEMO", "true"),
            ("HAPPENING__SOCKETS__ORIGINS", "https://shop.example"),
            ("HAPPENING__HTTP__CORS_ORIGINS", "https://b.example:8443"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        let config = Config::from_sources(None, environment).unwrap();
        let may = |origin, host| may_open(&config, origin, host);
        assert!(may(None, None));
        assert!(may(Some("http://tickets.example:2208"), Some("tickets.example:2209")));
        assert!(may(Some("https://Tickets.example"), Some("tickets.example")));
        assert!(may(Some("http://[::1]:2208"), Some("[::1]:2209")));
        assert!(may(Some("https://shop.example"), Some("tickets.example")));
        assert!(may(Some("https://b.example:8443"), Some("tickets.example")));
        for evil in [
            "https://evil.example",
            "https://tickets.example.evil.example",
            "https://b.example",
            "null",
            "",
            "tickets.example",
            "http://",
        ] {
            assert!(!may(Some(evil), Some("tickets.example:2209")), "{evil}");
        }
        assert!(!may(Some("http://:1"), Some(":2")));
        assert!(!may(Some("https://tickets.example"), None));
    }
}
