//! The rooms in which people watch events' seats, and the sockets in them. Shared by the hub, which
//! brings the changes, and the faces of the sockets, which tell them.
//!
//! Nothing here waits for a socket: the hub writes into a room's log and rings; each socket reads
//! on from where it stands.

pub mod guard;
mod holding;
pub mod log;
pub mod member;
pub mod room;
pub mod visit;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use metrics::{Counter, counter, gauge};

use self::member::{Farewell, Member};
use self::room::Room;
use crate::app::{App, Error, Result, events};
use crate::config;
use crate::domain::account::Caller;
use crate::domain::ids::{EventId, UserId};
use crate::domain::refusal::Refusal;
use crate::domain::seat_view::SeatView;
use crate::redis::feed;
pub use crate::redis::feed::{Feed, Heard, Topic};
use crate::wake::Wake;

/// The listener that a socket came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// WebSocket frames on the API's port.
    Plain,
    /// Socket.IO on a port of its own.
    SocketIo,
}

impl Face {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "websocket",
            Self::SocketIo => "socketio",
        }
    }
}

/// Whose place a socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    User(UserId),
    Address(IpAddr),
}

#[derive(Debug, Default)]
struct Registry {
    rooms: HashMap<EventId, Arc<Room>>,
    members: HashMap<u64, Arc<Member>>,
    of: HashMap<Holder, HashSet<u64>>,
    /// What the hub may have to begin or end listening to.
    stirred: HashSet<Topic>,
    /// Of whom somebody asks right now who may know of them.
    turns: HashMap<EventId, Weak<tokio::sync::Mutex<()>>>,
}

#[derive(Debug)]
struct Inner {
    registry: Mutex<Registry>,
    ids: AtomicU64,
    closing: AtomicBool,
    wake: Wake,
    limits: config::Sockets,
}

/// All rooms and all open sockets of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rooms(Arc<Inner>);

impl Rooms {
    /// No rooms yet.
    pub fn new(limits: config::Sockets) -> Self {
        Self(Arc::new(Inner {
            registry: Mutex::default(),
            ids: AtomicU64::new(1),
            closing: AtomicBool::new(false),
            wake: Wake::default(),
            limits,
        }))
    }

    /// The hub's bell.
    pub fn bell(&self) -> &Wake {
        &self.0.wake
    }

