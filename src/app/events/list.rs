//! Events by their start, as far as the caller may see them.

use jiff::Timestamp;
use uuid::Uuid;

use super::runs;
use crate::app::{App, Page, Result};
use crate::domain::account::Caller;
use crate::domain::event::{Event, EventStatus};
use crate::domain::ids::OrganizationId;
use crate::postgres::event::{self, Filter, Place, Words};

/// What the caller looks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Words, the last of which may be only begun.
    pub query: Option<String>,
    /// Exactly this category.
    pub category: Option<String>,
    /// Starting then or later.
    pub from: Option<Timestamp>,
    /// Starting then or earlier.
    pub to: Option<Timestamp>,
    /// Of this organisation.
    pub organization_id: Option<OrganizationId>,
    /// Of this status.
    pub status: Option<EventStatus>,
}

/// A page of events. Without a status it shows those on show; to the organisers of the
/// organisation asked for, all of theirs.
pub async fn list(
    app: &App,
    caller: Option<&Caller>,
    wish: Wish,
    after: Option<Place>,
    limit: i64,
) -> Result<Page<Event>> {
    let conn = app.db.get().await?;
    let status = match (wish.status, wish.organization_id, caller) {
        (None, Some(id), Some(caller)) if runs(&conn, caller, id).await? => None,
        (None, _, _) => Some(EventStatus::Published),
        (status, _, _) => status,
    };
    let filter = Filter {
        words: wish.query.as_deref().map(words),
        category: wish.category,
        from: wish.from,
        to: wish.to,
        organization: wish.organization_id,
        status,
        viewer: caller.map(|caller| caller.user_id),
        sees_all: caller.is_some_and(Caller::is_admin),
    };
    let found = event::list(&conn, &filter, after, limit.saturating_add(1)).await?;
    Ok(Page::cut(found, limit, |event| key(event.rules.starts_at, event.id.0)))
}

/// The place of an event as a key, and back.
fn key(starts_at: Timestamp, id: Uuid) -> String {
    format!("{}.{id}", starts_at.as_microsecond())
}

/// The place that a key stands for.
pub fn place(key: &str) -> Option<Place> {
    let (start, id) = key.split_once('.')?;
    Some((Timestamp::from_microsecond(start.parse().ok()?).ok()?, id.parse().ok()?))
}

/// What people type, and the same with the last word only begun: they see results as they type.
fn words(query: &str) -> Words {
    let (head, last) = query.rsplit_once(char::is_whitespace).unwrap_or(("", query));
    let plain = !last.is_empty() && last.chars().all(char::is_alphanumeric);
    // Within quotes the last word is part of a phrase; after `or` and `-` it is an operator's.
    let free = plain && !query.contains('"') && !head.trim_end().ends_with('-');
    Words {
        all: query.to_owned(),
        head: head.to_owned(),
        prefix: free.then(|| format!("{last}:*")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_key() {
        let at = Timestamp::from_millisecond(1_772_359_200_045).unwrap();
        let id = Uuid::from_u128(42);
        assert_eq!(place(&key(at, id)), Some((at, id)));
        for broken in ["", ".", "1", "x.y", "99999999999999999999.0", "1.not-an-id"] {
            assert_eq!(place(broken), None, "{broken}");
        }
    }

    #[test]
    fn only_a_plain_last_word_may_be_begun() {
        assert_eq!(words("jazz ni").prefix.as_deref(), Some("ni:*"));
        assert_eq!(words("jazz ni").head, "jazz");
        assert_eq!(words("ja").prefix.as_deref(), Some("ja:*"));
        for query in ["jazz (night", "\"jazz night", "jazz -rock", "a & b'", "!!"] {
            assert_eq!(words(query).prefix, None, "{query}");
        }
    }
}
