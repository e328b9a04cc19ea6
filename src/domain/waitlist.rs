//! The waitlist's ledger: what was decided about a waiting party, and why. Every promotion, skip
//! and park is in it, so that "why am I still waiting?" has an answer.

use super::ids::BookingId;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The party entered the queue.
    Joined,
    /// The party got its seats.
    Promoted,
    /// A later party that fits got seats first.
    Bypassed,
    /// Free seats are kept for this party until there are enough.
    Parked,
    /// The party cannot be served at all and was passed over.
    Skipped,
    /// The party asks for fewer seats than before.
    Reduced,
    /// The party left the queue.
    Left,
}

impl Decision {
    /// The name in answers and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Promoted => "promoted",
            Self::Bypassed => "bypassed",
            Self::Parked => "parked",
            Self::Skipped => "skipped",
            Self::Reduced => "reduced",
            Self::Left => "left",
        }
    }
}

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Which party.
    pub booking_id: BookingId,
    /// What was decided.
    pub what: Decision,
    /// Why, for people.
    pub why: String,
}

/// Where a party stands, and why it still waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// 1 is the head.
    pub position: u32,
    /// Parties before it.
    pub parties_ahead: u32,
    /// Seats they ask for together.
    pub seats_ahead: u32,
}

impl Standing {
    /// Why the party still waits, for people.
    pub fn reason(&self, seats: u32, reserved: u32, capacity: u32) -> String {
        if seats > capacity {
            return format!("asks for {seats} seats, but the event has {capacity}");
        }
        if self.parties_ahead == 0 {
            let missing = seats.saturating_sub(reserved);
            return format!(
                "next in line: asks for {seats}, {reserved} kept for it, {missing} missing"
            );
        }
        format!(
            "{} before it, asking for {} seats together; {reserved} seats are free for the queue",
            if self.parties_ahead == 1 {
                "1 party".to_owned()
            } else {
                format!("{} parties", self.parties_ahead)
            },
            self.seats_ahead
        )
    }
}
