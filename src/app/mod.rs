//! VERBS. Load, decide, save: one verb a file, a folder a subject.
//!
//! Nothing here knows of HTTP or of a broker. A verb takes the handles it needs from [`App`], asks
//! `domain` for the decision, and lets `postgres` write it with its facts in one transaction.

pub mod accounts;
pub mod alarms;
pub mod audit;
pub mod bookings;
pub mod demo;
pub mod error;
pub mod events;
pub mod forget;
pub mod holds;
pub mod integrity;
pub mod interests;
pub mod messages;
pub mod notifications;
pub mod once;
pub mod organizations;
pub mod seat_rooms;
pub mod vitals;

use std::sync::Arc;

pub use self::error::{Error, Result};
use crate::app::accounts::{AccessTokens, Passwords, Revocations};
use crate::app::alarms::signals::Signals;
use crate::app::bookings::desk::Desk;
use crate::app::events::board::Board;
use crate::app::holds::Houses;
use crate::app::messages::parcels::Parcels;
use crate::app::messages::registry::Registry;
use crate::app::seat_rooms::Rooms;
use crate::bus::EventBus;
use crate::clock::{Clock, Ids};
use crate::config::Config;
use crate::postgres::Db;
use crate::redis::Redis;
use crate::telemetry::spans::Spans;
use crate::wake::{Background, Pulse, Wakes};

/// The handles that a verb may touch. Cheap to clone; made once, in `server.rs`.
#[derive(Clone)]
pub struct App {
    /// The truth.
    pub db: Db,
    /// What is fast and may be lost.
    pub redis: Redis,
    /// The one place where inventory changes.
    pub desk: Desk,
    /// Where people watch seats change.
    pub board: Board,
    /// What is known of events whose seats are held.
    pub houses: Houses,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub ids: Ids,
    /// Doorbells of the actors.
    pub wakes: Wakes,
    /// The actors' vital signs.
    pub pulse: Pulse,
    /// What the process notices of itself.
    pub signals: Signals,
    /// For work that must finish even when the client hangs up.
    pub background: Background,
    /// Hashes passwords on a bounded pool.
    pub passwords: Passwords,
    /// Signs and checks access tokens.
    pub tokens: AccessTokens,
    /// Accounts whose access tokens are void before they expire.
    pub revocations: Revocations,
    /// The bus; the ledger is elsewhere.
    pub bus: Arc<dyn EventBus>,
    /// Its streams, and who reads them.
    pub parcels: Parcels,
    /// What may travel on it.
    pub registry: Registry,
    /// Where people watch them through sockets.
    pub rooms: Rooms,
    /// Where it is told what became of requests.
    pub spans: Spans,
    /// The settings.
    pub config: Arc<Config>,
}

/// Where a request came from; travels with every message it causes.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The request id; the correlation id of everything that follows.
    pub correlation_id: String,
    /// W3C trace context, if the caller or we started one.
    pub traceparent: Option<String>,
}

/// A page of a list and where the next one starts.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// At most as many as were asked for.
    pub items: Vec<T>,
    /// The key of the last item if there is more.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The first `limit` of `items`, which were asked for with one more to see whether there is
    /// one; `key` names an item for the next page to start after.
    pub fn cut(mut items: Vec<T>, limit: i64, key: impl FnOnce(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }
}
