//! What a batch of messages comes to in the in-app inboxes. Whether all of it is written is the
//! consumer's affair.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::clock::Ids;
use crate::domain::alarm::Alarm;
use crate::domain::alert::Alert;
use crate::domain::fact::{Fact, FactKind};
use crate::domain::ids::{BookingId, EventId, MessageId, NotificationId, UserId};
use crate::domain::interest::InterestCounts;
use crate::domain::message::{Content, Defect, FanOut, Lane, Received};
use crate::domain::notification::{Called, Notification, compose};
use crate::postgres::notification::{self, Names, Wanted};
use crate::postgres::outbox::RawMessage;
use crate::postgres::{Conn, DbError};

/// How many bookings one part of a message to many reaches.
const PART: i64 = 1000;

/// What a message came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Everybody it is for was told.
    Yes,
    /// Nobody is to be told, and why.
    Nobody(&'static str),
    /// It makes no sense.
    Never(Defect),
}

/// The details of a notification, for programs.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    seats: Option<u32>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    seat_numbers: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<Uuid>,
    #[serde(flatten)]
    alert: Option<AlertData>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<AlarmData<'a>>,
}

#[derive(Serialize)]
struct AlarmData<'a> {
    id: Uuid,
    kind: &'static str,
    subject: &'a str,
    value: u64,
    limit: u64,
    unit: &'static str,
}

impl<'a> From<&'a Alarm> for AlarmData<'a> {
    fn from(alarm: &'a Alarm) -> Self {
        Self {
            id: alarm.id.0,
            kind: alarm.kind.name(),
            subject: &alarm.subject,
            value: alarm.value,
            limit: alarm.limit,
            unit: alarm.kind.unit(),
        }
    }
}

#[derive(Serialize)]
struct AlertData {
    alert_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_id: Option<Uuid>,
    others: u32,
    sure: u32,
    maybe: u32,
    interested: u32,
}

impl AlertData {
    /// `named`: everybody may still know who it is.
    fn of(alert: &Alert, named: bool) -> Self {
        let InterestCounts { sure, maybe, interested } = alert.states;
        let (alert_id, actor_id) = (alert.id.0, named.then_some(alert.actor.0));
        Self { alert_id, actor_id, others: alert.others, sure, maybe, interested }
    }
}

/// The rest of a message to many, as it goes back to the outbox.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rest<'a> {
    r#type: &'static str,
    event_id: Option<Uuid>,
    user_id: Option<Uuid>,
    seats: Option<u32>,
    origin_id: Uuid,
    after_booking_id: Uuid,
    #[serde(skip)]
    received: &'a Received,
}

/// What a batch of messages has to be told in names.
pub fn wanted<'a>(contents: impl Iterator<Item = &'a Content>) -> Wanted {
    let mut wanted = Wanted::default();
    for Content { fact, .. } in contents {
        wanted.events.extend(fact.event_id.map(|id| id.0));
        wanted.users.extend(fact.user_id.map(|id| id.0));
        wanted.actors.extend(actor(fact));
        wanted.organizations.extend(fact.invitation.map(|(_, into)| into.0));
    }
    wanted
}

/// Whose interest in what an alert names.
fn actor(fact: &Fact) -> Option<(EventId, UserId)> {
    Some((fact.event_id?, fact.alert?.actor))
}

/// What a message comes to: entries of inboxes, and what is left of a message to many. Reads only
/// for the latter.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn deliver(
    conn: &Conn,
    ids: Ids,
    now: Timestamp,
    names: &Names,
    received: &Received,
    content: &Content,
) -> Result<(Told, Vec<Notification>, Option<RawMessage>), DbError> {
    let fact = &content.fact;
    let Some(user) = fact.user_id else {
        if fact.kind == FactKind::InvitationReceived {
            let nobody = Told::Nobody("nobody has an account with the invited address yet");
            return Ok((nobody, Vec::new(), None));
        }
        let (entries, rest) = part(conn, (ids, now), received, content, names).await?;
        return Ok((Told::Yes, entries, rest));
    };
    let told = match names.users.get(&user.0) {
        Some(Some(_)) => {
            let id = NotificationId(place(ids, received.id));
            let one = entry(id, (received.id, caused_at(received, now)), user, fact, names);
            return Ok((Told::Yes, vec![one], None));
        }
        Some(None) => Told::Nobody("the account was closed"),
        None => Told::Never(Defect::new(format!("there is no user {user}"))),
    };
    Ok((told, Vec::new(), None))
}

