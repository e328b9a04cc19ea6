//! Keeps the bus in order: has messages sent again that the broker lost after it had confirmed
//! them, drops what is kept no longer, and measures how far groups are behind.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::pace::Pace;
use super::{Actor, Next};
use crate::app::alarms::signals::Signals;
use crate::app::messages::parcels::Parcels;
use crate::app::messages::recover::{Look, Missing, Recovery};
use crate::bus::EventBus;
use crate::clock::Clock;
use crate::wake::Wake;

/// Messages looked at in one step.
const BATCH: usize = 1000;
/// How often streams are trimmed.
const TRIM: Duration = Duration::from_mins(1);

/// The keeper of the bus.
pub struct BusKeeper {
    recovery: Recovery,
    parcels: Parcels,
    bus: Arc<dyn EventBus>,
    clock: Clock,
    pace: Pace,
    relay: Wake,
    signals: Signals,
    max_length: u64,
    trimmed: Option<Instant>,
}

/// Of each type of which messages wait in a group: when the oldest one was stored, if that is
/// known.
type Waiting = HashMap<String, Option<Timestamp>>;

impl BusKeeper {
    /// Begins with what was written half a day ago. `relay` is the relay's doorbell.
    pub fn new(
        recovery: Recovery,
        parcels: Parcels,
        bus: Arc<dyn EventBus>,
        clock: Clock,
        pace: Pace,
        (relay, signals, max_length): (Wake, Signals, u64),
    ) -> Self {
        Self { recovery, parcels, bus, clock, pace, relay, signals, max_length, trimmed: None }
    }

    /// Measures the groups, and says what waits in them.
    async fn measure(&self) -> anyhow::Result<Waiting> {
        let mut waiting = Waiting::new();
        let mut ages: HashMap<&'static str, u64> = HashMap::new();
        for (stream, group) in self.parcels.readers() {
            // Before the broker looks: what waits was stored then or earlier, by our clock.
            let now = self.clock.now();
            let lag = self.bus.lag(&stream, group).await?;
            let name = stream.to_string();
            let gauge = |what: &'static str, value: u64| {
                let labels = [("stream", name.clone()), ("group", group.to_owned())];
                let value = u32::try_from(value).unwrap_or(u32::MAX);
                metrics::gauge!(what, &labels).set(f64::from(value));
            };
            gauge("bus_stream_length", lag.length);
            gauge("bus_group_lag", lag.lag);
            gauge("bus_group_pending", lag.pending);
            let age = lag.oldest_age.unwrap_or_default();
            gauge("bus_group_oldest_age_seconds", age.as_secs());
            let oldest = ages.entry(group).or_insert(0);
            *oldest = (*oldest).max(age.as_secs());
            if lag.lag > 0 || lag.pending > 0 {
                let age = lag.oldest_age.and_then(|age| SignedDuration::try_from(age).ok());
                let since = age.and_then(|age| now.checked_sub(age).ok());
                let oldest = waiting.entry(stream.kind().to_owned()).or_insert(since);
                *oldest = (*oldest).min(since);
            }
        }
        for (group, age) in ages {
            self.signals.waits(group, age, self.clock.now());
        }
        Ok(waiting)
    }

    async fn trim(&mut self) -> anyhow::Result<()> {
        if self.trimmed.is_some_and(|at| at.elapsed() < TRIM) {
            return Ok(());
        }
        let gone = self.parcels.trim(self.bus.as_ref(), self.clock.now(), self.max_length).await?;
        metrics::counter!("bus_trimmed_total").increment(gone);
        self.trimmed = Some(Instant::now());
        Ok(())
    }
}

impl Actor for BusKeeper {
    async fn step(&mut self) -> anyhow::Result<Next> {
        let portion = self.pace.portion(BATCH);
        self.pace.keep(portion).await;
        // A stream or group that is gone is declared anew, and empty. First, because while the bus
        // is away nothing is known to be lost, and who is made anew looks from far back on.
        self.parcels.declare(self.bus.as_ref()).await?;
        let Look { mut missing, more } = self.recovery.look(portion).await?;
        if more && missing.is_empty() {
            return Ok(Next::Again);
        }
        let waiting = self.measure().await?;
        missing.retain(|one| is_lost(one, &waiting));
        if !missing.is_empty() {
            let lost = self.recovery.send_again(&missing).await?;
            if lost > 0 {
                tracing::warn!(lost, "messages were lost by the bus and are sent again");
                metrics::counter!("bus_messages_lost_total").increment(lost);
                self.relay.ring();
            }
        }
        if more {
            return Ok(Next::Again);
        }
        self.trim().await?;
        Ok(Next::Rest)
    }
}

/// What was confirmed before everything that waits was stored is not among it. (Those that wait may
/// wait for the one that is missing: nobody must wait for them.)
fn is_lost(missing: &Missing, waiting: &Waiting) -> bool {
    match waiting.get(&missing.kind) {
        None => true,
        Some(oldest) => oldest.is_some_and(|oldest| missing.sent_at < oldest),
    }
}
