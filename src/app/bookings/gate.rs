//! Before the desk: refuse what Redis knows cannot succeed, lease the seats of the rest. When
//! Redis is away or cold everybody goes through, and PostgreSQL decides alone.

use std::collections::HashMap;

use super::desk::{Command, Job};
use crate::app::Error;
use crate::clock::Ids;
use crate::domain::booking::Party;
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::redis::Redis;
use crate::redis::gate::{self, Ask, Group, Pass};

/// Jobs that were let through together, and the leases to settle when they are decided.
#[derive(Debug, Default)]
pub struct Admitted {
    /// The jobs, in order of arrival.
    pub jobs: Vec<Job>,
    /// Leases by event.
    pub leases: Vec<(EventId, String)>,
}

/// Asks the gate about a batch. Whoever is refused is answered here, unless the refusal has to be
/// remembered under an idempotency key: then the job goes on to the desk with its refusal.
pub async fn admit(redis: &Redis, ids: Ids, lease_ms: u64, mut jobs: Vec<Job>) -> Admitted {
    let groups = groups(&jobs, ids);
    if groups.is_empty() {
        return Admitted { jobs, leases: Vec::new() };
    }
    let asked: Vec<Group> = groups.iter().map(|(group, _)| group.clone()).collect();
    let Ok(answers) = gate::pass(&redis.link, &asked, lease_ms).await else {
        count("away", jobs.len());
        return Admitted { jobs, leases: Vec::new() };
    };
    let mut refused: HashMap<usize, Refusal> = HashMap::new();
    let mut leases = Vec::new();
    for ((group, places), answer) in groups.into_iter().zip(answers) {
        let Some(passes) = answer else {
            count("cold", places.len());
            continue;
        };
        count("through", passes.iter().filter(|pass| **pass == Pass::Through).count());
        leases.push((group.event, group.lease));
        for (place, pass) in places.into_iter().zip(passes) {
            if let Some(refusal) = refusal(pass) {
                refused.insert(place, refusal);
            }
        }
    }
    if !refused.is_empty() {
        jobs = turn_away(jobs, &mut refused);
    }
    Admitted { jobs, leases }
}

/// The wishes for seats, by event, each with its place in the batch.
fn groups(jobs: &[Job], ids: Ids) -> Vec<(Group, Vec<usize>)> {
    let mut groups: HashMap<EventId, (Group, Vec<usize>)> = HashMap::new();
    for (place, job) in jobs.iter().enumerate() {
        let Command::Book { request, hold_token } = &job.command else { continue };
        let (group, places) = groups.entry(job.event).or_insert_with(|| {
            let lease = ids.uuid().simple().to_string();
            (Group { event: job.event, lease, asks: Vec::new() }, Vec::new())
        });
        group.asks.push(Ask {
            seats: request.party.size(),
            waitlist: request.waitlist,
            numbers: match &request.party {
                Party::Seats(_) => Vec::new(),
                Party::Numbered(numbers) => numbers.clone(),
            },
            hold_token: hold_token.clone(),
        });
        places.push(place);
    }
    groups.into_values().collect()
}

fn refusal(pass: Pass) -> Option<Refusal> {
    let (outcome, refusal) = match pass {
        Pass::Through => return None,
        Pass::SoldOut => ("sold_out", Refusal::SoldOut),
        Pass::Held(numbers) => ("held", Refusal::SeatsUnavailable(numbers)),
        Pass::HoldLost => ("hold_lost", Refusal::HoldExpired),
    };
    count(outcome, 1);
    Some(refusal)
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
