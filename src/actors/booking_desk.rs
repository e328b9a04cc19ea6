//! The second half of a desk lane: settles whatever queued up while the previous commit ran in one
//! transaction, answers everybody, and tells those who show the outcome.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc};

use super::{Actor, Next};
use crate::app::Error;
use crate::app::bookings::desk::{Command, Job, Outcome};
use crate::app::bookings::gate::{Admitted, HeldSeats};
use crate::app::bookings::settle::{Aftermath, Settled, Settler};
use crate::app::bookings::show::{Held, Lease, Notice, Publication};
use crate::app::once::Answer;
use crate::domain::ids::EventId;
use crate::telemetry::spans::{SpanKind, Spans, Step, number, text};
use crate::wake::{Wake, Wakes};

/// The receiving end of a lane's queue; it outlives a desk that panics.
pub type Queue = Arc<Mutex<mpsc::Receiver<Admitted>>>;

/// Most events in doubt, and most leases of each.
const DOUBTS_MAX: usize = 256;
/// How often it is asked what became of them.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Settles the commands of one lane.
pub struct BookingDesk {
    /// Where admitted commands come in.
    pub queue: Queue,
    /// Settles.
    pub settler: Settler,
    /// Where outcomes are shown.
    pub publisher: mpsc::Sender<Notice>,
    /// Its bell.
    pub publisher_wake: Wake,
    /// The bells of those who go on with the consequences.
    pub wakes: Wakes,
    /// Most commands in one commit.
    pub batch_max: usize,
    /// Events that could not be served to the end in one commit, and the seats held there.
    pub again: VecDeque<(EventId, BTreeSet<u32>)>,
    /// What became of a commit is unknown: what was pinned for it stays so until it is decided.
    pub doubts: Doubts,
    /// Where it is told how long it took.
    pub spans: Spans,
}

/// Leases of requests whose fate is unknown. If it stays so, their own deadlines end them.
#[derive(Debug, Default)]
pub struct Doubts {
    leases: HashMap<EventId, Vec<Lease>>,
    asked: Option<Instant>,
}

impl Doubts {
    /// Keeps the leases of events of which nobody knows, and answers the others.
    fn keep(
        &mut self,
        unknown: &HashSet<EventId>,
        leases: Vec<(EventId, Lease)>,
    ) -> Vec<(EventId, Lease)> {
        let (doubtful, settled): (Vec<_>, Vec<_>) =
            leases.into_iter().partition(|(event, _)| unknown.contains(event));
        for (event, lease) in doubtful {
            if self.leases.len() < DOUBTS_MAX || self.leases.contains_key(&event) {
                let kept = self.leases.entry(event).or_default();
                kept.push(lease);
                // The oldest are near their deadlines.
                kept.drain(..kept.len().saturating_sub(DOUBTS_MAX));
            }
        }
        settled
    }

    /// Events to be asked about now: whoever has their rows comes after what is in doubt.
    fn due(&mut self) -> Vec<EventId> {
        if self.leases.is_empty() || self.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return Vec::new();
        }
        self.asked = Some(Instant::now());
        self.leases.keys().copied().collect()
    }

    /// The leases of those that were settled after all.
    fn decided(
        &mut self,
        settled: &HashSet<EventId>,
        unknown: &HashSet<EventId>,
    ) -> Vec<(EventId, Vec<Lease>)> {
        let decided = |event: &EventId, _: &mut Vec<Lease>| {
            settled.contains(event) && !unknown.contains(event)
        };
        self.leases.extract_if(decided).collect()
    }
}

impl Actor for BookingDesk {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let Admitted { jobs, leases, held } = self.take().await;
        if jobs.is_empty() && leases.is_empty() {
            return Ok(Next::Rest);
        }
        let started = Instant::now();
        let settled = self.settler.settle(&jobs, &held).await;
        let took = started.elapsed().as_secs_f64();
        metrics::histogram!("desk_batch_seconds").record(took);
        metrics::histogram!("desk_batch_size").record(u32::try_from(jobs.len()).unwrap_or(0));
        let Settled { answers, aftermath, messages, unknown } = settled;
        tell(&self.spans, started, &jobs, &answers);
        // Their rows were had, so whatever was in doubt before is decided.
        let events: HashSet<EventId> = jobs
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| matches!(answer, Ok(_) | Err(Error::Refused(_))))
            .map(|(job, _)| job.event)
            .collect();
        let leases = self.doubts.keep(&unknown, leases);
        let mut later = Vec::new();
        for (job, answer) in jobs.into_iter().zip(answers) {
            let is_new = matches!(answer, Ok(Answer::Fresh(Outcome::Booking(_))));
            let may_give_back = !(is_new && matches!(job.command, Command::Book { .. }));
            let answer = Held { to: job.answer, answer };
            if may_give_back {
                later.push(answer);
            } else {
                answer.give();
            }
        }
        if messages > 0 {
            self.wakes.busy.touch(self.settler.clock.now().as_millisecond());
            self.wakes.outbox_relay.ring();
        }
        self.show(aftermath, leases, &held);
        for (event, leases) in self.doubts.decided(&events, &unknown) {
            self.publisher.try_send(Notice::Decided(event, leases)).ok();
        }
        self.answer(later);
        Ok(Next::Again)
    }

    fn drains(&self) -> bool {
        true
    }
}

