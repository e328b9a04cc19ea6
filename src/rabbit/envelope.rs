//! How a message looks on the wire. The body is the documented payload (S4.25 to S4.29); what we
//! need besides travels in the properties. What comes in is believed only after it was checked.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde::Deserialize;
use uuid::Uuid;

use super::RabbitError;
use super::topology::short;
use crate::domain::alarm::{Alarm, AlarmKind, NOTE_MAX, TOLD_MAX};
use crate::domain::alert::Alert;
use crate::domain::fact::{Fact, FactKind};
use crate::domain::ids::{
    AlarmId, AlertId, BookingId, EventId, InvitationId, MessageId, OrganizationId, UserId,
};
use crate::domain::interest::InterestCounts;
use crate::domain::message::{self, Content, Defect, FanOut, PAYLOAD_MAX, Received};
use crate::domain::processing;
use crate::domain::trace_context::TraceContext;

/// Persistent: survives a restart of the broker (S4.24).
const PERSISTENT: u8 = 2;
/// W3C trace context.
const TRACEPARENT: &str = "traceparent";
/// When what a message tells happened, in milliseconds: the AMQP property knows only seconds.
const CREATED_MS: &str = "x-created-ms";
/// The stream of the message, for consumers that keep `processed_events` (S1.6).
const STREAM: &str = "x-stream-name";
/// Most seats that a message may be about.
const SEATS_MAX: i64 = 1_000_000;

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// Its id for good.
    pub id: MessageId,
    /// Its type.
    pub kind: &'a str,
    /// Its body: JSON.
    pub payload: &'a str,
    /// The id of the request that caused it.
    pub correlation_id: &'a str,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// When what it tells happened.
    pub created_at: Timestamp,
}

impl Letter<'_> {
    /// What travels beside the body.
    pub(super) fn properties(&self) -> Result<BasicProperties, RabbitError> {
        let mut headers = FieldTable::default();
        if let Some(traceparent) = self.traceparent {
            headers.insert(TRACEPARENT.into(), AMQPValue::LongString(traceparent.into()));
        }
        let created_ms = self.created_at.as_millisecond();
        headers.insert(CREATED_MS.into(), AMQPValue::LongLongInt(created_ms));
        let stream = processing::stream_name(FactKind::parse(self.kind));
        headers.insert(STREAM.into(), AMQPValue::LongString(stream.into()));
        let seconds = u64::try_from(self.created_at.as_second()).unwrap_or(0);
        Ok(BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(short(&self.id.to_string())?)
            .with_correlation_id(cut(self.correlation_id))
            .with_type(cut(self.kind))
            .with_timestamp(seconds)
            .with_app_id("happening".into())
            .with_headers(headers))
    }
}

/// As much of a text as a property holds.
fn cut(text: &str) -> ShortString {
    let end = text.floor_char_boundary(255);
    ShortString::try_new(text.get(..end).unwrap_or_default()).unwrap_or_default()
}

/// The body as documented, and what we add to it. Unknown fields are other people's affair.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    r#type: String,
    event_id: Option<Uuid>,
    user_id: Option<Uuid>,
    seats: Option<i64>,
    booking_id: Option<Uuid>,
    seat_numbers: Option<Vec<u32>>,
    invitation_id: Option<Uuid>,
    organization_id: Option<Uuid>,
    /// The rest of a message to many: whose it is, and the last booking that was told.
    origin_id: Option<Uuid>,
    after_booking_id: Option<Uuid>,
    alert: Option<AlertBody>,
    alarms: Option<Vec<AlarmBody>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlarmBody {
    id: Uuid,
    kind: String,
    subject: String,
    value: u64,
    limit: u64,
    note: String,
    process: String,
    opened_at: Timestamp,
    last_seen_at: Timestamp,
    closed_at: Option<Timestamp>,
}

