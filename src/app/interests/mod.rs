//! What people say of events and organisers: interests, ratings, follows. A verb writes what was
//! said and its message in one transaction; what follows from it (counters, alerts) is written by
//! the one consumer of these messages, `count.rs`.

pub mod alerts;
pub mod count;
pub mod follow;
pub mod leave;
pub mod list;
pub mod rate;
pub mod set;
mod spread;

use serde_json::{Value, json};
use uuid::Uuid;

use super::events::sees;
use super::once::transaction;
use super::{App, Origin, Result};
use crate::domain::account::Caller;
use crate::domain::event::{Event, EventStatus};
use crate::domain::ids::{EventId, MessageId};
use crate::domain::interest::{Follow, Interest, InterestState, Rating};
use crate::domain::message::Lane;
use crate::domain::refusal::Refusal;
use crate::domain::stream_type::Publisher;
use crate::postgres::outbox::{self, RawMessage};
use crate::postgres::{Conn, account, event};

/// A person's interest in an event changed.
const INTEREST_CHANGED: &str = "interest.changed";
/// A person rated an event.
const EVENT_RATED: &str = "event.rated";
/// A person follows an organisation.
const FOLLOWED: &str = "organizer.followed";
/// And does so no more.
const UNFOLLOWED: &str = "organizer.unfollowed";
/// More followers are to be told.
const CONTINUED: &str = "alert.continued";

/// The event, if the caller may know of it and it is no draft: of a draft nothing is said.
async fn known(conn: &Conn, id: EventId) -> Result<Event> {
    let found = event::find(conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    if found.rules.status == EventStatus::Draft {
        return Err(Refusal::NotFound("event").into());
    }
    Ok(found)
}

/// The same for somebody who only looks: organisers see their drafts.
async fn seen(conn: &Conn, caller: &Caller, id: EventId) -> Result<Event> {
    let found = event::find(conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    if !sees(conn, Some(caller), found.organization_id, found.rules.status).await? {
        return Err(Refusal::NotFound("event").into());
    }
    Ok(found)
}

/// Not for an account that is being closed: what it says now would stay.
async fn alive(tx: &Conn, caller: &Caller) -> Result<()> {
    account::lock(tx, caller.user_id).await?.ok_or(Refusal::Unauthenticated)?;
    Ok(())
}

/// Runs a verb in a transaction of its own; what it tells leaves at once.
async fn saying<T>(app: &App, verb: impl AsyncFnOnce(&Conn) -> Result<T>) -> Result<T> {
    let said = transaction(app, verb).await?;
    app.wakes.bus_relay.ring();
    Ok(said)
}

/// A message for the bus.
struct News {
    publisher: Publisher,
    kind: &'static str,
    aggregate_id: Uuid,
    data: Value,
}

impl News {
    fn interest(now: &Interest, previous: Option<InterestState>) -> Self {
        let data = json!({
            "eventId": now.event_id.0,
            "userId": now.user_id.0,
            "state": now.state.map(InterestState::name),
            "previous": previous.map(InterestState::name),
            "privacy": now.privacy.name(),
            "version": now.version,
        });
        let (publisher, aggregate_id) = (Publisher::Interests, now.event_id.0);
        Self { publisher, kind: INTEREST_CHANGED, aggregate_id, data }
    }

    fn rating(now: &Rating) -> Self {
        let data = json!({
            "eventId": now.event_id.0,
            "userId": now.user_id.0,
            "rating": now.rating,
            "version": now.version,
        });
        let (publisher, aggregate_id) = (Publisher::Ratings, now.event_id.0);
        Self { publisher, kind: EVENT_RATED, aggregate_id, data }
    }

    fn follow(now: &Follow) -> Self {
        let data = json!({
            "organizationId": now.organization_id.0,
            "userId": now.user_id.0,
            "version": now.version,
        });
        let kind = if now.following { FOLLOWED } else { UNFOLLOWED };
        Self { publisher: Publisher::Social, kind, aggregate_id: now.organization_id.0, data }
    }
}

/// Writes messages into the outbox, in the transaction of their cause.
async fn tell(app: &App, tx: &Conn, origin: &Origin, news: Vec<News>) -> Result<()> {
    let now = app.clock.now();
    let message = |news: News| {
        let id = MessageId(app.ids.uuid());
        let prepared = app.registry.prepare(news.publisher, news.kind, id, news.data)?;
        Ok(RawMessage {
            id,
            aggregate_id: news.aggregate_id,
            kind: news.kind.to_owned(),
            schema_version: prepared.version(),
            payload: prepared.payload,
            correlation_id: origin.correlation_id.clone(),
            traceparent: origin.traceparent.clone(),
            created_at: now,
            lane: Lane::Bus,
        })
    };
    let messages = news.into_iter().map(message).collect::<Result<Vec<_>>>()?;
    outbox::append_raw(tx, &messages).await?;
    Ok(())
}
