//! Marking notifications as read.

use uuid::Uuid;

use crate::app::{App, Result};
use crate::domain::account::Caller;
use crate::domain::ids::NotificationId;
use crate::domain::refusal::Refusal;
use crate::postgres::{Conn, notification};

/// Which notifications were read.
#[derive(Clone, Debug)]
pub enum Which {
    /// These.
    Ids(Vec<Uuid>),
    /// This one and all before it.
    UpTo(NotificationId),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// How many were not read before.
    pub marked: u64,
    /// How many are left.
    pub unread: i64,
}

/// Marks the caller's notifications as read; those that are already so stay as they are.
///
/// # Errors
/// [`Refusal::NotFound`] if one of those named is not in the caller's inbox; none is marked then.
pub async fn mark_read(app: &App, tx: &Conn, caller: &Caller, which: Which) -> Result<Marked> {
    let user = caller.user_id;
    let mut named = match &which {
        Which::Ids(ids) => ids.clone(),
        Which::UpTo(last) => vec![last.0],
    };
    named.sort_unstable();
    named.dedup();
    let found = notification::count_owned(tx, user, &named).await?;
    if usize::try_from(found) != Ok(named.len()) {
        return Err(Refusal::NotFound("notification").into());
    }
    let now = app.clock.now();
    let marked = match which {
        Which::Ids(_) => notification::mark_read(tx, user, &named, now).await?,
        Which::UpTo(last) => notification::mark_read_up_to(tx, user, last, now).await?,
    };
    Ok(Marked { marked, unread: notification::count_unread(tx, user).await? })
}
