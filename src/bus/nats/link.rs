//! The connection to NATS. The client connects again by itself; what it was asked meanwhile is
//! bounded by a deadline each, and may still be done when it is back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_nats::connection::State;
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use super::super::BusError;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// A server that is silent for twice as long is gone.
const PING: Duration = Duration::from_secs(5);
/// Between attempts to connect again: doubling, within these.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Publications that may wait for their confirm at once.
const UNCONFIRMED_MAX: usize = 4096;

/// A connection with what belongs to it.
#[derive(Clone)]
pub struct Live {
    pub client: Client,
    pub jetstream: jetstream::Context,
    /// Counts each time that it was connected: what the server kept for us in between is gone. Held
    /// by the tasks that serve the client, and gone with them.
    connects: Weak<AtomicU64>,
}

impl Live {
    pub fn connects(&self) -> u64 {
        self.connects.upgrade().map_or(0, |connects| connects.load(Ordering::Acquire))
    }

    /// Whether it is the same client.
    pub fn is_same(&self, other: &Self) -> bool {
        Weak::ptr_eq(&self.connects, &other.connects)
    }
}

/// Where NATS is.
pub struct Link {
    servers: Vec<ServerAddr>,
    patience: Duration,
    live: Mutex<Option<Live>>,
}

impl Link {
    pub fn new(urls: &SecretString, patience: Duration) -> anyhow::Result<Self> {
        let servers = urls.expose_secret().split(',').map(|url| url.trim().parse());
        let servers = servers.collect::<Result<Vec<ServerAddr>, _>>();
        let servers = servers.map_err(|_| anyhow!("bus.nats_url (NATS_URL) is not a NATS URL"))?;
        Ok(Self { servers, patience, live: Mutex::default() })
    }

    /// The connection; made if there is none.
    pub async fn live(&self) -> Result<Live, BusError> {
        let mut live = self.live.lock().await;
        if let Some(live) = live.as_ref().filter(|live| live.connects.strong_count() > 0) {
            return Ok(live.clone());
        }
        let made = self.connect().await.map_err(BusError::Away)?;
        *live = Some(made.clone());
        Ok(made)
    }

    async fn connect(&self) -> anyhow::Result<Live> {
        let counter = Arc::new(AtomicU64::new(0));
        let connects = Arc::downgrade(&counter);
        let options = ConnectOptions::new()
            .name("happening")
            .connection_timeout(CONNECT)
            .request_timeout(Some(self.patience))
            .ping_interval(PING)
            .reconnect_delay_callback(|attempts| {
                let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(10);
                PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX)
            })
            .event_callback(move |event| {
                let again = matches!(event, Event::Connected);
                counter.fetch_add(u64::from(again), Ordering::AcqRel);
                std::future::ready(())
            });
        let connecting = options.connect(&self.servers[..]);
        let client = tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| anyhow!("no answer in time"))?
            .context("cannot connect")?;
        let jetstream = ContextBuilder::new()
            .timeout(self.patience)
            .ack_timeout(self.patience)
            .max_ack_inflight(UNCONFIRMED_MAX)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Ok(Live { client, jetstream, connects })
    }

    /// Tells a no from silence: a server that is connected has answered, unless it says that
    /// nobody is there to answer.
    pub async fn blame(&self, error: anyhow::Error) -> BusError {
        let live = self.live.lock().await;
        let connected =
            live.as_ref().is_some_and(|live| live.client.connection_state() == State::Connected);
        drop(live);
        let text = format!("{error:#}");
        let nobody = ["timed out", "no responders", "does not exist", "unavailable"];
        if connected && !nobody.iter().any(|words| text.contains(words)) {
            return BusError::Refused(error);
        }
        BusError::Away(error)
    }
}

/// It is not there.
pub fn away(why: &'static str) -> BusError {
    BusError::Away(anyhow!(why))
}
