//! Did the server lie? Compares what the buyers were told with what is there afterwards. Pure: it
//! reads evidence and gives findings, so that every way of lying can be tried on it in a test.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use serde::Deserialize;
use uuid::Uuid;

use super::load::{Cancelled, Outcome, Run, Seen};
use super::order;
use super::plan::Plan;
use crate::domain::fact::FactKind;

/// Examples given with a broken promise.
const EXAMPLES: usize = 3;

/// A booking as the organiser's list shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Standing {
    /// Which.
    pub id: Uuid,
    /// `confirmed`, `waitlisted` or `cancelled`.
    pub status: String,
    /// How many seats.
    pub seats: u32,
    /// Which seats, if they are numbered.
    #[serde(default)]
    pub seat_numbers: Option<Vec<u32>>,
    /// Its place in the queue, if it waits or has waited.
    pub waiting_number: Option<i64>,
}

impl Standing {
    /// Whether it is `status`.
    pub fn is(&self, status: &str) -> bool {
        self.status == status
    }
}

/// An event as it is afterwards.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Seats there are.
    pub capacity: u32,
    /// Seats to be had.
    pub available: u32,
    /// Seats sold.
    pub confirmed: u32,
    /// Parties that wait.
    pub waiting: u32,
    /// How often a party may be passed; `None` with the policy `strict`.
    pub max_bypass: Option<u32>,
    /// Every booking.
    pub bookings: Vec<Standing>,
}

/// How often each booking's people were told of each thing.
pub type Notices = HashMap<(Uuid, FactKind), u32>;

/// All that a verdict is based on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// What was answered.
    pub run: &'a Run,
    /// What is there, in the order of the plan's events.
    pub endings: &'a [Ending],
    /// Whom was told what; `None`: not looked at.
    pub notices: Option<&'a Notices>,
}

/// A promise, and whether it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable; for programs.
    pub name: &'static str,
    /// Whether it was kept.
    pub holds: bool,
    /// For people.
    pub detail: String,
}

/// Gathers what is wrong with one promise.
pub(super) struct Check {
    name: &'static str,
    wrong: u64,
    examples: Vec<String>,
}

impl Check {
    pub fn new(name: &'static str) -> Self {
        Self { name, wrong: 0, examples: Vec::new() }
    }

    /// Notes a breach unless `holds`.
    pub fn require<T: Display>(&mut self, holds: bool, breach: impl FnOnce() -> T) {
        if !holds {
            self.wrong += 1;
            if self.examples.len() < EXAMPLES {
                self.examples.push(breach().to_string());
            }
        }
    }

    /// The finding; `kept` says in a few words what was looked at.
    pub fn finish(self, kept: String) -> Finding {
        let holds = self.wrong == 0;
        let detail = match (holds, u64::try_from(self.examples.len())) {
            (true, _) => kept,
            (false, Ok(shown)) if shown == self.wrong => self.examples.join("; "),
            (false, _) => format!("{} times, e.g. {}", self.wrong, self.examples.join("; ")),
        };
        Finding { name: self.name, holds, detail }
    }
}

/// Judges a run.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = vec![
        acknowledged(evidence),
        unasked(evidence),
        oversold(evidence),
        accounted(evidence),
        seats_twice(evidence),
        sold(evidence),
        order::kept(evidence),
        pairs(evidence),
    ];
    findings.extend(evidence.notices.map(|notices| notified(evidence, notices)));
    findings
}

/// The bookings that are there, by id.
fn by_id<'a>(evidence: &Evidence<'a>) -> HashMap<Uuid, &'a Standing> {
    let all = evidence.endings.iter().flat_map(|ending| &ending.bookings);
    all.map(|standing| (standing.id, standing)).collect()
}

fn accepted<'a>(evidence: &Evidence<'a>) -> impl Iterator<Item = (&'a Seen, Uuid)> {
    evidence.run.seen.iter().filter_map(|seen| Some((seen, seen.booking?)))
}

