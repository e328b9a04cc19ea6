//! What becomes of messages: which there are (registry), how they leave (relay for notifications;
//! `bus_line` and parcels for the bus), how they are dealt with once (consume for notifications,
//! take and handle for the bus, both with a ledger), what each service remembers of them
//! (processed), what is done about those that died (redrive) and about those that the broker lost
//! (recover), and how all of it is seen (streams, tail, trace).

pub mod bus_line;
pub mod consume;
pub mod dead_letters;
pub mod handle;
pub mod ledger;
pub mod parcels;
pub mod parity;
pub mod processed;
pub mod publish;
pub mod recover;
pub mod redrive;
pub mod redrive_jobs;
pub mod registry;
pub mod relay;
pub mod seal;
pub mod shares;
pub mod streams;
pub mod tail;
pub mod take;
mod taken;
pub mod trace;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::domain::message;

/// `now` and so many milliseconds.
fn later(now: Timestamp, ms: u64) -> Timestamp {
    let by = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `now` less so many milliseconds.
fn earlier(now: Timestamp, ms: u64) -> Timestamp {
    let by = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// The same for letters that died of the same thing at the same place.
pub(crate) fn fingerprint(source: &str, kind: &str, reason: &str) -> String {
    let mut hash = Sha256::new();
    for part in [source, kind, &message::cause(reason)] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let first = digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    format!("{first:016x}")
}
