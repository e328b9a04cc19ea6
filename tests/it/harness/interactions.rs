//! What people say of events and organizers, over the API and as messages, and the handler that
//! counts it.

use happening::app::interests::count::UserInteractions;
use happening::app::messages::handle::{Handled, Handler as _, Message, Trouble};
use happening::clock::Ids;
use happening::domain::ids::MessageId;
use happening::postgres::Db;
use serde_json::{Value, json};
use uuid::Uuid;

use super::TestServer;
use super::people::{Organizer, Person};
use crate::support::client::Reply;

/// Counters that are not the sums of what was said last.
pub const WRONG: &str = "SELECT count(*) FROM (
    SELECT e.id FROM (SELECT event_id AS id FROM event_interests UNION
                      SELECT event_id FROM event_ratings UNION
                      SELECT event_id FROM event_stats) e
    LEFT JOIN event_stats s ON s.event_id = e.id
    WHERE (coalesce(s.sure, 0), coalesce(s.maybe, 0), coalesce(s.interested, 0),
           coalesce(s.ratings, 0), coalesce(s.rating_sum, 0)) <> (SELECT
        count(*) FILTER (WHERE state = 'sure'), count(*) FILTER (WHERE state = 'maybe'),
        count(*) FILTER (WHERE state = 'interested'),
        (SELECT count(rating) FROM event_ratings r WHERE r.event_id = e.id),
        (SELECT coalesce(sum(rating), 0) FROM event_ratings r WHERE r.event_id = e.id)
        FROM event_interests i WHERE i.event_id = e.id)
    UNION ALL
    SELECT u.id FROM users u LEFT JOIN user_stats s ON s.user_id = u.id
    WHERE (coalesce(s.sure, 0), coalesce(s.maybe, 0), coalesce(s.interested, 0),
           coalesce(s.interests, 0), coalesce(s.ratings, 0), coalesce(s.follows, 0))
        <> (SELECT
        count(*) FILTER (WHERE state = 'sure'), count(*) FILTER (WHERE state = 'maybe'),
        count(*) FILTER (WHERE state = 'interested'), count(state),
        (SELECT count(rating) FROM event_ratings r WHERE r.user_id = u.id),
        (SELECT count(*) FROM organization_follows f WHERE f.user_id = u.id AND f.following)
        FROM event_interests i WHERE i.user_id = u.id)
    UNION ALL
    SELECT o.id FROM organizations o LEFT JOIN organization_stats s ON s.organization_id = o.id
    WHERE coalesce(s.followers, 0) <> (SELECT count(*) FROM organization_follows f
        WHERE f.organization_id = o.id AND f.following)
    UNION ALL
    SELECT event_id FROM event_interests WHERE counted_state IS DISTINCT FROM state
        OR counted_version <> version
) wrong";

/// A PUT of somebody's.
pub async fn put(server: &TestServer, by: &Person, path: &str, body: Value) -> Reply {
    server.call("PUT", path).bearer(&by.token).json(body).send().await
}

/// A DELETE of somebody's.
pub async fn delete(server: &TestServer, by: &Person, path: &str) -> Reply {
    server.call("DELETE", path).bearer(&by.token).send().await
}

/// A GET of somebody's.
pub async fn get(server: &TestServer, by: &Person, path: &str) -> Reply {
    server.call("GET", path).bearer(&by.token).send().await
}

/// Says how much somebody is interested.
pub async fn interest(server: &TestServer, by: &Person, event: Uuid, body: Value) -> Reply {
    put(server, by, &format!("/events/{event}/interest"), body).await
}

/// Follows an organizer.
pub async fn follow(server: &TestServer, by: &Person, organizer: &Organizer) -> Reply {
    let path = format!("/organizations/{}/follow", organizer.organization);
    server.call("PUT", &path).bearer(&by.token).send().await
}

/// A message as the taker hands it over.
pub fn message(kind: &'static str, data: Value) -> Message {
    let id = MessageId(Ids.uuid());
    let happened_at = happening::clock::Clock::default().now();
    let correlation_id = id.to_string();
    Message { id, kind, data, happened_at, correlation_id, traceparent: None }
}

/// Somebody's interest changed.
pub fn changed(
    event: Uuid,
    user: Uuid,
    version: i64,
    state: Option<&str>,
    privacy: &str,
) -> Message {
    let data = json!({"eventId": event, "userId": user, "state": state, "previous": null,
                      "privacy": privacy, "version": version});
    message("interest.changed", data)
}

/// Somebody follows.
pub fn followed(organization: Uuid, user: Uuid) -> Message {
    let data = json!({"organizationId": organization, "userId": user, "version": 1});
    message("organizer.followed", data)
}

/// What lies in the outbox for the bus, as messages.
pub async fn told(server: &TestServer) -> Vec<Message> {
    let rows = "SELECT id, type, payload::text, created_at, correlation_id
        FROM bus_outbox ORDER BY seq";
    let kinds = [
        "interest.changed",
        "event.rated",
        "organizer.followed",
        "organizer.unfollowed",
        "alert.continued",
    ];
    let row = |row: &tokio_postgres::Row| {
        let kind: String = row.get(1);
        let kind = kinds.into_iter().find(|known| *known == kind).expect("a kind of ours");
        let data: Value = serde_json::from_str(row.get(2)).expect("JSON");
        let id = MessageId(row.get(0));
        server.app().registry.accept(kind, 1, id, data.clone()).expect("it fits the schema");
        let (happened_at, correlation_id) = (row.get(3), row.get(4));
        Message { id, kind, data, happened_at, correlation_id, traceparent: None }
    };
    server.sql(rows).await.iter().map(row).collect()
}

/// The handler with a pool as the taker has it.
pub struct Counter {
    db: Db,
    handler: UserInteractions,
}

impl Counter {
    /// For this server.
    pub fn new(server: &TestServer) -> Self {
        let db = Db::by_key(&server.config().postgres, 4).expect("a pool");
        Self { db, handler: UserInteractions::new(Ids) }
    }

    /// Handles a batch; a crash leaves it uncommitted.
    pub async fn attempt(&self, batch: &[Message], commit: bool) -> Result<Handled, Trouble> {
        let tx = self.db.begin().await?;
        let now = happening::clock::Clock::default().now();
        let handled = self.handler.handle(&tx, batch, now).await?;
        if commit {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(handled)
    }

    /// Handles a batch.
    pub async fn count(&self, batch: &[Message]) -> Handled {
        self.attempt(batch, true).await.expect("it is counted")
    }
}

/// One of the counts.
pub fn number(handled: &Handled, name: &str) -> u64 {
    handled.counts.iter().find(|(known, _)| *known == name).expect(name).1
}