/// What was acknowledged is there, as acknowledged.
fn acknowledged(evidence: &Evidence<'_>) -> Finding {
    let mut check = Check::new("acknowledged_bookings_exist");
    let standing = by_id(evidence);
    let mut count = 0_u64;
    for (seen, id) in accepted(evidence) {
        count += 1;
        let Some(now) = standing.get(&id) else {
            check.require(false, || format!("{id} was acknowledged and is not there"));
            continue;
        };
        let fits = match (seen.cancelled, &seen.outcome) {
            (Cancelled::Yes, _) => now.is("cancelled"),
            (Cancelled::Perhaps, _) => true,
            (Cancelled::No, Outcome::Confirmed) => now.is("confirmed"),
            (Cancelled::No, _) => now.is("waitlisted") || now.is("confirmed"),
        };
        check.require(fits, || {
            format!(
                "{id} was {:?} (cancelled: {:?}), is {}",
                seen.outcome, seen.cancelled, now.status
            )
        });
        let asked = evidence.plan.ask(seen.index).seats;
        check.require(now.is("cancelled") || now.seats == asked, || {
            format!("{id} was for {asked} seats, is for {}", now.seats)
        });
    }
    check.finish(format!("{count} of {count}"))
}

/// Nothing is there that nobody asked for, or that was asked for once and is there twice.
fn unasked(evidence: &Evidence<'_>) -> Finding {
    let mut check = Check::new("no_booking_twice");
    let mut ids = HashSet::new();
    for (_, id) in accepted(evidence) {
        check.require(ids.insert(id), || format!("{id} was given to two buyers"));
    }
    let mut seen = HashSet::new();
    let mut strangers = 0_u64;
    for standing in evidence.endings.iter().flat_map(|ending| &ending.bookings) {
        check.require(seen.insert(standing.id), || format!("{} is listed twice", standing.id));
        strangers += u64::from(!ids.contains(&standing.id));
    }
    let unknown = evidence.run.count(|outcome| *outcome == Outcome::Unknown);
    check.require(strangers <= unknown, || {
        format!(
            "{strangers} bookings were never acknowledged, but only {unknown} answers were lost"
        )
    });
    check.finish(format!("{} bookings, {strangers} of them with a lost answer", seen.len()))
}

fn standing_seats(ending: &Ending) -> u64 {
    let confirmed = ending.bookings.iter().filter(|standing| standing.is("confirmed"));
    confirmed.map(|standing| u64::from(standing.seats)).sum()
}

fn oversold(evidence: &Evidence<'_>) -> Finding {
    let mut check = Check::new("nothing_oversold");
    for (ending, event) in evidence.endings.iter().zip(&evidence.plan.events) {
        let seats = standing_seats(ending);
        // Nobody has asked for a larger event than the plan says.
        let capacity = ending.capacity.min(evidence.plan.capacity);
        check.require(seats <= u64::from(capacity), || {
            format!("event {event}: {seats} of {capacity} seats are sold")
        });
    }
    check.finish("0 seats".to_owned())
}

/// The sums that the event shows agree with its bookings and with each other.
fn accounted(evidence: &Evidence<'_>) -> Finding {
    let mut check = Check::new("every_seat_accounted_for");
    for (ending, event) in evidence.endings.iter().zip(&evidence.plan.events) {
        let seats = standing_seats(ending);
        check.require(seats == u64::from(ending.confirmed), || {
            format!("event {event}: shows {} sold, its bookings have {seats}", ending.confirmed)
        });
        let waiting = ending.bookings.iter().filter(|one| one.is("waitlisted")).count();
        check.require(u32::try_from(waiting) == Ok(ending.waiting), || {
            format!("event {event}: shows {} waiting, {waiting} are", ending.waiting)
        });
        // What is neither sold nor to be had is parked for those who wait.
        let shown = u64::from(ending.available) + u64::from(ending.confirmed);
        let capacity = u64::from(ending.capacity);
        let fits = if waiting == 0 { shown == capacity } else { shown <= capacity };
        check.require(fits, || {
            format!(
                "event {event}: {} available + {} sold, {waiting} parties waiting, of {capacity}",
                ending.available, ending.confirmed
            )
        });
    }
    check.finish(format!("{} events", evidence.endings.len()))
}

