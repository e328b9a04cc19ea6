//! CLOCKWORK. All long-lived tasks: each is one steppable function, which the supervisor loops in
//! production and tests call by hand.

pub mod booking_desk;
pub mod booking_gate;
pub mod bus_consumer;
pub mod bus_keeper;
pub mod bus_relay;
pub mod dead_collector;
pub mod event_cascade;
pub mod hold_sweeper;
pub mod housekeeper;
pub mod janitor;
pub mod lost_mail;
pub mod notification_consumer;
pub mod outbox_relay;
pub mod pace;
pub mod reconciler;
pub mod redriver;
pub mod seat_hub;
pub mod span_exporter;
pub mod stock_publisher;
pub mod supervisor;
pub mod waitlist_sweeper;
pub mod watchman;

use crate::wake::Wake;
use std::time::Duration;

/// What an actor wants after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to do: step again at once.
    Again,
    /// Nothing left: step again when woken or when the tick is over.
    Rest,
    /// Nothing to be done now: step again when woken or when so much time is over.
    Pause(Duration),
}

/// A long-lived task, one step at a time. A step is bounded in time and in work, does not wait for
/// work to arrive (it answers [`Next::Rest`] and is woken), and may be repeated after a failure.
/// What it holds between steps is rebuilt by its factory after one.
pub trait Actor: Send + 'static {
    /// Takes one step.
    ///
    /// # Errors
    /// Whatever makes the actor unfit to go on: the supervisor makes a new one after a pause.
    fn step(&mut self) -> impl Future<Output = anyhow::Result<Next>> + Send;

    /// The end of an orderly stop: gives back at once what others would else wait for.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Whether an orderly stop lets it go on until it first rests (within its phase's deadline),
    /// instead of ending after the step it is in. Everything in [`Phase::Relay`] drains.
    fn drains(&self) -> bool {
        false
    }
}

/// What happens when an actor fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Its end is the end of the process.
    Essential,
    /// It is made anew after a jittered, growing pause. Errors are outages (of a broker, a
    /// database) and may last for hours; panics are mistakes of ours, and too many in a window
    /// end the process.
    Restart,
}

/// In which phase of an orderly stop an actor ends (DESIGN §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// With the listeners: what feeds new work in.
    Intake,
    /// Consumers and sweepers: finish what they hold.
    Workers,
    /// The relay: drains what the others left in the outbox.
    Relay,
    /// The exporter of spans: what all others left to tell.
    Spans,
}

/// An actor's line on the roster.
#[derive(Clone, Debug)]
pub struct Duty {
    /// Its name in logs, metrics and `/health/ready`.
    pub name: String,
    /// What happens when it fails.
    pub policy: Policy,
    /// When it ends.
    pub phase: Phase,
    /// Its doorbell.
    pub wake: Wake,
    /// How long it rests at most.
    pub tick: Duration,
}
