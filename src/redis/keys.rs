//! Every key, and nowhere else. The event id is a hash tag, so that a Redis Cluster keeps all keys
//! of an event together (REQUIREMENTS, decision on S4.4 to S4.12).

use crate::domain::ids::EventId;

/// Present while Redis holds what we wrote in the current epoch: gone after a flush.
pub const MARKER: &str = "happening:epoch";

/// Seats available to newcomers (S4.4).
pub fn slots(event: EventId) -> String {
    format!("event:{{{event}}}:slots")
}

/// Epoch, version and leased seats.
pub fn state(event: EventId) -> String {
    format!("event:{{{event}}}:state")
}

/// User ids, first in line first (S4.7).
pub fn waitlist(event: EventId) -> String {
    format!("event:{{{event}}}:waitlist")
}

/// Seats of requests that were let through and are not decided yet.
pub fn leases(event: EventId) -> String {
    format!("event:{{{event}}}:leases")
}

/// Who holds a seat: the hold token (S4.10).
pub fn hold(event: EventId, seat: u32) -> String {
    format!("event:{{{event}}}:hold:{seat}")
}
