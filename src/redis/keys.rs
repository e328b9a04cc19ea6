//! Every key, and nowhere else. The event id is a hash tag, so that a Redis Cluster keeps all keys
//! of an event together (REQUIREMENTS, decision on S4.4 to S4.12).

use crate::domain::ids::{EventId, UserId};

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

/// Numbered seats that are held, by deadline. Who holds one is in `event:{id}:hold:{seat}` (S4.10)
/// and in the other keys that `lua/part_holds.lua` lists: scripts alone write them.
pub fn holds(event: EventId) -> String {
    format!("event:{{{event}}}:holds")
}

/// Numbered seats that are sold: a bitmap.
pub fn taken(event: EventId) -> String {
    format!("event:{{{event}}}:taken")
}

/// Where every change of an event's seats is told.
pub fn deltas(event: EventId) -> String {
    format!("event:{{{event}}}:deltas")
}

/// Events in which seats may be held, by when to look at them.
pub const HOLD_EVENTS: &str = "holds:events";

/// Whom a ticket for a socket lets in.
pub fn ticket(digest: &str) -> String {
    format!("ticket:{digest}")
}

/// The channel on which news for a person's inbox are published.
pub fn notifications(user: UserId) -> String {
    format!("user:{{{user}}}:notifications")
}
