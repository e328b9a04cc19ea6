//! An event's seats and queue at one moment, in the form in which they are shown.

use super::ids::{EventId, UserId};

/// What PostgreSQL says of an event at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which event.
    pub event: EventId,
    /// The inventory's version.
    pub version: i64,
    /// Seats available to newcomers.
    pub available: u32,
    /// All seats.
    pub total: u32,
    /// Whether seats have numbers.
    pub numbered: bool,
    /// Numbered seats that are somebody's, ascending; empty with general seating.
    pub taken: Vec<u32>,
    /// Who waits, first in line first.
    pub waiting: Vec<UserId>,
}
