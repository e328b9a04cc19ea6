//! Was everybody told? Notifications arrive after the bookings, through the outbox, the broker and
//! the inbox; so this waits for them, up to a deadline, and counts each.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use uuid::Uuid;

use super::api::Api;
use super::client::Target;
use super::person::Person;
use super::progress::Progress;
use super::verdict::Notices;
use crate::domain::fact::FactKind;
use crate::postgres::{Db, rehearsal};

/// Inboxes read at once.
const AT_ONCE: usize = 4;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Where notifications are counted.
pub enum Source<'a> {
    /// In everybody's inbox, over the API.
    Inboxes(&'a Arc<Target>, &'a [Person]),
    /// In the database, with one statement.
    Database(&'a Db),
}

/// What must have arrived: which booking, what about, at least and at most how often.
pub type Expected = Vec<(Uuid, FactKind, u32, u32)>;

/// What is read of a notification.
#[derive(Debug, Deserialize)]
struct Notification {
    #[serde(rename = "type")]
    kind: String,
    event_id: Option<Uuid>,
    booking_id: Option<Uuid>,
}

/// Waits until all that is expected has arrived, or for `settle`, and gives what is there.
///
/// # Errors
/// When it cannot be read.
pub async fn gather(
    source: &Source<'_>,
    events: &[Uuid],
    expected: &Expected,
    settle: Duration,
    progress: &Progress,
) -> anyhow::Result<Notices> {
    let wanted: u64 = expected.iter().map(|(_, _, least, _)| u64::from(*least)).sum();
    let started = Instant::now();
    loop {
        let late = started.elapsed() >= settle;
        let notices = read(source, events).await?;
        let missing: u64 = (expected.iter())
            .map(|(id, kind, least, _)| {
                let there = notices.get(&(*id, *kind)).copied().unwrap_or_default();
                u64::from(least.saturating_sub(there))
            })
            .sum();
        progress.step("waiting for notifications", wanted.saturating_sub(missing), wanted);
        if missing == 0 || late {
            progress.done();
            // Once more after a while: what comes twice comes late.
            tokio::time::sleep(PAUSE).await;
            return if missing == 0 { read(source, events).await } else { Ok(notices) };
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read(source: &Source<'_>, events: &[Uuid]) -> anyhow::Result<Notices> {
    match source {
        Source::Database(db) => {
            let mut notices = Notices::new();
            let conn = db.get().await?;
            for (booking, kind, count) in rehearsal::notices(&conn, events).await? {
                if let Some(kind) = FactKind::parse(&kind) {
                    notices.insert((booking, kind), count);
                }
            }
            Ok(notices)
        }
        Source::Inboxes(target, people) => {
            let ours: &HashSet<Uuid> = &events.iter().copied().collect();
            let inboxes = stream::iter(*people).map(|person| async move {
                let mut told = Vec::new();
                let mut api = Api::new(Arc::clone(target));
                api.list("/me/notifications", &person.token, |notification: Notification| {
                    let of_ours = notification.event_id.is_some_and(|id| ours.contains(&id));
                    let kind = FactKind::parse(&notification.kind);
                    if let (true, Some(kind), Some(id)) = (of_ours, kind, notification.booking_id) {
                        told.push((id, kind));
                    }
                })
                .await?;
                anyhow::Ok(told)
            });
            let mut notices = Notices::new();
            let told: Vec<Vec<(Uuid, FactKind)>> =
                inboxes.buffer_unordered(AT_ONCE).try_collect().await?;
            for one in told.into_iter().flatten() {
                *notices.entry(one).or_default() += 1;
            }
            Ok(notices)
        }
    }
}
