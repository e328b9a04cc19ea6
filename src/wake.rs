//! How rooms nudge actors without knowing them, how actors tell that they are alive, and how work
//! is handed over that must finish whatever becomes of its caller.
//!
//! A wake carries no data and every sweeper also ticks, so a lost wake costs latency, never
//! correctness. All handles exist before any actor starts, which breaks the start-up cycle.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, oneshot};

/// A doorbell: rings are coalesced, and one rung before the wait is not lost.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Asks the actor to take its next step now.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for the next ring.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// The doorbells of the actors that others may wake.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    /// There are rows in the outbox for RabbitMQ.
    pub outbox_relay: Wake,
    /// There are rows in the outbox for the bus.
    pub bus_relay: Wake,
    /// Redis lost its memory or an event's view went stale.
    pub reconciler: Wake,
    /// A cancelled event has bookings left.
    pub event_cascade: Wake,
    /// Seats were let go that somebody may wait for.
    pub hold_sweeper: Wake,
    /// People are booking.
    pub busy: Busy,
}

/// How long after its last sign of work the desk counts as busy.
const BUSY_MS: i64 = 50;

/// Whether people are booking right now: then what can wait goes slowly, because it shares
/// processor, disk and database with them.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<AtomicI64>);

impl Busy {
    /// The desk settles a batch at `now_ms` (milliseconds of any one clock).
    pub fn touch(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }

    /// Whether it did so a moment ago.
    pub fn is_busy(&self, now_ms: i64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        last > 0 && now_ms.saturating_sub(last) <= BUSY_MS
    }
}

/// What an actor is doing, as `/health/ready` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorState {
    /// Not started yet.
    Starting,
    /// Taking steps.
    Running,
    /// Failed, waiting to be started again.
    Backoff,
    /// Ended in an orderly way.
    Stopped,
}

/// One actor's vital signs, written by the supervisor and read by health and metrics.
#[derive(Debug)]
pub struct Vitals {
    /// The actor's name on the roster.
    pub name: String,
    state: AtomicU8,
    beat_ms: AtomicI64,
    restarts: AtomicU64,
}

impl Vitals {
    /// Records a sign of life.
    pub fn beat(&self, now: Timestamp) {
        self.state.store(1, Ordering::Relaxed);
        self.beat_ms.store(now.as_millisecond(), Ordering::Relaxed);
    }

    /// Records that the actor failed and waits to be restarted.
    pub fn backoff(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.state.store(2, Ordering::Relaxed);
    }

    /// Records the end.
    pub fn stopped(&self) {
        self.state.store(3, Ordering::Relaxed);
    }

    /// What it is doing.
    pub fn state(&self) -> ActorState {
        match self.state.load(Ordering::Relaxed) {
            0 => ActorState::Starting,
            1 => ActorState::Running,
            2 => ActorState::Backoff,
            _ => ActorState::Stopped,
        }
    }

    /// How long ago it last gave a sign of life, in milliseconds; `None` before the first.
    pub fn age_ms(&self, now: Timestamp) -> Option<i64> {
        let beat = self.beat_ms.load(Ordering::Relaxed);
        (beat > 0).then(|| now.as_millisecond().saturating_sub(beat).max(0))
    }

    /// How often it failed.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }
}

/// Every actor's vital signs, in the order of the roster.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<RwLock<Vec<Arc<Vitals>>>>);

impl Pulse {
    /// Enters an actor.
    pub fn register(&self, name: &str) -> Arc<Vitals> {
        let vitals = Arc::new(Vitals {
            name: name.to_owned(),
            state: AtomicU8::new(0),
            beat_ms: AtomicI64::new(0),
            restarts: AtomicU64::new(0),
        });
        if let Ok(mut all) = self.0.write() {
            all.push(Arc::clone(&vitals));
        }
        vitals
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Vitals>> {
        self.0.read().map(|all| all.clone()).unwrap_or_default()
    }
}

/// Most pieces of work that [`Background`] has in hand at once.
const BACKGROUND_MAX: usize = 8192;

/// Work as the supervisor takes it: it runs it to its end and waits for it at the stop.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why the output of a piece of work is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Too much is in hand; it was not begun.
    #[error("too much work is in hand")]
    Busy,
    /// It panicked, or the process is being ended by force.
    #[error("the work ended without an output")]
    Broken,
}

/// Runs what must finish even when nobody waits for it any more: a client that hangs up drops the
/// handler's future, and must not leave a commit without its consequences. Cheap to clone.
#[derive(Clone)]
pub struct Background {
    start: Arc<dyn Fn(Job) + Send + Sync>,
    places: Arc<Semaphore>,
}

impl Background {
    /// Hands work to `start`, which only the supervisor can give.
    pub fn new(start: impl Fn(Job) + Send + Sync + 'static) -> Self {
        Self { start: Arc::new(start), places: Arc::new(Semaphore::new(BACKGROUND_MAX)) }
    }

    /// Runs `work` to its end on the main runtime, and gives its output to the caller if that is
    /// still there.
    ///
    /// # Errors
    /// See [`Lost`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Lost> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Lost::Busy)?;
        let (done, output) = oneshot::channel();
        (self.start)(Box::pin(async move {
            let _place = place;
            // Nobody may be left to take it.
            done.send(work.await).ok();
        }));
        output.await.map_err(|_| Lost::Broken)
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.places.available_permits();
        f.debug_struct("Background").field("places", &places).finish_non_exhaustive()
    }
}
