//! The board on which people watch an event's seats change: however many watch, an event is looked
//! at once per interval, and read in full only when its version has risen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::seats::{self, Seats};
use super::sees;
use crate::app::{App, Error, Result};
use crate::domain::account::Caller;
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;
use crate::postgres::booking_views;
use crate::redis::stock;

/// How often an event that is watched is looked at.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// What was seen this long ago is not looked at again.
const FRESH: Duration = Duration::from_millis(400);
/// Most watchers in one process.
const WATCHERS_MAX: usize = 2_000;

/// An event's seats as they were seen, and how the door shows them: rendered once for all who
/// watch.
#[derive(Debug)]
pub struct Sight {
    /// The seats.
    pub seats: Seats,
    /// The door's rendering of them.
    pub rendered: OnceLock<Bytes>,
}

type Seen = tokio::sync::Mutex<Option<(Instant, Arc<Sight>)>>;

#[derive(Debug)]
struct Inner {
    events: Mutex<HashMap<EventId, Weak<Seen>>>,
    places: Arc<Semaphore>,
    closed: CancellationToken,
}

/// The board. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board(Arc<Inner>);

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(Inner {
            events: Mutex::default(),
            places: Arc::new(Semaphore::new(WATCHERS_MAX)),
            closed: CancellationToken::new(),
        }))
    }
}

impl Board {
    /// Ends all watching: the process stops.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    fn seen(&self, id: EventId) -> Arc<Seen> {
        let Ok(mut events) = self.0.events.lock() else { return Arc::default() };
        if let Some(seen) = events.get(&id).and_then(Weak::upgrade) {
            return seen;
        }
        // Nobody watches those any more; what is left is bounded by the watchers.
        events.retain(|_, seen| seen.strong_count() > 0);
        let seen = Arc::default();
        events.insert(id, Arc::downgrade(&seen));
        seen
    }
}

/// Somebody who watches an event.
pub struct Watcher {
    app: App,
    id: EventId,
    seen: Arc<Seen>,
    closed: CancellationToken,
    _place: OwnedSemaphorePermit,
}

/// Begins to watch an event.
///
/// # Errors
/// [`Refusal::NotFound`], also for a draft of somebody else's; [`Error::Unavailable`] when too
/// many watch.
pub async fn watch(app: &App, caller: Option<&Caller>, id: EventId) -> Result<Watcher> {
    let board = &app.board;
    let place = Arc::clone(&board.0.places).try_acquire_owned();
    let place = place.map_err(|_| Error::unavailable("availability stream"))?;
    let conn = app.db.get().await?;
    let now = booking_views::seats(&conn, id).await?.ok_or(Refusal::NotFound("event"))?;
    if !sees(&conn, caller, now.organization_id, now.status).await? {
        return Err(Refusal::NotFound("event").into());
    }
    Ok(Watcher {
        app: app.clone(),
        id,
        seen: board.seen(id),
        closed: board.0.closed.clone(),
        _place: place,
    })
}

impl Watcher {
    /// What the event's seats are now, as of at most an interval ago.
    ///
    /// # Errors
    /// When PostgreSQL is away, or the event is gone.
    pub async fn look(&self) -> Result<Arc<Sight>> {
        let mut seen = self.seen.lock().await;
        if let Some((at, sight)) = seen.as_mut() {
            let unchanged = at.elapsed() < FRESH
                || version(&self.app, self.id).await? == Some(sight.seats.version);
            if unchanged {
                if at.elapsed() >= FRESH {
                    *at = Instant::now();
                }
                return Ok(Arc::clone(sight));
            }
        }
        let seats = seats::look(&self.app, self.id).await?;
        let sight = Arc::new(Sight { seats, rendered: OnceLock::new() });
        *seen = Some((Instant::now(), Arc::clone(&sight)));
        Ok(sight)
    }

    /// Waits until it is time to look again; false when the watching ends.
    pub async fn rest(&self) -> bool {
        tokio::select! {
            () = self.closed.cancelled() => false,
            () = tokio::time::sleep(INTERVAL) => true,
        }
    }
}

/// The version of what is shown; while Redis cannot be believed, the inventory's.
async fn version(app: &App, id: EventId) -> Result<Option<i64>> {
    let shown = stock::versions(&app.redis.link, &[id]).await.unwrap_or_default();
    if let Some(version) = shown.first().copied().flatten() {
        return Ok(Some(version));
    }
    let conn = app.db.get().await?;
    Ok(booking_views::inventory_version(&conn, id).await?)
}
