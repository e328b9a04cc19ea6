//! Starts the actors, restarts them, stops them in phases; the only place that spawns.
//!
//! What escalates: an error is somebody else's outage. The actor is made anew after a jittered
//! pause that grows to `BACKOFF_MAX`, for as long as it takes, and `/health/ready` says so; a
//! minutes-long loss of the broker or the database must not end a process that could go on. A
//! panic is a mistake of ours: `PANICS_MAX` within `PANIC_WINDOW` end the process, so that
//! whoever runs it notices. An essential actor may do neither.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Actor, Duty, Next, Phase, Policy};
use crate::clock::{Clock, Ids};
use crate::config;
use crate::wake::{Background, Pulse, Vitals};

/// First pause after a failure, doubling.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause: short, because healing must show within 5 s of the other side's.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// An actor that lived this long starts again with the first pause.
const HEALTHY: Duration = Duration::from_secs(10);
/// This many panics of one actor ...
const PANICS_MAX: usize = 5;
/// ... within this time end the process.
const PANIC_WINDOW: Duration = Duration::from_mins(1);
/// A resting actor shows that it lives at least this often.
const BEAT: Duration = Duration::from_secs(1);
/// How long aborted tasks may take to notice.
const FINAL_WAIT: Duration = Duration::from_millis(500);

/// How an actor's life ended.
enum End {
    /// It was asked to stop.
    Stopped,
    /// A step or the factory failed.
    Failed(anyhow::Error),
    /// A step or the factory panicked.
    Panicked(String),
}

/// What every actor's loop needs.
#[derive(Clone)]
struct Watch {
    clock: Clock,
    ids: Ids,
    /// Fires when the actor's phase of the stop begins.
    stop: CancellationToken,
    /// Fires when there is no more time: drop everything.
    force: CancellationToken,
    failure: Failure,
}

/// The first reason why the process cannot go on.
#[derive(Clone, Default)]
struct Failure {
    reason: Arc<Mutex<Option<anyhow::Error>>>,
    raised: CancellationToken,
}

impl Failure {
    fn raise(&self, error: anyhow::Error) {
        if let Ok(mut reason) = self.reason.lock() {
            reason.get_or_insert(error);
        }
        self.raised.cancel();
    }
}

/// One phase of the stop: its actors and their signals.
#[derive(Clone, Default)]
struct Stage {
    tasks: TaskTracker,
    stop: CancellationToken,
    force: CancellationToken,
}

/// Owner of all long-lived tasks.
pub struct Supervisor {
    handle: Handle,
    clock: Clock,
    ids: Ids,
    pulse: Pulse,
    stages: [(Phase, Stage); 4],
    jobs: TaskTracker,
    failure: Failure,
    force: CancellationToken,
}

impl Supervisor {
    /// A supervisor without actors, on the runtime that this is called on.
    pub fn new(clock: Clock, ids: Ids, pulse: Pulse) -> Self {
        let stage = |phase| (phase, Stage::default());
        Self {
            handle: Handle::current(),
            clock,
            ids,
            pulse,
            stages: [Phase::Intake, Phase::Workers, Phase::Relay, Phase::Spans].map(stage),
            jobs: TaskTracker::new(),
            failure: Failure::default(),
            force: CancellationToken::new(),
        }
    }

    /// Enters an actor on the roster and starts it. `factory` makes it, now and after each
    /// failure; what it connects to lives and dies with it.
    pub fn spawn<A, F, Fut>(&self, duty: Duty, factory: F)
    where
        A: Actor,
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<A>> + Send + 'static,
    {
        let Some(stage) = self.stage(duty.phase) else { return };
        let vitals = self.pulse.register(&duty.name);
        let watch = Watch {
            clock: self.clock.clone(),
            ids: self.ids,
            stop: stage.stop.clone(),
            force: stage.force.clone(),
            failure: self.failure.clone(),
        };
        stage.tasks.spawn_on(supervise(duty, factory, vitals, watch), &self.handle);
    }

