//! The hub: hears what other processes did, brings it into the rooms, and rings. One per process.
//!
//! It waits for nobody: seats are read beside it, sockets read the rooms' logs by themselves. What
//! Redis lost on the way is found by version; while Redis is away, PostgreSQL is looked at instead.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use metrics::{counter, gauge};
use tokio::time::{Instant, sleep_until};

use super::{Actor, Next};
use crate::app::seat_rooms::{self, Feed, Heard, Topic};
use crate::app::{App, Error, Result};
use crate::domain::ids::EventId;
use crate::domain::seat_view::{Delta, Fit, SeatView};
use crate::wake::Lost;

/// A step ends after this long even if nothing happened, so that a stop is noticed.
const PATIENCE: Duration = Duration::from_millis(100);
/// Most messages in one step.
const MESSAGES_MAX: usize = 1024;
/// Rooms whose seats are read at once.
const LOADS_MAX: usize = 8;
/// Deltas kept while a room's seats are read; with more, they are read again.
const EARLY_MAX: usize = 4096;
/// How long a room waits after its seats could not be read.
const LOAD_PAUSE: Duration = Duration::from_millis(300);
/// How long a room's seats are good for at least, when nobody tells us what happens to them.
const UNTOLD: Duration = Duration::from_secs(1);
/// How long after a lost connection the next one is tried.
const RECONNECT: Duration = Duration::from_millis(200);
/// Each watcher lengthens the pause between two publications by this much, so that a burst of
/// deltas costs a room at most this many frames a second; the first delta goes out at once.
const PACE: Duration = Duration::from_micros(15);
/// The longest such pause.
const PACE_MAX: Duration = Duration::from_millis(200);

/// What the hub knows of a room besides what is in its log.
#[derive(Debug)]
struct Watch {
    /// Its seats have to be read (again).
    stale: bool,
    /// They are being read.
    loading: bool,
    /// Not before.
    load_at: Instant,
    /// When they were last read.
    loaded_at: Option<Instant>,
    /// Deltas that came meanwhile.
    early: Vec<Delta>,
    /// What Redis showed at the last look, if the room was behind.
    ahead: Option<i64>,
    /// When it may publish again.
    publish_at: Instant,
    /// Nobody was in it at the last look.
    deserted: bool,
}

impl Watch {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            stale: true,
            loading: false,
            load_at: now,
            loaded_at: None,
            early: Vec::new(),
            ahead: None,
            publish_at: now,
            deserted: false,
        }
    }
}

type Load = BoxFuture<'static, (EventId, Result<SeatView>)>;

/// The hub.
pub struct SeatHub {
    app: App,
    feed: Option<Feed>,
    connect_at: Instant,
    watches: HashMap<EventId, Watch>,
    loads: FuturesUnordered<Load>,
    /// Rooms with something to publish.
    restless: HashSet<EventId>,
    look_at: Instant,
}

impl SeatHub {
    /// A hub for the rooms of this process; connects at its first step. All rooms that there are
    /// already are read again.
    pub fn new(app: App) -> Self {
        let now = Instant::now();
        Self {
            app,
            feed: None,
            connect_at: now,
            watches: HashMap::new(),
            loads: FuturesUnordered::new(),
            restless: HashSet::new(),
            look_at: now,
        }
    }

