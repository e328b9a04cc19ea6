//! What is said over Socket.IO: the payloads of its events.

use jiff::Timestamp;
use metrics::counter;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::seat_rooms::log::Sight;
use crate::domain::hold::Hold;
use crate::domain::ids::EventId;
use crate::http::time::rfc3339;
use crate::ws::say::list;

/// Most seats in one payload.
const SEATS_MAX: usize = 1_000;
/// Longest hold token.
const TOKEN_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    event_id: Uuid,
    seats: Option<Vec<u32>>,
    hold_token: Option<String>,
}

/// What a client names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which event.
    pub event: EventId,
    /// Which seats, ascending, each once; none if it names none.
    pub seats: Option<Vec<u32>>,
    /// Whose holds are its own.
    pub hold_token: Option<String>,
}

/// Reads a client's payload; fields that are not known do no harm.
///
/// # Errors
/// What is wrong with it.
pub fn read(data: Option<Value>) -> Result<Asked, &'static str> {
    let wire: Option<Wire> = data.and_then(|data| serde_json::from_value(data).ok());
    let wire = wire.ok_or("one object is expected: {eventId, seats?: [n…], holdToken?}")?;
    let seats = wire.seats.map(|mut seats| {
        seats.sort_unstable();
        seats.dedup();
        seats
    });
    let named = seats.as_deref().unwrap_or_default();
    if named.len() > SEATS_MAX || named.first() == Some(&0) {
        return Err("seats are at most 1000 numbers from 1");
    }
    if wire.hold_token.as_ref().is_some_and(|token| token.len() > TOKEN_MAX) {
        return Err("holdToken is not one of ours");
    }
    Ok(Asked { event: EventId(wire.event_id), seats, hold_token: wire.hold_token })
}

/// `event:holds:update`, for all who watch.
pub fn held(event: EventId, sight: &Sight) -> &RawValue {
    sight.written.held.get_or_init(|| {
        let mut text = format!("{{\"eventId\":\"{event}\"");
        list(&mut text, "heldSeats", sight.view.held.iter().copied());
        text.push('}');
        raw(text)
    })
}

/// JSON that is written already.
pub fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).unwrap_or_default()
}

/// `event:bookings:update`.
pub fn booked(event: EventId) -> Value {
    json!({ "eventId": event.0 })
}

/// `event:seats:freed`.
pub fn freed(event: EventId, seats: impl Iterator<Item = u32>) -> Value {
    json!({ "eventId": event.0, "seats": seats.collect::<Vec<_>>() })
}

/// `event:holds:response`.
pub fn response(event: EventId, wanted: &[u32], own: Option<&Hold>, conflicts: &[u32]) -> Value {
    json!({
        "eventId": event.0,
        "requestedSeats": wanted,
        "allowedSeats": own.map(|own| own.seats.as_slice()).unwrap_or_default(),
        "conflicts": conflicts,
    })
}

/// `event:holds:mine`: what nobody else is told.
pub fn mine(event: EventId, own: Option<&Hold>, now: Timestamp) -> Value {
    json!({
        "eventId": event.0,
        "seats": own.map(|own| own.seats.as_slice()).unwrap_or_default(),
        "holdToken": own.map(|own| own.token.as_str()),
        "expiresAt": own.map(|own| rfc3339(own.expires_at)),
        "renewalsLeft": own.map_or(0, |own| own.renewals_left),
        "serverTime": rfc3339(now),
    })
}

/// The acknowledgement of `event:join`: all that is to be seen, if it is known already.
pub fn joined(
    event: EventId,
    sight: Option<&Sight>,
    own: Option<&Hold>,
    now: Timestamp,
) -> Box<RawValue> {
    let mut said = mine(event, own, now);
    if let (Some(said), Some(mine)) = (said.as_object_mut(), own) {
        said.insert("mine".to_owned(), json!(mine.seats));
    }
    let mut text = said.to_string();
    if let Some(sight) = sight {
        text.pop();
        text.push_str(seats(sight));
        text.push('}');
    }
    raw(text)
}

/// The seats of an event, for all who join: further fields of an object.
fn seats(sight: &Sight) -> &str {
    sight.written.joined.get_or_init(|| {
        counter!("socket_snapshots_written_total").increment(1);
        let view = &sight.view;
        let mut text = format!(
            ",\"version\":{},\"total\":{},\"available\":{}",
            view.version, view.total, view.available
        );
        list(&mut text, "takenSeats", view.taken.iter().copied());
        list(&mut text, "heldSeats", view.held.iter().copied());
        text
    })
}

/// `event:holds:expired`.
pub fn expired(event: EventId, seats: &[u32]) -> Value {
    json!({ "eventId": event.0, "seats": seats })
}

/// `event:error`, and the acknowledgement of what was refused.
pub fn error(event: Option<EventId>, code: &str, detail: &str) -> Value {
    json!({ "error": code, "code": code, "detail": detail, "eventId": event.map(|event| event.0) })
}

/// `bye`.
pub fn bye(code: &str, retry_after_ms: u64) -> Value {
    json!({ "code": code, "retryAfterMs": retry_after_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_strictly_where_it_matters() {
        let id = "018f5f00-0000-7000-8000-000000000001";
        let asked = read(Some(json!({ "eventId": id, "seats": [3, 1, 3], "more": 1 }))).unwrap();
        assert_eq!((asked.seats, asked.hold_token), (Some(vec![1, 3]), None));
        assert_eq!(read(Some(json!({ "eventId": id }))).unwrap().seats, None);
        for bad in [
            json!(null),
            json!([]),
            json!("x"),
            json!({}),
            json!({ "eventId": 7 }),
            json!({ "eventId": id, "seats": [0] }),
            json!({ "eventId": id, "seats": ["1"] }),
            json!({ "eventId": id, "seats": vec![1; 2_000].iter().enumerate()
                .map(|(index, _)| index + 1).collect::<Vec<_>>() }),
            json!({ "eventId": id, "holdToken": "x".repeat(200) }),
        ] {
            assert!(read(Some(bad.clone())).is_err(), "{bad}");
        }
        assert!(read(None).is_err());
    }
}