impl BookingDesk {
    /// Whatever waits, in whole groups, up to about `batch_max` commands.
    async fn take(&mut self) -> Admitted {
        let mut all = Admitted::default();
        while let Some((event, held)) = self.again.pop_front() {
            all.jobs.push(Job::sweep(event));
            all.held.insert(event, held);
        }
        all.jobs.extend(self.doubts.due().into_iter().map(Job::sweep));
        let mut queue = self.queue.lock().await;
        while all.jobs.len() < self.batch_max {
            let Ok(mut admitted) = queue.try_recv() else { break };
            all.jobs.append(&mut admitted.jobs);
            all.leases.append(&mut admitted.leases);
            // The later look is the better one.
            all.held.extend(admitted.held);
        }
        all
    }

    /// Publishes what changed. A full queue loses nothing: counters are absolute, and the
    /// reconciler finds what was not shown; so do leases that are not settled: they lapse.
    fn show(
        &mut self,
        aftermath: Vec<Aftermath>,
        mut leases: Vec<(EventId, Lease)>,
        held: &HeldSeats,
    ) {
        // A batch that was settled one by one has several commits of one event: until the last of
        // them is shown, nothing that it pinned may be had by others.
        let mut commits: HashMap<EventId, usize> = HashMap::new();
        for one in &aftermath {
            *commits.entry(one.event).or_default() += 1;
        }
        for one in aftermath {
            if one.unfinished {
                let held = held.get(&one.event).cloned().unwrap_or_default();
                self.again.push_back((one.event, held));
            }
            if one.cancelled {
                self.wakes.event_cascade.ring();
            }
            let left = commits.entry(one.event).and_modify(|left| *left -= 1).or_default();
            let last = *left == 0;
            let mine = leases.extract_if(.., |(event, _)| last && *event == one.event);
            let publication = Publication {
                event: one.event,
                base: one.versions.0,
                version: one.versions.1,
                available: one.available,
                total: one.total,
                freed: one.freed,
                taken: one.taken,
                cancelled: one.cancelled,
                leases: mine.map(|(_, lease)| lease).collect(),
                queue: one.queue,
            };
            if self.publisher.try_send(Notice::Commit(publication)).is_err() {
                self.wakes.reconciler.ring();
            }
        }
        for (event, lease) in leases {
            let settlement = Publication::settlement(event, vec![lease]);
            self.publisher.try_send(Notice::Commit(settlement)).ok();
        }
        self.publisher_wake.ring();
    }

    /// Has those answered who may act on seats that came back: cancelled ones, new ones, those
    /// whose lease turned out not to be needed. With a full queue they are answered now.
    fn answer(&self, held: Vec<Held>) {
        if held.is_empty() {
            return;
        }
        let refused = self.publisher.try_send(Notice::Answers(held)).err();
        if let Some(Notice::Answers(held)) = refused.map(TrySendError::into_inner) {
            held.into_iter().for_each(Held::give);
        }
        self.publisher_wake.ring();
    }
}

/// Into the trace of each command goes how long it took to settle it, in how large a company.
fn tell(spans: &Spans, begun: Instant, jobs: &[Job], answers: &[Result<Answer<Outcome>, Error>]) {
    let Some(mut batch) = spans.batch(begun) else { return };
    for (job, answer) in jobs.iter().zip(answers) {
        batch.add(job.origin.traceparent.as_deref(), || Step {
            kind: SpanKind::Internal,
            name: format!("settle {}", job.command.name()),
            request_id: job.origin.correlation_id.clone(),
            failure: match answer {
                Ok(_) | Err(Error::Refused(_)) => None,
                Err(_) => Some("unsettled".to_owned()),
            },
            attributes: vec![
                ("happening.event.id", text(job.event)),
                ("happening.desk.batch_size", number(jobs.len())),
            ],
        });
    }
}
