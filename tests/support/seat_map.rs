//! The map of seats that a watcher keeps by the frames of a plain WebSocket, as the document says.

use std::collections::BTreeSet;

use serde_json::Value;

/// A map of seats, kept by frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// The version it is at.
    pub version: i64,
    /// What a newcomer can book.
    pub available: u64,
    /// Seats that are somebody's.
    pub taken: BTreeSet<u64>,
    /// Seats that somebody holds.
    pub held: BTreeSet<u64>,
}

impl Map {
    /// Brings a frame in; false if it leaves a gap: then the seats have to be asked for anew.
    pub fn follow(&mut self, frame: &Value) -> bool {
        let version = frame["version"].as_i64().unwrap_or_default();
        match frame["type"].as_str() {
            Some("snapshot") => {
                let (taken, held) = (seats(frame, "taken"), seats(frame, "held"));
                *self = Self { version, available: available(frame), taken, held };
            }
            Some("delta") if version > self.version => {
                let since = frame["since"].as_i64().unwrap_or(version - 1);
                if since > self.version {
                    return false;
                }
                for list in ["held", "released", "taken", "freed"] {
                    for seat in seats(frame, list) {
                        self.held.remove(&seat);
                        self.taken.remove(&seat);
                    }
                }
                self.held.extend(seats(frame, "held"));
                self.taken.extend(seats(frame, "taken"));
                self.available = available(frame);
                self.version = version;
            }
            _ => {}
        }
        true
    }
}

fn available(frame: &Value) -> u64 {
    frame["available"].as_u64().expect("a number")
}

fn seats(frame: &Value, name: &str) -> BTreeSet<u64> {
    let seats = frame[name].as_array().into_iter().flatten();
    seats.map(|seat| seat.as_u64().expect("a seat")).collect()
}