/// Tells the next part of everybody with an active booking; what is left becomes a message of its
/// own, so that a large event is no large transaction.
async fn part(
    conn: &Conn,
    (ids, now): (Ids, Timestamp),
    received: &Received,
    content: &Content,
    names: &Names,
) -> Result<(Vec<Notification>, Option<RawMessage>), DbError> {
    let fact = &content.fact;
    let Some(event) = fact.event_id else { return Ok((Vec::new(), None)) };
    let begin = FanOut { origin: received.id, after: BookingId(Uuid::nil()) };
    let FanOut { origin, after } = content.fan_out.unwrap_or(begin);
    let caused_at = caused_at(received, now);
    let bookers = notification::bookers(conn, event, after, PART).await?;
    let entries = bookers.iter().map(|(booking, user)| {
        let id = NotificationId(ids.beside(place(ids, origin)));
        let one = entry(id, (origin, caused_at), *user, fact, names);
        Notification { booking_id: Some(*booking), ..one }
    });
    let entries = entries.collect();
    let full = i64::try_from(bookers.len()).unwrap_or(PART) >= PART;
    let Some((last, _)) = bookers.last().filter(|_| full) else { return Ok((entries, None)) };
    let rest = Rest {
        r#type: fact.kind.name(),
        event_id: Some(event.0),
        user_id: None,
        seats: fact.seats,
        origin_id: origin.0,
        after_booking_id: last.0,
        received,
    };
    Ok((entries, Some(rest.message(MessageId(ids.uuid()), fact, now))))
}

/// Where entries about a message stand in an inbox. Consumers compete, so that a message may be
/// dealt with before an earlier one; but ours have ids that sort by when their causes happened, and
/// an inbox sorts by id. Ids of other publishers say nothing: theirs stand where they arrive.
fn place(ids: Ids, message: MessageId) -> Uuid {
    if message.0.get_version_num() == 7 { message.0 } else { ids.uuid() }
}

fn caused_at(received: &Received, now: Timestamp) -> Timestamp {
    received.created_at.unwrap_or(now)
}

impl Rest<'_> {
    fn message(&self, id: MessageId, fact: &Fact, now: Timestamp) -> RawMessage {
        let correlation_id = self.received.correlation_id.clone();
        RawMessage {
            id,
            aggregate_id: fact.aggregate_id,
            kind: self.r#type.to_owned(),
            schema_version: 1,
            payload: serde_json::to_string(self).unwrap_or_default(),
            correlation_id: correlation_id.unwrap_or_else(|| self.origin_id.to_string()),
            traceparent: self.received.traceparent.clone(),
            created_at: caused_at(self.received, now),
            lane: Lane::Mail,
        }
    }
}

fn entry(
    id: NotificationId,
    (message_id, created_at): (MessageId, Timestamp),
    user_id: UserId,
    fact: &Fact,
    names: &Names,
) -> Notification {
    let into = fact.invitation.and_then(|(_, id)| names.organizations.get(&id.0));
    let actor = actor(fact).and_then(|actor| names.actors.get(&actor)).map(String::as_str);
    let called = Called {
        event: fact.event_id.and_then(|id| names.events.get(&id.0)).map(String::as_str),
        organization: into.map(String::as_str),
        actor,
    };
    let (title, body) = compose(fact, called);
    let data = Data {
        seats: fact.seats,
        seat_numbers: &fact.seat_numbers,
        invitation_id: fact.invitation.map(|(id, _)| id.0),
        organization_id: fact.invitation.map(|(_, id)| id.0),
        alert: fact.alert.as_ref().map(|alert| AlertData::of(alert, actor.is_some())),
        alarms: fact.alarms.iter().map(AlarmData::from).collect(),
    };
    Notification {
        id,
        user_id,
        message_id,
        kind: fact.kind.name().to_owned(),
        event_id: fact.event_id,
        booking_id: fact.booking_id,
        title,
        body,
        data: serde_json::to_string(&data).unwrap_or_default(),
        created_at,
        read_at: None,
    }
}