    /// Connects if it is time, and listens to all that is wanted.
    async fn connect(&mut self) {
        if self.feed.is_some() || Instant::now() < self.connect_at {
            return;
        }
        match self.open().await {
            Ok(feed) => {
                tracing::debug!("listening");
                self.feed = Some(feed);
                // Nobody knows what was said while nobody listened.
                for watch in self.watches.values_mut() {
                    watch.stale = true;
                }
            }
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "cannot listen");
                self.connect_at = Instant::now() + RECONNECT;
            }
        }
    }

    async fn open(&mut self) -> anyhow::Result<Feed> {
        let mut feed = Feed::open(&self.app.redis).await?;
        let topics = self.app.rooms.topics();
        feed.subscribe(&topics).await?;
        for topic in topics {
            if let Topic::Deltas(event) = topic {
                self.watches.entry(event).or_insert_with(Watch::new);
            }
        }
        Ok(feed)
    }

    fn lose(&mut self, error: impl Into<anyhow::Error>) {
        let error: anyhow::Error = error.into();
        tracing::warn!(error = format!("{error:#}"), "the subscription was lost");
        counter!("seat_hub_reconnects_total").increment(1);
        self.feed = None;
        self.connect_at = Instant::now();
    }

    /// Begins and ends to listen as people come and go.
    async fn follow(&mut self) {
        let (mut more, mut less) = (Vec::new(), Vec::new());
        for (topic, wanted) in self.app.rooms.stirred() {
            if wanted {
                more.push(topic);
            } else {
                less.push(topic);
            }
            let Topic::Deltas(event) = topic else { continue };
            if wanted {
                // Read only after the subscription, so that nothing falls between the two.
                self.watches.entry(event).or_insert_with(Watch::new);
            }
        }
        let Some(feed) = self.feed.as_mut() else { return };
        let done = match feed.subscribe(&more).await {
            Ok(()) => feed.unsubscribe(&less).await,
            lost => lost,
        };
        if let Err(error) = done {
            self.lose(error);
        }
    }

    /// Waits until something happens.
    async fn wait(&mut self) {
        let until = self.due();
        let heard = tokio::select! {
            heard = hear(self.feed.as_mut()) => heard,
            Some((event, seats)) = self.loads.next() => return self.loaded(event, seats),
            () = self.app.rooms.bell().rung() => return,
            () = sleep_until(until) => return,
        };
        match heard {
            Ok(heard) => self.take(heard),
            Err(error) => self.lose(error),
        }
    }

    /// Takes what else was heard.
    fn drain(&mut self) {
        for _ in 0..MESSAGES_MAX {
            let Some(feed) = self.feed.as_mut() else { return };
            match feed.try_next() {
                Ok(Some(heard)) => self.take(heard),
                Ok(None) => return,
                Err(error) => return self.lose(error),
            }
        }
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::News(user, notification) => self.app.rooms.tell(user, &notification),
            Heard::Delta(event, delta) => {
                let Some(watch) = self.watches.get_mut(&event) else { return };
                if !watch.loading && !watch.stale {
                    apply(&self.app, event, watch, &mut self.restless, &delta);
                } else if watch.loading && watch.early.len() < EARLY_MAX {
                    watch.early.push(delta);
                } else {
                    watch.stale = true;
                }
            }
        }
    }

    /// Seats were read, or not.
    fn loaded(&mut self, event: EventId, seats: Result<SeatView>) {
        let Some(watch) = self.watches.get_mut(&event) else { return };
        watch.loading = false;
        let early = std::mem::take(&mut watch.early);
        let Some(room) = self.app.rooms.find(event) else { return };
        match seats {
            Ok(seats) => {
                // Stale again, if more came than could be kept.
                let overflown = watch.stale;
                watch.stale = false;
                watch.ahead = None;
                watch.loaded_at = Some(Instant::now());
                room.log().reload(seats);
                self.restless.insert(event);
                for delta in early {
                    apply(&self.app, event, watch, &mut self.restless, &delta);
                }
                watch.stale |= overflown;
            }
            Err(error) => {
                watch.stale = true;
                let error = anyhow::Error::from(error);
                tracing::debug!(%event, error = format!("{error:#}"), "seats cannot be read");
            }
        }
        if watch.stale {
            watch.load_at = Instant::now() + LOAD_PAUSE;
        }
    }

    /// Begins to read what has to be read.
    fn load(&mut self) {
        let now = Instant::now();
        for (event, watch) in &mut self.watches {
            if self.loads.len() >= LOADS_MAX {
                return;
            }
            if watch.stale && !watch.loading && watch.load_at <= now {
                (watch.stale, watch.loading) = (false, true);
                self.loads.push(Box::pin(read(self.app.clone(), *event)));
            }
        }
    }

    /// Makes known what is due.
    fn publish(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        for event in &self.restless {
            if self.watches.get(event).is_none_or(|watch| watch.publish_at <= now) {
                due.push(*event);
            }
        }
        for event in due {
            self.restless.remove(&event);
            let (Some(watch), Some(room)) =
                (self.watches.get_mut(&event), self.app.rooms.find(event))
            else {
                continue;
            };
            let mut log = room.log();
            if log.publish() > 1 {
                counter!("socket_coalescings_total", "into" => "delta").increment(1);
            }
            log.mark_told();
            drop(log);
            room.ring();
            let watchers = u32::try_from(room.watchers()).unwrap_or(u32::MAX);
            watch.publish_at = Instant::now() + PACE.saturating_mul(watchers).min(PACE_MAX);
        }
    }

    /// Compares the rooms with Redis, and gives up those that nobody is in.
    async fn look(&mut self) {
        let now = Instant::now();
        if now < self.look_at {
            return;
        }
        self.look_at = now + Duration::from_millis(self.app.config.sockets.look_ms);
        self.desert();
        gauge!("seat_rooms").set(f64::from(u32::try_from(self.watches.len()).unwrap_or(u32::MAX)));
        if let Some(feed) = self.feed.as_mut()
            && let Err(error) = feed.ping().await
        {
            self.lose(error);
        }
        let events: Vec<EventId> = self.watches.keys().copied().collect();
        let shown = seat_rooms::versions(&self.app, &events).await;
        for (event, shown) in events.into_iter().zip(shown) {
            let Some(watch) = self.watches.get_mut(&event) else { continue };
            let Some(room) = self.app.rooms.find(event) else { continue };
            let known = room.log().version();
            if room.log().has_news() {
                self.restless.insert(event);
            }
            let (Some(shown), Some(known)) = (shown, known) else {
                // Nobody tells us what happens: look for ourselves.
                watch.stale |= watch.loaded_at.is_none_or(|at| at.elapsed() >= UNTOLD);
                continue;
            };
            // A delta that is on its way has until the next look.
            if known == shown {
                watch.ahead = None;
            } else if watch.ahead.is_some_and(|ahead| known < ahead) || known > shown {
                counter!("seat_hub_healed_total").increment(1);
                (watch.stale, watch.ahead) = (true, None);
            } else {
                watch.ahead = Some(shown);
            }
        }
    }

    fn desert(&mut self) {
        let mut empty = Vec::new();
        for room in self.app.rooms.all() {
            let Some(watch) = self.watches.get_mut(&room.event()) else { continue };
            let nobody = room.watchers() == 0;
            if nobody && watch.deserted {
                empty.push(room.event());
            }
            watch.deserted = nobody;
        }
        for event in self.app.rooms.give_up(&empty) {
            self.watches.remove(&event);
            self.restless.remove(&event);
        }
    }

    /// When there is something to do by the clock.
    fn due(&self) -> Instant {
        let publish = self.restless.iter().filter_map(|event| self.watches.get(event));
        let publish = publish.map(|watch| watch.publish_at).min();
        let latest = Instant::now() + PATIENCE;
        latest.min(self.look_at).min(publish.unwrap_or(latest))
    }
}