impl AlarmBody {
    /// `None`: it is of a kind that nobody knows.
    fn alarm(self) -> Option<Alarm> {
        Some(Alarm {
            id: AlarmId(self.id),
            kind: AlarmKind::parse(&self.kind)?,
            subject: message::kind(&self.subject),
            value: self.value,
            limit: self.limit,
            note: message::storable(&self.note, NOTE_MAX),
            process: message::kind(&self.process),
            opened_at: self.opened_at,
            last_seen_at: self.last_seen_at,
            closed_at: self.closed_at,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody {
    id: Uuid,
    actor_id: Uuid,
    others: u32,
    sure: u32,
    maybe: u32,
    interested: u32,
}

impl From<AlertBody> for Alert {
    fn from(body: AlertBody) -> Self {
        let AlertBody { sure, maybe, interested, .. } = body;
        Self {
            id: AlertId(body.id),
            actor: UserId(body.actor_id),
            others: body.others,
            states: InterestCounts { sure, maybe, interested },
        }
    }
}

/// Reads what was received; whatever is wrong with it is in the result.
pub fn read(delivery: &Delivery) -> Received {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let text = |name: &str| match headers.and_then(|table| table.inner().get(name)) {
        Some(AMQPValue::LongString(text)) => str::from_utf8(text.as_bytes()).ok(),
        _ => None,
    };
    let created_at = match headers.and_then(|table| table.inner().get(CREATED_MS)) {
        Some(AMQPValue::LongLongInt(ms)) => Timestamp::from_millisecond(*ms).ok(),
        _ => None,
    };
    let id = identity(properties.message_id().as_ref().map(ShortString::as_str), &delivery.data);
    let kept = delivery.data.get(..PAYLOAD_MAX).unwrap_or(&delivery.data);
    let named = properties.kind().as_ref().map_or("", ShortString::as_str);
    let (kind, content) = parse(id, &delivery.data, named);
    Received {
        id,
        kind,
        payload: message::storable(&String::from_utf8_lossy(kept), PAYLOAD_MAX),
        correlation_id: properties
            .correlation_id()
            .as_ref()
            .map(|id| message::storable(id.as_str(), 255))
            .filter(|id| !id.is_empty()),
        traceparent: text(TRACEPARENT)
            .filter(|value| TraceContext::parse(value).is_some())
            .map(str::to_owned),
        created_at,
        content,
    }
}

/// Why and where the broker says that a message died.
pub fn death(delivery: &Delivery) -> Option<String> {
    let headers = delivery.properties.headers().as_ref()?;
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { return None };
    let Some(AMQPValue::FieldTable(last)) = deaths.as_slice().first() else { return None };
    let text = |name: &str| match last.inner().get(name) {
        Some(AMQPValue::LongString(text)) => str::from_utf8(text.as_bytes()).ok(),
        _ => None,
    };
    Some(format!("{} in {}", text("reason")?, text("queue")?))
}

/// The id that a message came with. Foreign ones that are no UUIDs, and messages without any, get
/// one made of the id or of the whole body.
fn identity(named: Option<&str>, body: &[u8]) -> MessageId {
    let named = named.filter(|name| !name.is_empty());
    if let Some(id) = named.and_then(|name| name.parse().ok()) {
        return MessageId(id);
    }
    match named {
        Some(name) => message::derived_id(&[b"id", name.as_bytes()]),
        None => message::derived_id(&[b"body", body]),
    }
}

fn parse(id: MessageId, body: &[u8], named: &str) -> (String, Result<Content, Defect>) {
    if body.len() > PAYLOAD_MAX {
        let defect = Defect::new(format!("the body is longer than {PAYLOAD_MAX} bytes"));
        return (message::kind(named), Err(defect));
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => (message::kind(&body.r#type), check(id, body)),
        Err(error) => {
            let defect = Defect::new(format!("the body cannot be read: {error}"));
            (message::kind(named), Err(defect))
        }
    }
}

fn check(id: MessageId, body: Body) -> Result<Content, Defect> {
    let kind = FactKind::parse(&body.r#type)
        .ok_or_else(|| Defect::new(format!("the type is unknown: {}", body.r#type)))?;
    let seats = match body.seats {
        None => None,
        Some(seats @ 0..=SEATS_MAX) => u32::try_from(seats).ok(),
        Some(_) => return Err(Defect::new(format!("seats must be 0 to {SEATS_MAX}"))),
    };
    let to_many = kind == FactKind::EventUpdated;
    if body.user_id.is_none() && !to_many && kind != FactKind::InvitationReceived {
        return Err(Defect::new("userId is missing: there is nobody to tell"));
    }
    if body.user_id.is_none() && to_many && body.event_id.is_none() {
        return Err(Defect::new("eventId and userId are missing: there is nobody to tell"));
    }
    if kind == FactKind::InterestAlert && body.alert.is_none() {
        return Err(Defect::new("alert is missing: there is nothing to tell"));
    }
    let alarms = body.alarms.unwrap_or_default();
    let alarms: Vec<Alarm> =
        alarms.into_iter().take(TOLD_MAX).filter_map(AlarmBody::alarm).collect();
    if kind.turn().is_some() && alarms.is_empty() {
        return Err(Defect::new("alarms is missing: there is nothing to tell"));
    }
    let invitation = body.invitation_id.zip(body.organization_id);
    let aggregate_id = body.booking_id.or(body.event_id).or(body.invitation_id).unwrap_or(id.0);
    let fan_out = body
        .origin_id
        .zip(body.after_booking_id)
        .map(|(origin, after)| FanOut { origin: MessageId(origin), after: BookingId(after) });
    Ok(Content {
        fact: Fact {
            kind,
            aggregate_id,
            event_id: body.event_id.map(EventId),
            user_id: body.user_id.map(UserId),
            seats,
            seat_numbers: body.seat_numbers.unwrap_or_default(),
            booking_id: body.booking_id.map(BookingId),
            invitation: invitation.map(|(id, into)| (InvitationId(id), OrganizationId(into))),
            alert: body.alert.map(Alert::from),
            alarms,
        },
        fan_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId(Uuid::from_u128(7));

    fn reason(body: &str) -> String {
        parse(ID, body.as_bytes(), "").1.unwrap_err().reason().to_owned()
    }

    #[test]
    fn reads_the_documented_body() {
        let user = Uuid::from_u128(1);
        let event = Uuid::from_u128(2);
        let body = format!(
            r#"{{"type":"booking_confirmed","eventId":"{event}","userId":"{user}","seats":2}}"#
        );
        let (kind, content) = parse(ID, body.as_bytes(), "");
        let fact = content.unwrap().fact;
        assert_eq!(kind, "booking_confirmed");
        assert_eq!(fact.kind, FactKind::BookingConfirmed);
        assert_eq!((fact.user_id, fact.seats), (Some(UserId(user)), Some(2)));
        let promoted = format!(r#"{{"type":"waitlist_promoted","userId":"{user}"}}"#);
        assert!(parse(ID, promoted.as_bytes(), "").1.is_ok());
    }

    #[test]
    fn says_what_is_wrong_with_a_body() {
        assert!(reason("").contains("cannot be read"));
        assert!(reason("[1]").contains("cannot be read"));
        assert!(reason(r#"{"type":"no_such"}"#).contains("unknown: no_such"));
        assert!(reason(r#"{"type":"booking_confirmed"}"#).contains("userId"));
        assert!(reason(r#"{"type":"event_updated"}"#).contains("nobody to tell"));
        assert!(reason(r#"{"type":"booking_confirmed","userId":7}"#).contains("cannot be read"));
        let user = Uuid::from_u128(1);
        let seats = format!(r#"{{"type":"booking_confirmed","userId":"{user}","seats":-1}}"#);
        assert!(reason(&seats).contains("seats"));
        assert!(reason(&"[".repeat(50_000)).contains("cannot be read"));
        assert!(reason(&" ".repeat(PAYLOAD_MAX + 1)).contains("longer"));
    }

    #[test]
    fn an_id_is_kept_or_made_for_good() {
        let own = Uuid::from_u128(9);
        assert_eq!(identity(Some(&own.to_string()), b"x").0, own);
        assert_eq!(identity(Some("42"), b"x"), identity(Some("42"), b"y"));
        assert_eq!(identity(None, b"x"), identity(Some(""), b"x"));
        assert_ne!(identity(None, b"x"), identity(None, b"y"));
        assert_ne!(identity(Some("x"), b""), identity(None, b"x"));
    }
}
