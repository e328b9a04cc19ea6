//! A person's in-app inbox, the newest first.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::app::{App, Page, Result};
use crate::domain::account::Caller;
use crate::domain::alert::Alert;
use crate::domain::fact::FactKind;
use crate::domain::ids::{AlertId, EventId, UserId};
use crate::domain::interest::InterestCounts;
use crate::domain::notification::Notification;
use crate::postgres::{Conn, alert, notification};

/// What the details of an alert say.
#[derive(Deserialize)]
struct Details {
    alert_id: Uuid,
    actor_id: Uuid,
    others: u32,
    sure: u32,
    maybe: u32,
    interested: u32,
}

/// A page of the caller's notifications: all, or only those that were (not) read. Alerts name
/// nobody who has hidden since.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    app: &App,
    caller: &Caller,
    unread: Option<bool>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Page<Notification>> {
    let conn = app.db.get().await?;
    let (user, more) = (caller.user_id, limit.saturating_add(1));
    let mut items = notification::list(&conn, user, after, unread, more).await?;
    hide(&conn, &mut items).await?;
    Ok(Page::cut(items, limit, |notification| notification.id.to_string()))
}

async fn hide(conn: &Conn, items: &mut [Notification]) -> Result<()> {
    let alerts: HashMap<usize, (EventId, Alert)> =
        items.iter().enumerate().filter_map(|(at, one)| Some((at, named(one)?))).collect();
    let actors: Vec<(EventId, UserId)> =
        alerts.values().map(|(event, alert)| (*event, alert.actor)).collect();
    let known = alert::named(conn, &actors).await?;
    for (at, one) in items.iter_mut().enumerate() {
        let hidden = alerts.get(&at).filter(|(event, it)| !known.contains_key(&(*event, it.actor)));
        let Some((_, alert)) = hidden else { continue };
        one.body = one.nameless(alert);
        one.data = without_actor(&one.data);
    }
    Ok(())
}

/// The alert that a notification tells of, if it names somebody.
fn named(one: &Notification) -> Option<(EventId, Alert)> {
    if one.kind != FactKind::InterestAlert.name() {
        return None;
    }
    let Details { alert_id, actor_id, others, sure, maybe, interested } =
        serde_json::from_str(&one.data).ok()?;
    let states = InterestCounts { sure, maybe, interested };
    let alert = Alert { id: AlertId(alert_id), actor: UserId(actor_id), others, states };
    Some((one.event_id?, alert))
}

fn without_actor(data: &str) -> String {
    let mut data: Value = serde_json::from_str(data).unwrap_or_default();
    if let Some(members) = data.as_object_mut() {
        members.remove("actor_id");
    }
    data.to_string()
}