    /// Whether the process stops.
    pub fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Relaxed)
    }

    /// Says goodbye to all sockets, and lets no more in.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
        for member in self.members() {
            member.dismiss(Farewell::Stopping);
        }
    }

    /// How many sockets are open.
    pub fn open(&self) -> usize {
        self.registry().members.len()
    }

    /// Lets a socket in; it is out again when the pass is dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there are too many sockets, or the process stops;
    /// [`Refusal::TooManySockets`] when this person or, of those who are not signed in, this
    /// address has too many.
    pub fn enter(&self, face: Face, caller: Option<Caller>, address: IpAddr) -> Result<Pass> {
        let limits = &self.0.limits;
        let mut registry = self.registry();
        if self.is_closing() || registry.members.len() >= limits.max_total {
            return Err(Error::unavailable("sockets"));
        }
        let (holder, most) = match &caller {
            Some(caller) => (Holder::User(caller.user_id), limits.max_per_user),
            None => (Holder::Address(address), limits.max_per_address),
        };
        let exempt = limits.exempt_loopback && caller.is_none() && address.is_loopback();
        let held = registry.of.get(&holder).map_or(0, HashSet::len);
        if held >= most && !exempt {
            return Err(Refusal::TooManySockets.into());
        }
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let member = Arc::new(Member::new(id, caller));
        registry.members.insert(id, Arc::clone(&member));
        registry.of.entry(holder).or_default().insert(id);
        if let (Holder::User(user), 0) = (holder, held) {
            registry.stirred.insert(Topic::Inbox(user));
            self.0.wake.ring();
        }
        drop(registry);
        gauge!("sockets_open", "face" => face.name()).increment(1.0);
        Ok(Pass { rooms: self.clone(), member, holder, face })
    }

    /// The room of an event; made, and soon filled by the hub, if there is none.
    pub(super) fn join(&self, event: EventId, member: &Arc<Member>) -> Arc<Room> {
        let mut registry = self.registry();
        let room = registry.rooms.entry(event).or_insert_with(|| Arc::new(Room::new(event)));
        let room = Arc::clone(room);
        room.add(member);
        if room.is_empty_of_seats() {
            registry.stirred.insert(Topic::Deltas(event));
            self.0.wake.ring();
        }
        room
    }

    /// The turn to ask PostgreSQL who may know of an event. Of a crowd that comes at once the first
    /// asks, and the others find the room public: thousands come back after a stop, and the pool of
    /// connections is for requests.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it has not come within `patience`.
    pub(super) async fn turn(
        &self,
        event: EventId,
        patience: Duration,
    ) -> Result<tokio::sync::OwnedMutexGuard<()>> {
        let turn = self.registry().turn(event);
        let turn = tokio::time::timeout(patience, turn.lock_owned()).await;
        turn.map_err(|_| Error::unavailable("postgres"))
    }

    /// The room of an event, if anybody is in it.
    pub fn find(&self, event: EventId) -> Option<Arc<Room>> {
        self.registry().rooms.get(&event).cloned()
    }

    /// All rooms.
    pub fn all(&self) -> Vec<Arc<Room>> {
        self.registry().rooms.values().cloned().collect()
    }

    /// Gives up rooms that nobody is in; they must have been empty for a while.
    pub fn give_up(&self, events: &[EventId]) -> Vec<EventId> {
        let mut registry = self.registry();
        let mut gone = Vec::new();
        for event in events {
            if registry.rooms.get(event).is_some_and(|room| room.watchers() == 0) {
                registry.rooms.remove(event);
                gone.push(*event);
            }
        }
        gone
    }

    /// What may have to be listened to, or not any more, since this was last asked; and whether.
    pub fn stirred(&self) -> Vec<(Topic, bool)> {
        let mut registry = self.registry();
        let stirred = std::mem::take(&mut registry.stirred);
        stirred.into_iter().map(|topic| (topic, registry.wants(topic))).collect()
    }

    /// All that is to be listened to.
    pub fn topics(&self) -> Vec<Topic> {
        let registry = self.registry();
        let rooms = registry.rooms.keys().map(|event| Topic::Deltas(*event));
        let users = registry.of.keys().filter_map(|holder| match holder {
            Holder::User(user) => Some(Topic::Inbox(*user)),
            Holder::Address(_) => None,
        });
        rooms.chain(users).collect()
    }

    /// Tells a person's sockets what their inbox got.
    pub fn tell(&self, user: UserId, notification: &str) {
        let notification: Arc<str> = Arc::from(notification);
        for member in self.of(user) {
            member.tell(Arc::clone(&notification));
        }
    }

    /// A person's open sockets.
    fn of(&self, user: UserId) -> Vec<Arc<Member>> {
        let registry = self.registry();
        let ids = registry.of.get(&Holder::User(user));
        let members = ids.into_iter().flatten().filter_map(|id| registry.members.get(id));
        members.cloned().collect()
    }

    /// Who has open sockets.
    fn users(&self) -> Vec<UserId> {
        let registry = self.registry();
        let user = |holder: &Holder| match holder {
            Holder::User(user) => Some(*user),
            Holder::Address(_) => None,
        };
        registry.of.keys().filter_map(user).collect()
    }

    fn members(&self) -> Vec<Arc<Member>> {
        self.registry().members.values().cloned().collect()
    }

    /// A panic elsewhere leaves the registry as good as it was.
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn turn(&mut self, event: EventId) -> Arc<tokio::sync::Mutex<()>> {
        if let Some(turn) = self.turns.get(&event).and_then(Weak::upgrade) {
            return turn;
        }
        // Before it grows, what is over makes room.
        if self.turns.len() == self.turns.capacity() {
            self.turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::default();
        self.turns.insert(event, Arc::downgrade(&turn));
        turn
    }

    fn wants(&self, topic: Topic) -> bool {
        match topic {
            Topic::Deltas(event) => self.rooms.contains_key(&event),
            Topic::Inbox(user) => self.of.contains_key(&Holder::User(user)),
        }
    }
}

/// A socket's place; dropping it lets the next one in.
#[derive(Debug)]
pub struct Pass {
    rooms: Rooms,
    member: Arc<Member>,
    holder: Holder,
    face: Face,
}

impl Pass {
    /// The socket as the rooms know it.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        gauge!("sockets_open", "face" => self.face.name()).decrement(1.0);
        let mut registry = self.rooms.registry();
        registry.members.remove(&self.member.id());
        let Some(ids) = registry.of.get_mut(&self.holder) else { return };
        ids.remove(&self.member.id());
        if ids.is_empty() {
            registry.of.remove(&self.holder);
            if let Holder::User(user) = self.holder {
                registry.stirred.insert(Topic::Inbox(user));
                self.rooms.0.wake.ring();
            }
        }
    }
}

/// Notes frames that were sent. The counters are looked up once: a change is a thousand frames.
pub fn count_frames(face: Face, frames: u64) {
    static SENT: [OnceLock<Counter>; 2] = [OnceLock::new(), OnceLock::new()];
    let [plain, socketio] = &SENT;
    let sent = match face {
        Face::Plain => plain,
        Face::SocketIo => socketio,
    };
    sent.get_or_init(|| counter!("socket_frames_sent_total", "face" => face.name()))
        .increment(frames);
}

/// Notes that a socket was closed because it did not read.
pub fn count_slow(face: Face) {
    counter!("socket_slow_readers_dropped_total", "face" => face.name()).increment(1);
}

/// An event's seats, read afresh.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn look(app: &App, event: EventId) -> Result<SeatView> {
    let seats = events::seats::look(app, event).await?;
    Ok(SeatView {
        version: seats.version,
        total: seats.total,
        available: seats.available,
        taken: seats.taken.into_iter().collect(),
        held: seats.held.into_iter().collect(),
    })
}

/// The versions that Redis shows of events, in their order; `None` for those that it knows nothing
/// about that can be believed, which is all of them while it is away.
pub async fn versions(app: &App, events: &[EventId]) -> Vec<Option<i64>> {
    let shown = feed::versions(&app.redis, events).await;
    shown.unwrap_or_else(|_| vec![None; events.len()])
}