/// Reads seats. It goes on by itself: what it has in hand, such as the turn to connect to Redis,
/// must not wait until the hub, which may wait for that, looks at it again.
async fn read(app: App, event: EventId) -> (EventId, Result<SeatView>) {
    let handles = app.clone();
    let reading = app.background.run(async move { seat_rooms::look(&handles, event).await });
    let lost = |lost: Lost| Err(Error::Fault(lost.into()));
    (event, reading.await.unwrap_or_else(lost))
}

async fn hear(feed: Option<&mut Feed>) -> anyhow::Result<Heard> {
    match feed {
        Some(feed) => Ok(feed.next().await?),
        None => std::future::pending().await,
    }
}

fn apply(
    app: &App,
    event: EventId,
    watch: &mut Watch,
    restless: &mut HashSet<EventId>,
    delta: &Delta,
) {
    let Some(room) = app.rooms.find(event) else { return };
    match room.log().apply(delta) {
        Some(Fit::Next) => {
            restless.insert(event);
        }
        Some(Fit::Known) => {}
        Some(Fit::Gap) | None => watch.stale = true,
    }
}

impl Actor for SeatHub {
    async fn step(&mut self) -> anyhow::Result<Next> {
        self.connect().await;
        self.follow().await;
        self.load();
        self.wait().await;
        self.drain();
        self.publish();
        self.look().await;
        // It waits by itself, for as long as a step may.
        Ok(Next::Again)
    }
}
