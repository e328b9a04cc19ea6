//! The handle of the booking desk: hand in a command, get its answer after the commit.
//!
//! Commands of one event take the same lane, where whatever queued up while the previous commit
//! ran is settled in the next one (DESIGN §4). The lanes themselves are actors.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};

use crate::app::once::{Answer, Reply, Submission};
use crate::app::{Error, Origin, Result};
use crate::domain::booking::{Booking, Part};
use crate::domain::event::Event;
use crate::domain::event_patch::EventPatch;
use crate::domain::ids::{BookingId, EventId, UserId};
use crate::domain::inventory::Request;
use crate::domain::refusal::Refusal;
use crate::wake::Wake;

/// Everything that changes an event's inventory.
#[derive(Clone, Debug)]
pub enum Command {
    /// Seats, or a place in the queue.
    Book {
        /// What is asked for.
        request: Request,
        /// The hold that the party books from.
        hold_token: Option<String>,
    },
    /// A booking, or a part of it, is given back.
    Cancel {
        /// Which.
        booking: BookingId,
        /// How much of it.
        part: Part,
    },
    /// The event changes: what it is, its rules, its capacity.
    Change {
        /// How.
        patch: Box<EventPatch>,
        /// The version that the caller saw (`If-Match`).
        if_version: Option<i64>,
        /// Who says so.
        by: UserId,
    },
    /// The event goes on show.
    Publish {
        /// Who says so.
        by: UserId,
    },
    /// The event will not take place: sales close now, the cascade follows.
    CancelEvent {
        /// Why, for those who booked.
        reason: Option<String>,
        /// Who says so.
        by: UserId,
    },
    /// Some more bookings of a cancelled event are cancelled.
    Close {
        /// All before this one are.
        after: Option<BookingId>,
    },
    /// Whoever can be promoted is.
    Sweep,
}

impl Command {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Book { .. } => "book",
            Self::Cancel { .. } => "cancel",
            Self::Change { .. } => "change",
            Self::Publish { .. } => "publish",
            Self::CancelEvent { .. } => "cancel_event",
            Self::Close { .. } => "close",
            Self::Sweep => "sweep",
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The booking as it is now.
    Booking(Booking),
    /// The event as it is now.
    Event(Box<Event>),
    /// The last booking that was cancelled with its event; `None`: none is left.
    Closed(Option<BookingId>),
    /// Whoever could be promoted was.
    Swept,
}

/// How the door will answer an outcome; kept beside the effect under the idempotency key.
pub type Render = fn(&std::result::Result<Outcome, Refusal>) -> Reply;

/// A command on its way through the desk.
#[derive(Debug)]
pub struct Job {
    /// Which event's inventory.
    pub event: EventId,
    /// What is to be done.
    pub command: Command,
    /// At most once per key, and how it will be answered.
    pub once: Option<(Submission, Render)>,
    /// Where it came from.
    pub origin: Origin,
    /// What the gate said no to; only to be remembered under the key.
    pub early: Option<Refusal>,
    /// Where the answer goes. Nobody may be there any more: the work is done all the same.
    pub answer: oneshot::Sender<Result<Answer<Outcome>>>,
}

impl Job {
    /// Whoever can be promoted is; nobody waits for the answer.
    pub fn sweep(event: EventId) -> Self {
        let (answer, _) = oneshot::channel();
        Self {
            event,
            command: Command::Sweep,
            once: None,
            origin: Origin { correlation_id: format!("sweep-{event}"), traceparent: None },
            early: None,
            answer,
        }
    }
}

/// The desk's counter. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    lanes: Arc<[Lane]>,
    timeout: Duration,
}

#[derive(Debug)]
struct Lane {
    queue: mpsc::Sender<Job>,
    wake: Wake,
}

/// The other end of a lane: what waits in it, and the bell that says so.
#[derive(Clone, Debug)]
pub struct Intake {
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
    /// Rung with every command.
    pub wake: Wake,
}

impl Intake {
    /// Whatever waits, at most `max`; nothing if nothing does.
    pub async fn take(&self, max: usize) -> Vec<Job> {
        let mut queue = self.queue.lock().await;
        let mut jobs = Vec::new();
        while jobs.len() < max {
            match queue.try_recv() {
                Ok(job) => jobs.push(job),
                Err(_) => break,
            }
        }
        jobs
    }
}

impl Desk {
    /// A desk of `lanes` lanes, each with a bounded queue, and their other ends.
    pub fn new(lanes: usize, queue_max: usize, timeout: Duration) -> (Self, Vec<Intake>) {
        let (lanes, intakes): (Vec<_>, Vec<_>) = (0..lanes.max(1))
            .map(|_| {
                let (queue, taken) = mpsc::channel(queue_max);
                let wake = Wake::default();
                let intake = Intake { queue: Arc::new(Mutex::new(taken)), wake: wake.clone() };
                (Lane { queue, wake }, intake)
            })
            .unzip();
        (Self { lanes: lanes.into(), timeout }, intakes)
    }

    /// Hands in a command and waits for its commit.
    ///
    /// # Errors
    /// The command's refusal; [`Error::Unavailable`] when the queue is full, the answer takes too
    /// long or the outcome of the commit is unknown (the same idempotency key tells later).
    pub async fn submit(
        &self,
        event: EventId,
        command: Command,
        once: Option<(Submission, Render)>,
        origin: &Origin,
    ) -> Result<Answer<Outcome>> {
        let (answer, answered) = oneshot::channel();
        let job = Job { event, command, once, origin: origin.clone(), early: None, answer };
        let lane = self.lane(event).ok_or_else(|| Error::unavailable("booking desk"))?;
        lane.queue.try_send(job).map_err(|_| Error::unavailable("booking desk"))?;
        lane.wake.ring();
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::unavailable("booking desk")),
        }
    }

    /// Has those served who wait for seats of an event, as soon as it can be. Nobody is told of
    /// it; with a full queue the sweeper of the waitlists does it later.
    pub fn serve(&self, event: EventId) {
        let Some(lane) = self.lane(event) else { return };
        lane.queue.try_send(Job::sweep(event)).ok();
        lane.wake.ring();
    }

    /// How many commands wait, per lane.
    pub fn depths(&self) -> Vec<usize> {
        self.lanes.iter().map(|lane| lane.queue.max_capacity() - lane.queue.capacity()).collect()
    }

    fn lane(&self, event: EventId) -> Option<&Lane> {
        // The low bits of a UUIDv7 are random, and the same in every process.
        let lanes = u128::try_from(self.lanes.len()).ok()?;
        let index = event.0.as_u128().checked_rem(lanes)?;
        self.lanes.get(usize::try_from(index).ok()?)
    }
}
