//! Keeps the bus in order: has messages sent again that the broker lost after it had confirmed
//! them, drops what is kept no longer, and measures how far groups are behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use super::{Actor, Next};
use crate::app::messages::parcels::Parcels;
use crate::app::messages::recover::{Look, Recovery};
use crate::bus::EventBus;
use crate::clock::Clock;
use crate::wake::Wake;

/// Messages looked at in one step.
const BATCH: usize = 1000;
/// How often streams are trimmed.
const TRIM: Duration = Duration::from_mins(1);
/// How old the oldest message may be that a group has not dealt with, before somebody is told.
const BACKLOG: Duration = Duration::from_mins(1);

/// The keeper of the bus.
pub struct BusKeeper {
    recovery: Recovery,
    parcels: Parcels,
    bus: Arc<dyn EventBus>,
    clock: Clock,
    pace: Pace,
    relay: Wake,
    max_length: u64,
    trimmed: Option<Instant>,
}

impl BusKeeper {
    /// Begins with what was written half a day ago. `relay` is the relay's doorbell.
    pub fn new(
        recovery: Recovery,
        parcels: Parcels,
        bus: Arc<dyn EventBus>,
        clock: Clock,
        pace: Pace,
        (relay, max_length): (Wake, u64),
    ) -> Self {
        Self { recovery, parcels, bus, clock, pace, relay, max_length, trimmed: None }
    }

    /// Measures the groups, and says whether messages wait in one of them.
    async fn measure(&self) -> anyhow::Result<bool> {
        let mut waiting = false;
        for (stream, group) in self.parcels.readers() {
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
            if age > BACKLOG {
                tracing::warn!(
                    stream = name,
                    group,
                    age_s = age.as_secs(),
                    lag = lag.lag,
                    pending = lag.pending,
                    "a group is far behind"
                );
            }
            waiting |= lag.lag > 0 || lag.pending > 0;
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
        let Look { missing, more } = self.recovery.look(portion).await?;
        if more {
            return Ok(Next::Again);
        }
        // A stream or group that is gone is declared anew, and empty.
        self.parcels.declare(self.bus.as_ref()).await?;
        let waiting = self.measure().await?;
        // While messages wait, one that is missing is most likely among them.
        if !missing.is_empty() && !waiting {
            let lost = self.recovery.send_again(&missing).await?;
            if lost > 0 {
                tracing::warn!(lost, "messages were lost by the bus and are sent again");
                metrics::counter!("bus_messages_lost_total").increment(lost);
                self.relay.ring();
            }
        }
        self.trim().await?;
        Ok(Next::Rest)
    }
}
