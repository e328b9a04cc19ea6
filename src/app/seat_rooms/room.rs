//! One event's room: its log, and who is in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::Log;
use super::member::Member;
use crate::domain::ids::EventId;

/// One event's room.
#[derive(Debug)]
pub struct Room {
    event: EventId,
    log: Mutex<Log>,
    members: Mutex<HashMap<u64, Arc<Member>>>,
    /// Everybody may know of the event; once true, always.
    public: AtomicBool,
}

impl Room {
    pub(super) fn new(event: EventId) -> Self {
        Self {
            event,
            log: Mutex::default(),
            members: Mutex::default(),
            public: AtomicBool::new(false),
        }
    }

    /// Whose room it is.
    pub fn event(&self) -> EventId {
        self.event
    }

    /// What is known of the seats. Hold it briefly: all who watch wait.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many sockets are in it.
    pub fn watchers(&self) -> usize {
        self.members().len()
    }

    /// Rings all who are in it.
    pub fn ring(&self) {
        for member in self.members().values() {
            member.ring();
        }
    }

    /// Whether everybody may know of the event; if not, or if that is not known, ask.
    pub(super) fn is_public(&self) -> bool {
        self.public.load(Ordering::Relaxed)
    }

    pub(super) fn publish(&self) {
        self.public.store(true, Ordering::Relaxed);
    }

    /// Has all who are in it look again whether they may be.
    pub(super) fn review(&self) {
        for member in self.members().values() {
            member.review();
        }
    }

    pub(super) fn is_empty_of_seats(&self) -> bool {
        self.log().version().is_none()
    }

    pub(super) fn add(&self, member: &Arc<Member>) {
        self.members().insert(member.id(), Arc::clone(member));
    }

    pub(super) fn remove(&self, member: &Member) {
        let mut members = self.members();
        members.remove(&member.id());
        // A crowd that left shall not keep its places.
        if members.capacity() > 4 * (members.len() + 16) {
            members.shrink_to_fit();
        }
    }

    fn members(&self) -> MutexGuard<'_, HashMap<u64, Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
