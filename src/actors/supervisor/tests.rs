//! The supervisor's promises, in paused time.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::wake::{ActorState, Wake};

type Step = Box<dyn FnMut() -> anyhow::Result<Next> + Send>;

struct Scripted(Step, bool);

impl Actor for Scripted {
    async fn step(&mut self) -> anyhow::Result<Next> {
        (self.0)()
    }

    fn drains(&self) -> bool {
        self.1
    }
}

struct Stuck;
impl Actor for Stuck {
    async fn step(&mut self) -> anyhow::Result<Next> {
        std::future::pending().await
    }
}

fn duty(name: &str, policy: Policy, phase: Phase) -> Duty {
    let tick = Duration::from_hours(1);
    Duty { name: name.into(), policy, phase, wake: Wake::default(), tick }
}

fn supervisor() -> (Supervisor, Pulse) {
    let pulse = Pulse::default();
    (Supervisor::new(Clock::default(), Ids, pulse.clone()), pulse)
}

fn perfect() -> bool {
    false
}

fn counted() -> (Arc<AtomicU32>, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    (Arc::clone(&count), count)
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_minutes_ends_nothing() {
    let (supervisor, pulse) = supervisor();
    let (made, counter) = counted();
    supervisor.spawn(duty("relay", Policy::Restart, Phase::Relay), move || {
        let made = made.fetch_add(1, Ordering::SeqCst);
        async move {
            // The other side is away for the first 300 attempts: about eight minutes.
            anyhow::ensure!(made >= 300, "connection refused");
            Ok(Scripted(Box::new(|| Ok(Next::Rest)), false))
        }
    });
    let failed = timeout(Duration::from_mins(15), supervisor.failed()).await;
    assert!(failed.is_err(), "an outage ended the process");
    assert_eq!(counter.load(Ordering::SeqCst), 301);
    let vitals = &pulse.all()[0];
    assert_eq!((vitals.state(), vitals.restarts()), (ActorState::Running, 300));
}

#[tokio::test(start_paused = true)]
async fn panics_escalate_when_they_keep_coming() {
    let (supervisor, _) = supervisor();
    let (made, counter) = counted();
    supervisor.spawn(duty("sweeper", Policy::Restart, Phase::Workers), move || {
        made.fetch_add(1, Ordering::SeqCst);
        async { Ok(Scripted(Box::new(|| panic!("a mistake of ours")), false)) }
    });
    timeout(Duration::from_mins(1), supervisor.failed()).await.unwrap();
    assert_eq!(counter.load(Ordering::SeqCst), u32::try_from(PANICS_MAX).unwrap());
    let reason = format!("{:#}", supervisor.failure().unwrap());
    assert!(reason.contains("sweeper") && reason.contains("a mistake of ours"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_rare_panic_is_survived() {
    let (supervisor, _) = supervisor();
    let mut steps = 0;
    supervisor.spawn(
        Duty { tick: Duration::from_secs(1), ..duty("hourly", Policy::Restart, Phase::Workers) },
        move || {
            steps += 1;
            let fatal = steps;
            async move {
                let mut left = 20;
                Ok(Scripted(
                    Box::new(move || {
                        left -= 1;
                        assert!(left > 0, "life {fatal} ends");
                        Ok(Next::Rest)
                    }),
                    false,
                ))
            }
        },
    );
    assert!(timeout(Duration::from_mins(10), supervisor.failed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_essential_actor_is_the_end() {
    let (supervisor, _) = supervisor();
    supervisor.spawn(duty("desk", Policy::Essential, Phase::Workers), || async {
        Ok(Scripted(Box::new(|| anyhow::bail!("gone")), false))
    });
    timeout(Duration::from_secs(1), supervisor.failed()).await.unwrap();
    assert!(format!("{:#}", supervisor.failure().unwrap()).contains("gone"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_those_drain_who_must_and_keeps_its_deadline() {
    let (supervisor, pulse) = supervisor();
    let (steps, relayed) = counted();
    supervisor.spawn(duty("relay", Policy::Restart, Phase::Relay), move || {
        let steps = Arc::clone(&steps);
        async move {
            Ok(Scripted(
                Box::new(move || {
                    let done = steps.fetch_add(1, Ordering::SeqCst);
                    Ok(if done < 1000 { Next::Again } else { Next::Rest })
                }),
                false,
            ))
        }
    });
    supervisor.spawn(duty("stuck", Policy::Restart, Phase::Workers), || async { Ok(Stuck) });
    supervisor.spawn(duty("busy", Policy::Restart, Phase::Workers), || async {
        Ok(Scripted(Box::new(|| Ok(Next::Again)), false))
    });
    let config = config::Stop { drain_ms: 1000, workers_ms: 1000, relay_ms: 1000, spans_ms: 1000 };
    let begun = Instant::now();
    supervisor.stop(&config).await;
    assert!(begun.elapsed() <= Duration::from_millis(1600), "{:?}", begun.elapsed());
    assert_eq!(relayed.load(Ordering::SeqCst), 1001);
    assert!(pulse.all().iter().all(|vitals| vitals.state() == ActorState::Stopped));
    assert!(supervisor.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn work_in_the_background_outlives_its_caller() {
    let (supervisor, _) = supervisor();
    let background = supervisor.background();
    let (done, finished) = counted();
    let work = background.run(async move {
        sleep(Duration::from_millis(300)).await;
        done.fetch_add(1, Ordering::SeqCst)
    });
    assert!(timeout(Duration::from_millis(10), work).await.is_err(), "the caller hangs up");
    assert_eq!(background.run(async { 7 }).await, Ok(7));
    assert_eq!(
        background
            .run(async {
                assert!(perfect(), "no");
            })
            .await,
        Err(crate::wake::Lost::Broken)
    );
    supervisor.finish_jobs(Duration::from_secs(1)).await;
    assert_eq!(finished.load(Ordering::SeqCst), 1);
}
