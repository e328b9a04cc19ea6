//! The first half of a desk lane: takes whatever waits, asks the gate about all of it in one round
//! trip, and passes on who was let through. It runs ahead of the commit, so the next batch is
//! ready when the desk is.

use tokio::sync::mpsc;

use super::{Actor, Next};
use crate::app::bookings::desk::Intake;
use crate::app::bookings::gate::{self, Admitted, Lives};
use crate::clock::Ids;
use crate::redis::Redis;
use crate::wake::Wake;

/// Lets commands of one lane through to its desk.
pub struct BookingGate {
    /// Where commands come in.
    pub intake: Intake,
    /// Where they go on.
    pub desk: mpsc::Sender<Admitted>,
    /// The desk's bell.
    pub desk_wake: Wake,
    /// The gate's keeper.
    pub redis: Redis,
    /// Names leases.
    pub ids: Ids,
    /// Most commands in one round trip.
    pub batch_max: usize,
    /// How long leases live.
    pub lives: Lives,
}

impl Actor for BookingGate {
    async fn step(&mut self) -> anyhow::Result<Next> {
        // Room first: what is taken must be passed on. While the desk is behind, commands wait in
        // the intake, where the bound on waiting is.
        let room = self.desk.reserve().await?;
        let jobs = self.intake.take(self.batch_max).await;
        if jobs.is_empty() {
            return Ok(Next::Rest);
        }
        let admitted = gate::admit(&self.redis, self.ids, self.lives, jobs).await;
        room.send(admitted);
        self.desk_wake.ring();
        Ok(Next::Again)
    }

    fn drains(&self) -> bool {
        true
    }
}
