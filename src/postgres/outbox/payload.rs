//! What a notification says on the wire.

use serde::Serialize;
use uuid::Uuid;

use crate::domain::alarm::Alarm;
use crate::domain::alert::Alert;
use crate::domain::fact::Fact;
use crate::domain::interest::InterestCounts;

/// The documented payload (S4.25 to S4.29): its four fields are always there; ours follow when
/// they say something.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    r#type: &'static str,
    event_id: Option<Uuid>,
    user_id: Option<Uuid>,
    seats: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    booking_id: Option<Uuid>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    seat_numbers: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<AlertPayload>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<AlarmPayload<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlarmPayload<'a> {
    id: Uuid,
    kind: &'static str,
    subject: &'a str,
    value: u64,
    limit: u64,
    note: &'a str,
    process: &'a str,
    opened_at: String,
    last_seen_at: String,
    closed_at: Option<String>,
}

impl<'a> From<&'a Alarm> for AlarmPayload<'a> {
    fn from(alarm: &'a Alarm) -> Self {
        Self {
            id: alarm.id.0,
            kind: alarm.kind.name(),
            subject: &alarm.subject,
            value: alarm.value,
            limit: alarm.limit,
            note: &alarm.note,
            process: &alarm.process,
            opened_at: alarm.opened_at.to_string(),
            last_seen_at: alarm.last_seen_at.to_string(),
            closed_at: alarm.closed_at.map(|at| at.to_string()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertPayload {
    id: Uuid,
    actor_id: Uuid,
    others: u32,
    sure: u32,
    maybe: u32,
    interested: u32,
}

impl From<&Alert> for AlertPayload {
    fn from(alert: &Alert) -> Self {
        let InterestCounts { sure, maybe, interested } = alert.states;
        let (id, actor_id) = (alert.id.0, alert.actor.0);
        Self { id, actor_id, others: alert.others, sure, maybe, interested }
    }
}

/// The message body of a fact.
pub fn payload(fact: &Fact) -> String {
    let payload = Payload {
        r#type: fact.kind.name(),
        event_id: fact.event_id.map(|id| id.0),
        user_id: fact.user_id.map(|id| id.0),
        seats: fact.seats,
        booking_id: fact.booking_id.map(|id| id.0),
        seat_numbers: &fact.seat_numbers,
        invitation_id: fact.invitation.map(|(id, _)| id.0),
        organization_id: fact.invitation.map(|(_, id)| id.0),
        alert: fact.alert.as_ref().map(AlertPayload::from),
        alarms: fact.alarms.iter().map(AlarmPayload::from).collect(),
    };
    // Strings, numbers and ids: there is nothing in it that JSON cannot say.
    serde_json::to_string(&payload).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fact::FactKind;
    use crate::domain::ids::{EventId, UserId};

    #[test]
    fn the_documented_payload_comes_first_and_whole() {
        let id = Uuid::nil();
        let mut fact = Fact {
            kind: FactKind::WaitlistPromoted,
            aggregate_id: id,
            event_id: Some(EventId(id)),
            user_id: Some(UserId(id)),
            seats: None,
            seat_numbers: Vec::new(),
            booking_id: None,
            invitation: None,
            alert: None,
            alarms: Vec::new(),
        };
        assert_eq!(
            payload(&fact),
            format!(
                r#"{{"type":"waitlist_promoted","eventId":"{id}","userId":"{id}","seats":null}}"#
            )
        );
        fact.seats = Some(2);
        fact.seat_numbers = vec![4, 5];
        assert!(payload(&fact).ends_with(r#""seats":2,"seatNumbers":[4,5]}"#));
    }
}
