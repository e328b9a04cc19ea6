//! Tells people's open sockets, in whatever process, what their inboxes got. Nobody waits for it
//! and nothing depends on it: what is lost on the way is in the inbox.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::domain::ids::{MessageId, NotificationId};
use crate::domain::notification::Notification;
use crate::redis::{Redis, feed};

/// A notification as the API shows it.
#[derive(Serialize)]
struct Wire<'a> {
    id: Uuid,
    r#type: &'a str,
    event_id: Option<Uuid>,
    booking_id: Option<Uuid>,
    title: &'a str,
    body: &'a str,
    data: Box<RawValue>,
    created_at: String,
    read_at: Option<String>,
}

/// Announces those of the entries that are new, once they are committed.
pub async fn announce(
    redis: &Redis,
    entries: &[(MessageId, Notification)],
    new: &[NotificationId],
) {
    let new: HashSet<&NotificationId> = new.iter().collect();
    let news: Vec<_> = entries
        .iter()
        .map(|(_, entry)| entry)
        .filter(|entry| new.contains(&entry.id))
        .filter_map(|entry| Some((entry.user_id, serde_json::to_string(&Wire::of(entry)).ok()?)))
        .collect();
    if let Err(error) = feed::announce(redis, &news).await {
        tracing::debug!(error = format!("{:#}", error.0), "nobody was told at once");
    }
}

impl<'a> Wire<'a> {
    fn of(entry: &'a Notification) -> Self {
        let time = |at: Timestamp| format!("{at:.3}");
        Self {
            id: entry.id.0,
            r#type: &entry.kind,
            event_id: entry.event_id.map(|id| id.0),
            booking_id: entry.booking_id.map(|id| id.0),
            title: &entry.title,
            body: &entry.body,
            data: RawValue::from_string(entry.data.clone()).unwrap_or_default(),
            created_at: time(entry.created_at),
            read_at: entry.read_at.map(time),
        }
    }
}