fn seats_twice(evidence: &Evidence<'_>) -> Finding {
    let mut check = Check::new("no_seat_sold_twice");
    let mut numbers = 0_usize;
    for (ending, event) in evidence.endings.iter().zip(&evidence.plan.events) {
        let mut taken = HashSet::new();
        for standing in ending.bookings.iter().filter(|standing| standing.is("confirmed")) {
            let seats = standing.seat_numbers.as_deref().unwrap_or_default();
            if evidence.plan.numbered {
                check.require(u32::try_from(seats.len()) == Ok(standing.seats), || {
                    format!(
                        "{} has {} seats and the numbers {seats:?}",
                        standing.id, standing.seats
                    )
                });
            }
            for seat in seats {
                check.require(taken.insert(*seat), || format!("event {event}: seat {seat}"));
                check.require((1..=ending.capacity).contains(seat), || {
                    format!("event {event} has no seat {seat}")
                });
            }
        }
        numbers += taken.len();
    }
    let standing = by_id(evidence);
    for (seen, id) in accepted(evidence) {
        let ask = evidence.plan.ask(seen.index);
        let (Some(first), Some(now)) = (ask.first_seat, standing.get(&id)) else { continue };
        let wanted: HashSet<u32> = (first..first.saturating_add(ask.seats)).collect();
        let has: HashSet<u32> = now.seat_numbers.iter().flatten().copied().collect();
        let named = seen.outcome == Outcome::Confirmed && now.is("confirmed");
        check.require(!named || wanted == has, || {
            format!("{id} was promised {wanted:?} and has {has:?}")
        });
    }
    check.finish(format!("{numbers} numbered seats"))
}

/// As many seats are sold as there are or as were asked for.
fn sold(evidence: &Evidence<'_>) -> Finding {
    let mut check = Check::new("sold_is_min_of_capacity_and_demand");
    let refused: Vec<(usize, u32)> = (evidence.run.seen.iter())
        .filter(|seen| matches!(&seen.outcome, Outcome::Refused(code) if &**code == "sold_out"))
        .map(|seen| evidence.plan.ask(seen.index))
        .map(|ask| (ask.event, ask.seats))
        .collect();
    for (at, (ending, event)) in evidence.endings.iter().zip(&evidence.plan.events).enumerate() {
        let unsold = ending.capacity.saturating_sub(ending.confirmed);
        let waiting = ending.bookings.iter().filter(|standing| standing.is("waitlisted"));
        if let Some(head) = waiting.min_by_key(|standing| standing.waiting_number) {
            check.require(head.seats > unsold, || {
                format!("event {event}: {unsold} seats unsold, but a party of {} waits", head.seats)
            });
        } else if evidence.plan.cancel_percent == 0 {
            let mut fitting = refused.iter().filter(|(of, seats)| *of == at && *seats <= unsold);
            check.require(fitting.next().is_none(), || {
                format!(
                    "event {event}: {unsold} seats unsold, but fitting parties were told sold out"
                )
            });
        }
    }
    let sold: u64 = evidence.endings.iter().map(|ending| u64::from(ending.confirmed)).sum();
    let seats: u64 = evidence.endings.iter().map(|ending| u64::from(ending.capacity)).sum();
    check.finish(format!("{sold} of {seats} seats"))
}

fn pairs(evidence: &Evidence<'_>) -> Finding {
    let mut check = Check::new("one_booking_per_key");
    for sentence in &evidence.run.unequal {
        check.require(false, || sentence);
    }
    check.finish(format!("{} pairs sent at once", evidence.run.pairs))
}

/// What each booking's people must have been told: at least and at most how often.
pub fn expected_notices(
    plan: &Plan,
    run: &Run,
    endings: &[Ending],
) -> Vec<(Uuid, FactKind, u32, u32)> {
    let evidence = Evidence { plan, run, endings, notices: None };
    let standing = by_id(&evidence);
    let mut expected = Vec::new();
    for (seen, id) in accepted(&evidence) {
        let confirmed = standing.get(&id).is_some_and(|now| now.is("confirmed"));
        let cancelled = standing.get(&id).is_some_and(|now| now.is("cancelled"));
        let first = match seen.outcome {
            Outcome::Confirmed => FactKind::BookingConfirmed,
            _ => FactKind::BookingWaitlisted,
        };
        expected.push((id, first, 1, 1));
        if first == FactKind::BookingWaitlisted {
            // Who waited and cancelled may have been promoted in between.
            let (least, most) = (u32::from(confirmed), u32::from(confirmed || cancelled));
            expected.push((id, FactKind::WaitlistPromoted, least, most));
        }
        let (least, most) = (u32::from(cancelled), u32::from(cancelled));
        expected.push((id, FactKind::BookingCancelled, least, most));
    }
    expected
}

fn notified(evidence: &Evidence<'_>, notices: &Notices) -> Finding {
    let mut check = Check::new("notified_exactly_once");
    let mut count = 0_u64;
    for (id, kind, least, most) in expected_notices(evidence.plan, evidence.run, evidence.endings) {
        let told = notices.get(&(id, kind)).copied().unwrap_or_default();
        count += u64::from(told);
        check.require((least..=most).contains(&told), || {
            format!("{id} was told {} {told} times instead of {most}", kind.name())
        });
    }
    check.finish(format!("{count} notifications"))
}
