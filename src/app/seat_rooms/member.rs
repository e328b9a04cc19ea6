//! An open socket as the rooms know it: who it belongs to, its bell, and what waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::account::{Caller, UserRole};
use crate::domain::ids::UserId;

/// News that wait for one socket; older ones are in the inbox.
const NEWS_MAX: usize = 16;

/// Why a socket is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The process stops: come back in a moment.
    Stopping,
    /// The account was closed, or its credentials were revoked.
    Revoked,
    /// It sends more than it may.
    Flood,
    /// It does not read what it is sent.
    Slow,
    /// It has said nothing for too long.
    Idle,
}

impl Farewell {
    /// Its stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Stopping => "shutting_down",
            Self::Revoked => "credentials_revoked",
            Self::Flood => "too_many_frames",
            Self::Slow => "too_slow",
            Self::Idle => "idle",
        }
    }
}

#[derive(Debug, Default)]
struct Mail {
    news: VecDeque<Arc<str>>,
    farewell: Option<Farewell>,
    caller: Option<Caller>,
    /// What the caller may see has to be looked at again.
    changed: bool,
}

/// What waited for a socket.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Notifications as JSON, in order.
    pub news: VecDeque<Arc<str>>,
    /// It is to go, and why.
    pub farewell: Option<Farewell>,
    /// What its owner may see has to be looked at again.
    pub changed: bool,
}

/// An open socket.
#[derive(Debug)]
pub struct Member {
    id: u64,
    user: Option<UserId>,
    bell: Notify,
    mail: Mutex<Mail>,
}

impl Member {
    pub(super) fn new(id: u64, caller: Option<Caller>) -> Self {
        let user = caller.as_ref().map(|caller| caller.user_id);
        let mail = Mutex::new(Mail { caller, ..Mail::default() });
        Self { id, user, bell: Notify::new(), mail }
    }

    /// Whose it is; `None`: whoever it is did not say.
    pub fn user(&self) -> Option<UserId> {
        self.user
    }

    /// On whose behalf it acts, as last looked at.
    pub fn caller(&self) -> Option<Caller> {
        self.mail().caller.clone()
    }

    /// Waits until there may be something to tell.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// What waits for it besides the rooms.
    pub fn take(&self) -> Waiting {
        let mut mail = self.mail();
        let changed = std::mem::take(&mut mail.changed);
        Waiting { news: std::mem::take(&mut mail.news), farewell: mail.farewell, changed }
    }

    /// Sends it away; the first reason counts.
    pub fn dismiss(&self, why: Farewell) {
        self.mail().farewell.get_or_insert(why);
        self.ring();
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    pub(super) fn tell(&self, news: Arc<str>) {
        let mut mail = self.mail();
        if mail.news.len() >= NEWS_MAX {
            mail.news.pop_front();
        }
        mail.news.push_back(news);
        drop(mail);
        self.ring();
    }

    /// Notes the role that its owner has now.
    pub(super) fn promote(&self, role: UserRole) {
        if let Some(caller) = self.mail().caller.as_mut() {
            caller.role = role;
        }
    }

    /// Has it look again at what its owner may see.
    pub(super) fn review(&self) {
        self.mail().changed = true;
        self.ring();
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
