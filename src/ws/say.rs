//! What the server says on a plain WebSocket: JSON text frames. What all watchers are told is
//! written once and shared; what is one's own is put behind it.

use std::fmt::Write as _;

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use metrics::counter;
use serde_json::{Value, json};

use crate::app::seat_rooms::log::{Batch, Sight};
use crate::app::seat_rooms::member::Farewell;
use crate::domain::hold::Hold as Own;
use crate::domain::ids::EventId;
use crate::domain::seat_view::Mark;
use crate::http::time::rfc3339;

/// The seats of an event, for all who join.
fn seats(event: EventId, sight: &Sight) -> &Bytes {
    sight.written.frame.get_or_init(|| {
        counter!("socket_snapshots_written_total").increment(1);
        let view = &sight.view;
        let mut text = format!(
            "{{\"type\":\"snapshot\",\"event_id\":\"{event}\",\"version\":{},\"total\":{},\
             \"available\":{}",
            view.version, view.total, view.available
        );
        list(&mut text, "taken", view.taken.iter().copied());
        list(&mut text, "held", view.held.iter().copied());
        text.into()
    })
}

/// A snapshot for one watcher.
pub fn snapshot(
    event: EventId,
    sight: &Sight,
    own: Option<&Own>,
    reference: Option<&str>,
    now: Timestamp,
) -> ByteString {
    let shared = seats(event, sight);
    let own = mine(own, now);
    let mut frame = String::with_capacity(shared.len() + own.len() + 64);
    frame.push_str(std::str::from_utf8(shared).unwrap_or_default());
    frame.push_str(&own);
    echo(&mut frame, reference);
    frame.push('}');
    frame.into()
}

/// The answer to a `join` from where the client had been: what came after follows.
pub fn joined(
    event: EventId,
    version: i64,
    own: Option<&Own>,
    reference: Option<&str>,
    now: Timestamp,
) -> ByteString {
    let mut frame = format!("{{\"type\":\"joined\",\"event_id\":\"{event}\",\"version\":{version}");
    frame.push_str(&mine(own, now));
    echo(&mut frame, reference);
    frame.push('}');
    frame.into()
}

/// What changed, for all who watch.
pub fn change(event: EventId, batch: &Batch) -> ByteString {
    let written = batch.frame.get_or_init(|| {
        let change = &batch.change;
        let mut text =
            format!("{{\"type\":\"delta\",\"event_id\":\"{event}\",\"version\":{}", change.version);
        if change.since.saturating_add(1) != change.version {
            let _ = write!(text, ",\"since\":{}", change.since);
        }
        for (name, mark) in [
            ("held", Mark::Held),
            ("released", Mark::Released),
            ("taken", Mark::Taken),
            ("freed", Mark::Freed),
        ] {
            if change.of(mark).next().is_some() {
                list(&mut text, name, change.of(mark));
            }
        }
        if let Some(total) = change.total {
            let _ = write!(text, ",\"total\":{total}");
        }
        let _ = write!(text, ",\"available\":{}}}", change.available);
        text.into()
    });
    // It was text a moment ago: this only looks.
    ByteString::try_from(written.clone()).unwrap_or_default()
}

/// What became of a wish for seats.
pub fn hold_result(
    event: EventId,
    own: Option<&Own>,
    conflicts: &[u32],
    reference: Option<&str>,
    now: Timestamp,
) -> ByteString {
    let mut frame = format!("{{\"type\":\"hold_result\",\"event_id\":\"{event}\"");
    list(&mut frame, "granted", own.iter().flat_map(|own| own.seats.iter().copied()));
    list(&mut frame, "conflicts", conflicts.iter().copied());
    terms(&mut frame, own, now);
    echo(&mut frame, reference);
    frame.push('}');
    frame.into()
}

/// A hold is about to end.
pub fn hold_expiring(event: EventId, own: &Own, now: Timestamp) -> ByteString {
    text(&json!({
        "type": "hold_expiring",
        "event_id": event.0,
        "seat_numbers": own.seats,
        "expires_at": rfc3339(own.expires_at),
        "renewals_left": own.renewals_left,
        "server_time": rfc3339(now),
    }))
}

/// A hold has ended without its owner's doing.
pub fn hold_expired(event: EventId, seats: &[u32]) -> ByteString {
    text(&json!({ "type": "hold_expired", "event_id": event.0, "seat_numbers": seats }))
}

/// Something in the owner's inbox.
pub fn notification(notification: &str) -> ByteString {
    format!("{{\"type\":\"notification\",\"notification\":{notification}}}").into()
}

/// An event is watched no more.
pub fn left(event: EventId, reference: Option<&str>) -> ByteString {
    let mut frame = format!("{{\"type\":\"left\",\"event_id\":\"{event}\"");
    echo(&mut frame, reference);
    frame.push('}');
    frame.into()
}

/// The answer to a `ping`.
pub fn pong(reference: Option<&str>, now: Timestamp) -> ByteString {
    let mut frame = format!("{{\"type\":\"pong\",\"server_time\":\"{}\"", rfc3339(now));
    echo(&mut frame, reference);
    frame.push('}');
    frame.into()
}

/// Why something was not done.
pub fn error(
    event: Option<EventId>,
    code: &str,
    detail: &str,
    reference: Option<&str>,
) -> ByteString {
    let mut frame = format!("{{\"type\":\"error\",\"code\":\"{code}\"");
    if let Some(event) = event {
        let _ = write!(frame, ",\"event_id\":\"{event}\"");
    }
    let _ = write!(frame, ",\"detail\":{}", Value::from(detail));
    echo(&mut frame, reference);
    frame.push('}');
    frame.into()
}

/// Goodbye, and when to come back.
pub fn bye(why: Farewell, retry_after_ms: u64) -> ByteString {
    text(&json!({ "type": "bye", "code": why.code(), "retry_after_ms": retry_after_ms }))
}

fn mine(own: Option<&Own>, now: Timestamp) -> String {
    let mut text = String::new();
    list(&mut text, "mine", own.iter().flat_map(|own| own.seats.iter().copied()));
    terms(&mut text, own, now);
    text
}

fn terms(text: &mut String, own: Option<&Own>, now: Timestamp) {
    let _ = match own {
        None => write!(text, ",\"hold_token\":null,\"expires_at\":null,\"renewals_left\":0"),
        Some(own) => write!(
            text,
            ",\"hold_token\":\"{}\",\"expires_at\":\"{}\",\"renewals_left\":{}",
            own.token.as_str(),
            rfc3339(own.expires_at),
            own.renewals_left
        ),
    };
    let _ = write!(text, ",\"server_time\":\"{}\"", rfc3339(now));
}

pub(super) fn list(text: &mut String, name: &str, seats: impl Iterator<Item = u32>) {
    let _ = write!(text, ",\"{name}\":[");
    for (index, seat) in seats.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{seat}");
    }
    text.push(']');
}

/// What the client called the frame that this answers, as it wrote it.
fn echo(text: &mut String, reference: Option<&str>) {
    if let Some(reference) = reference {
        let _ = write!(text, ",\"ref\":{reference}");
    }
}

fn text(value: &Value) -> ByteString {
    value.to_string().into()
}