    /// A handle for work that must finish even when its caller is gone.
    pub fn background(&self) -> Background {
        let (handle, jobs, force) = (self.handle.clone(), self.jobs.clone(), self.force.clone());
        Background::new(move |job| {
            let force = force.clone();
            jobs.spawn_on(
                async move {
                    // Dropping a job is for the forced end only.
                    force.run_until_cancelled(job).await;
                },
                &handle,
            );
        })
    }

    /// Runs a task for as long as the process lives, outside of the phases (a listener).
    pub fn adopt(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.jobs.spawn_on(task, &self.handle);
    }

    /// Ends the process: the roster cannot go on.
    pub fn fail(&self, error: anyhow::Error) {
        self.failure.raise(error);
    }

    /// Waits until something happened that the process must not outlive.
    pub async fn failed(&self) {
        self.failure.raised.cancelled().await;
    }

    /// What that was.
    pub fn failure(&self) -> Option<anyhow::Error> {
        self.failure.reason.lock().ok().and_then(|mut reason| reason.take())
    }

    /// Cutting short: when this fires, every wait of the stop ends at once.
    pub fn force(&self) -> CancellationToken {
        self.force.clone()
    }

    /// Asks the actors of a phase to end and waits for them until the deadline; those that are
    /// late are dropped in mid-step, which each of them must survive anyway.
    pub async fn stop_phase(&self, phase: Phase, deadline: Duration) {
        let Some(stage) = self.stage(phase) else { return };
        stage.stop.cancel();
        stage.tasks.close();
        if self.within(deadline, stage.tasks.wait()).await {
            return;
        }
        tracing::warn!(?phase, left = stage.tasks.len(), "the deadline of the stop has passed");
        stage.force.cancel();
        timeout(FINAL_WAIT, stage.tasks.wait()).await.ok();
    }

    /// Waits for the work in the background until the deadline.
    pub async fn finish_jobs(&self, deadline: Duration) {
        self.jobs.close();
        if !self.within(deadline, self.jobs.wait()).await {
            tracing::warn!(left = self.jobs.len(), "background work was dropped");
            self.force.cancel();
            timeout(FINAL_WAIT, self.jobs.wait()).await.ok();
        }
    }

    /// Stops all phases in order.
    pub async fn stop(&self, config: &config::Stop) {
        self.stop_phase(Phase::Intake, Duration::from_millis(config.drain_ms)).await;
        self.finish_jobs(Duration::from_millis(config.drain_ms)).await;
        self.stop_phase(Phase::Workers, Duration::from_millis(config.workers_ms)).await;
        self.stop_phase(Phase::Relay, Duration::from_millis(config.relay_ms)).await;
        self.stop_phase(Phase::Spans, Duration::from_millis(config.spans_ms)).await;
    }

    async fn within(&self, deadline: Duration, end: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = end => true,
            () = sleep(deadline) => false,
            () = self.force.cancelled() => false,
        }
    }

    fn stage(&self, phase: Phase) -> Option<&Stage> {
        self.stages.iter().find(|(of, _)| *of == phase).map(|(_, stage)| stage)
    }
}

/// One actor's whole life, through all its restarts.
async fn supervise<A, F, Fut>(duty: Duty, mut factory: F, vitals: Arc<Vitals>, watch: Watch)
where
    A: Actor,
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<A>> + Send + 'static,
{
    let mut panics = VecDeque::new();
    let mut failures = 0_u32;
    loop {
        let born = Instant::now();
        let life = live(&duty, &mut factory, &vitals, &watch);
        let end = match watch.force.run_until_cancelled(AssertUnwindSafe(life).catch_unwind()).await
        {
            None => End::Stopped,
            Some(Ok(end)) => end,
            Some(Err(payload)) => End::Panicked(panic_text(payload.as_ref())),
        };
        if born.elapsed() >= HEALTHY {
            failures = 0;
        }
        failures = failures.saturating_add(1);
        let over = match &end {
            End::Stopped => true,
            _ if watch.stop.is_cancelled() => true,
            End::Failed(_) => duty.policy == Policy::Essential,
            End::Panicked(_) => {
                panics.push_back(Instant::now());
                panics.retain(|at: &Instant| at.elapsed() < PANIC_WINDOW);
                duty.policy == Policy::Essential || panics.len() >= PANICS_MAX
            }
        };
        report(&duty.name, &end, failures);
        if over {
            vitals.stopped();
            if let (Some(error), false) = (cause(&duty.name, end), watch.stop.is_cancelled()) {
                watch.failure.raise(error);
            }
            return;
        }
        vitals.backoff();
        metrics::counter!("actor_restarts_total", "actor" => duty.name.clone()).increment(1);
        if watch.stop.run_until_cancelled(sleep(pause(failures, watch.ids))).await.is_none() {
            vitals.stopped();
            return;
        }
    }
}

