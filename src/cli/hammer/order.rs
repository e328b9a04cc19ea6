//! Was the queue kept? Judged by the buyers' own clocks: whoever was told their number before
//! another even asked must have the lower one. That needs no trust in the server's times.

use std::collections::HashMap;

use uuid::Uuid;

use super::load::{Outcome, Seen};
use super::verdict::{Check, Ending, Evidence, Finding, Standing};

/// Somebody in the queue, or past it.
struct Party<'a> {
    number: i64,
    seen: Option<&'a Seen>,
    standing: &'a Standing,
}

/// Judges the order of every event's queue.
pub(super) fn kept(evidence: &Evidence<'_>) -> Finding {
    let mut check = Check::new("waitlist_order_kept");
    let seen: HashMap<Uuid, &Seen> =
        evidence.run.seen.iter().filter_map(|seen| Some((seen.booking?, seen))).collect();
    let mut parties_count = 0;
    for ending in evidence.endings {
        let mut parties: Vec<Party<'_>> = (ending.bookings.iter())
            .filter_map(|standing| {
                let seen = seen.get(&standing.id).copied();
                let told = match seen.map(|seen| &seen.outcome) {
                    Some(Outcome::Waitlisted(number)) => Some(*number),
                    _ => None,
                };
                let number = told.or(standing.waiting_number)?;
                Some(Party { number, seen, standing })
            })
            .collect();
        parties.sort_by_key(|party| party.number);
        parties_count += parties.len();
        numbered(&mut check, &parties);
        passed(&mut check, ending, &parties);
        jumped(&mut check, ending, &parties, &seen);
    }
    check.finish(format!("{parties_count} parties waited"))
}

/// Numbers are unique, the same as told, and rise with the time of asking.
fn numbered(check: &mut Check, parties: &[Party<'_>]) {
    let mut before: Option<&Party<'_>> = None;
    let mut latest_sent_us = 0;
    for party in parties {
        check.require(before.is_none_or(|before| before.number < party.number), || {
            format!("number {} was given twice", party.number)
        });
        if party.standing.is("waitlisted") {
            check.require(party.standing.waiting_number == Some(party.number), || {
                format!("{} was told number {}, has another", party.standing.id, party.number)
            });
        }
        if let Some(seen) = party.seen {
            check.require(latest_sent_us <= seen.answered_us, || {
                format!("number {} was given out before a lower one was asked for", party.number)
            });
            latest_sent_us = latest_sent_us.max(seen.sent_us);
        }
        before = Some(party);
    }
}

/// Nobody was promoted past an earlier party, or no more often than the policy says.
fn passed(check: &mut Check, ending: &Ending, parties: &[Party<'_>]) {
    let mut promoted_later = 0_u32;
    for party in parties.iter().rev() {
        if party.standing.is("confirmed") {
            promoted_later += 1;
        } else if party.standing.is("waitlisted") {
            let allowed = ending.max_bypass.unwrap_or(0);
            check.require(promoted_later <= allowed, || {
                format!("number {} was passed {promoted_later} times", party.number)
            });
        }
    }
}

/// Under `strict` nobody who asked after a party was told to wait got seats while it still waits.
fn jumped(check: &mut Check, ending: &Ending, parties: &[Party<'_>], seen: &HashMap<Uuid, &Seen>) {
    if ending.max_bypass.is_some() {
        return;
    }
    let waiting = parties.iter().filter(|party| party.standing.is("waitlisted"));
    let Some(told_us) = waiting.filter_map(|party| Some(party.seen?.answered_us)).min() else {
        return;
    };
    for standing in &ending.bookings {
        let Some(buyer) = seen.get(&standing.id) else { continue };
        let jumps = buyer.outcome == Outcome::Confirmed && buyer.sent_us > told_us;
        check.require(!jumps, || format!("{} got seats past those who waited", standing.id));
    }
}
