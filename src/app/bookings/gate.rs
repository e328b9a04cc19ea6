//! Before the desk: refuse what Redis knows cannot succeed, lease the seats of the rest. When
//! Redis is away or cold everybody goes through, and PostgreSQL decides alone.

use std::collections::{BTreeSet, HashMap};

use super::desk::{Command, Job};
use crate::app::Error;
use crate::clock::Ids;
use crate::domain::booking::Party;
use crate::domain::ids::EventId;
use crate::domain::inventory::Kept;
use crate::domain::refusal::Refusal;
use crate::redis::Redis;
pub use crate::redis::gate::Lives;
use crate::redis::gate::{self, Ask, Group, Pass};
use crate::redis::stock::Lease;

/// Numbered seats that are held, by event.
pub type HeldSeats = HashMap<EventId, BTreeSet<u32>>;

/// Jobs that were let through together, and the leases to settle when they are decided.
#[derive(Debug, Default)]
pub struct Admitted {
    /// The jobs, in order of arrival.
    pub jobs: Vec<Job>,
    /// Leases by event.
    pub leases: Vec<(EventId, Lease)>,
    /// What must not be given to parties that do not choose.
    pub held: HeldSeats,
}

/// Asks the gate about a batch. Whoever is refused is answered here, unless the refusal has to be
/// remembered under an idempotency key: then the job goes on to the desk with its refusal.
pub async fn admit(redis: &Redis, ids: Ids, lives: Lives, mut jobs: Vec<Job>) -> Admitted {
    let groups = groups(&jobs, ids);
    if groups.is_empty() {
        return Admitted { jobs, ..Admitted::default() };
    }
    let asked: Vec<Group> = groups.iter().map(|(group, _)| group.clone()).collect();
    let Ok(answers) = gate::pass(&redis.link, &asked, lives).await else {
        count("away", jobs.len());
        return Admitted { jobs, ..Admitted::default() };
    };
    let mut refused: HashMap<usize, Refusal> = HashMap::new();
    let mut admitted = Admitted::default();
    for ((group, places), answer) in groups.into_iter().zip(answers) {
        if !answer.held.is_empty() {
            admitted.held.insert(group.event, answer.held.into_iter().collect());
        }
        let Some(passes) = answer.passes else {
            count("cold", places.len());
            continue;
        };
        admitted.leases.push((group.event, answer.lease));
        let before = refused.len();
        let asked = places.len();
        for (place, pass) in places.into_iter().zip(passes) {
            match judge(pass) {
                Ok(kept) => keep(&mut jobs, place, kept),
                Err(refusal) => {
                    refused.insert(place, refusal);
                }
            }
        }
        count("through", asked + before - refused.len());
    }
    admitted.jobs = if refused.is_empty() { jobs } else { turn_away(jobs, &mut refused) };
    admitted
}

/// The wishes for seats, by event, each with its place in the batch; and the events in which seats
/// may go to whoever waits.
fn groups(jobs: &[Job], ids: Ids) -> Vec<(Group, Vec<usize>)> {
    let mut groups: HashMap<EventId, (Group, Vec<usize>)> = HashMap::new();
    for (place, job) in jobs.iter().enumerate() {
        let request = match &job.command {
            Command::Book { request, hold_token } => Some((request, hold_token)),
            Command::Cancel { .. } | Command::Change { .. } | Command::Sweep => None,
            Command::Publish { .. } | Command::CancelEvent { .. } | Command::Close { .. } => {
                continue;
            }
        };
        let (group, places) = groups.entry(job.event).or_insert_with(|| {
            let lease = ids.uuid().simple().to_string();
            (Group { event: job.event, lease, asks: Vec::new() }, Vec::new())
        });
        let Some((request, token)) = request else { continue };
        group.asks.push(Ask {
            seats: request.party.size(),
            waitlist: request.waitlist,
            numbers: match &request.party {
                Party::Seats(_) => Vec::new(),
                Party::Numbered(numbers) => numbers.clone(),
            },
            hold: token.clone().map(|token| (token, request.user_id)),
        });
        places.push(place);
    }
    groups.into_values().collect()
}

fn judge(pass: Pass) -> Result<Kept, Refusal> {
    let (outcome, refusal) = match pass {
        Pass::Through => return Ok(Kept::default()),
        Pass::Wish(wish) => return Ok(Kept { wish, holds: false }),
        Pass::Holds => return Ok(Kept { wish: Vec::new(), holds: true }),
        Pass::SoldOut => ("sold_out", Refusal::SoldOut),
        Pass::Gone(numbers) => ("gone", Refusal::SeatsUnavailable(numbers)),
        Pass::HoldLost => ("hold_lost", Refusal::HoldExpired),
    };
    count(outcome, 1);
    Err(refusal)
}

fn keep(jobs: &mut [Job], place: usize, kept: Kept) {
    if let Some(Command::Book { request, .. }) = jobs.get_mut(place).map(|job| &mut job.command) {
        request.kept = kept;
    }
}

fn turn_away(jobs: Vec<Job>, refused: &mut HashMap<usize, Refusal>) -> Vec<Job> {
    let mut through = Vec::with_capacity(jobs.len());
    for (place, mut job) in jobs.into_iter().enumerate() {
        match refused.remove(&place) {
            Some(refusal) if job.once.is_none() => {
                // Nobody may be waiting for the answer any more.
                job.answer.send(Err(Error::Refused(refusal))).ok();
            }
            early => {
                job.early = early;
                through.push(job);
            }
        }
    }
    through
}

fn count(outcome: &'static str, jobs: usize) {
    if jobs > 0 {
        let jobs = u64::try_from(jobs).unwrap_or(u64::MAX);
        metrics::counter!("gate_requests_total", "outcome" => outcome).increment(jobs);
    }
}