/// From the factory to the first failure or the stop.
async fn live<A, F, Fut>(duty: &Duty, factory: &mut F, vitals: &Vitals, watch: &Watch) -> End
where
    A: Actor,
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<A>> + Send + 'static,
{
    let made = watch.stop.run_until_cancelled(factory()).await;
    let mut actor = match made {
        None => return End::Stopped,
        Some(Err(error)) => return End::Failed(error.context("it could not start")),
        Some(Ok(actor)) => actor,
    };
    let end = steps(&mut actor, duty, vitals, watch).await;
    if matches!(end, End::Stopped) {
        actor.close().await;
    }
    end
}

/// Step after step, until one fails or the stop.
async fn steps<A: Actor>(actor: &mut A, duty: &Duty, vitals: &Vitals, watch: &Watch) -> End {
    let drains = duty.phase == Phase::Relay || actor.drains();
    loop {
        vitals.beat(watch.clock.now());
        let next = match actor.step().await {
            Ok(next) => next,
            Err(error) => return End::Failed(error),
        };
        let stopping = watch.stop.is_cancelled();
        match next {
            Next::Again if stopping && !drains => return End::Stopped,
            // A step may have had nothing to wait for: give the others their turn.
            Next::Again => tokio::task::yield_now().await,
            Next::Rest | Next::Pause(_) if stopping => return End::Stopped,
            Next::Rest => rest(duty.tick, duty, vitals, watch).await,
            Next::Pause(pause) => rest(pause.min(duty.tick), duty, vitals, watch).await,
        }
    }
}

/// Until the bell, the stop, or so much time is over, showing that it lives.
async fn rest(most: Duration, duty: &Duty, vitals: &Vitals, watch: &Watch) {
    let until = Instant::now() + most;
    loop {
        vitals.beat(watch.clock.now());
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            biased;
            () = watch.stop.cancelled() => return,
            () = duty.wake.rung() => return,
            () = sleep(left.min(BEAT)) => {}
        }
    }
}

/// Half of the growing pause for sure, the other half by dice: actors that failed together do not
/// come back together.
fn pause(failures: u32, ids: Ids) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let half = doubled.min(BACKOFF_MAX) / 2;
    half + Duration::from_millis(ids.jitter(half.as_millis().try_into().unwrap_or(u64::MAX)))
}

/// Says what happened; of a long outage the 1st, 2nd, 4th, 8th … failure.
fn report(actor: &str, end: &End, failures: u32) {
    match end {
        End::Stopped => tracing::debug!(actor, "stopped"),
        End::Panicked(text) => tracing::error!(actor, panic = text, "panicked"),
        End::Failed(error) if failures.is_power_of_two() => {
            tracing::warn!(actor, failures, error = format!("{error:#}"), "failed, will restart");
        }
        End::Failed(error) => {
            tracing::debug!(actor, failures, error = format!("{error:#}"), "failed again");
        }
    }
}

fn cause(actor: &str, end: End) -> Option<anyhow::Error> {
    match end {
        End::Stopped => None,
        End::Failed(error) => Some(error.context(format!("{actor} failed and is essential"))),
        End::Panicked(text) => Some(anyhow!("{actor} panicked too often: {text}")),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
        .to_owned()
}

#[cfg(test)]
mod tests;
