//! Alerts: who is to be told of an event, and what everybody was told.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::interest::state;
use super::{Conn, DbError, Statements as _};
use crate::domain::alert::{Alert, ListedAlert};
use crate::domain::ids::{AlertId, EventId, OrganizationId, UserId};
use crate::domain::interest::{InterestCounts, InterestState};

const ABOUT: &str = "SELECT m.id, e.organization_id
    FROM unnest($1::uuid[]) AS m (id)
    CROSS JOIN LATERAL (SELECT organization_id FROM events WHERE id = m.id LIMIT 1) e";
const STAFF: &str = "SELECT m.event_id, r.user_id
    FROM unnest($1::uuid[], $2::uuid[]) AS m (event_id, organization_id)
    CROSS JOIN LATERAL (SELECT user_id FROM organization_members
        WHERE organization_id = m.organization_id AND role IN ('owner', 'organizer')
        ORDER BY user_id LIMIT $3) r";
/// Of the next $5 of those who follow the organisation the ones who are interested in the event
/// and do not run it; and how, if they are among those whom the alert tells of. A window over
/// followers, not over those who are interested: so much is read and no more, however few of them
/// there are.
const FOLLOWERS: &str = "SELECT m.alert_id, f.user_id,
        CASE WHEN i.alert_id = m.alert_id THEN i.counted_state END AS state
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])
         AS m (event_id, organization_id, alert_id, after)
    CROSS JOIN LATERAL (SELECT user_id FROM organization_follows
        WHERE organization_id = m.organization_id AND following AND user_id > m.after
        ORDER BY user_id LIMIT $5) f
    CROSS JOIN LATERAL (SELECT alert_id, counted_state FROM event_interests
        WHERE event_id = m.event_id AND user_id = f.user_id AND state IS NOT NULL LIMIT 1) i
    WHERE (SELECT true FROM organization_members s
        WHERE s.organization_id = m.organization_id AND s.user_id = f.user_id
          AND s.role IN ('owner', 'organizer')) IS NULL";
/// The last follower of such a window, if it is full.
const ENDS: &str = "SELECT m.alert_id, f.user_id
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS m (alert_id, organization_id, after)
    CROSS JOIN LATERAL (SELECT user_id FROM organization_follows
        WHERE organization_id = m.organization_id AND following AND user_id > m.after
        ORDER BY user_id OFFSET $4::bigint - 1 LIMIT 1) f";
const INSERT: &str = "INSERT INTO user_alerts (id, user_id, kind, event_id, actor_id, others, sure,
        maybe, interested, created_at)
    SELECT m.id, m.user_id, 'interest', m.event_id, m.actor_id, m.others, m.sure, m.maybe,
        m.interested, $9
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::int[], $7::int[],
                $8::int[])
         AS m (id, user_id, event_id, actor_id, others, sure, maybe, interested)";
/// The person is named while everybody may know of their interest.
const LIST: &str = "SELECT a.id, a.kind, a.event_id, e.title, a.actor_id, actor.name, a.others,
        a.sure, a.maybe, a.interested, a.created_at
    FROM (SELECT * FROM user_alerts WHERE user_id = $1 AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3) a
    CROSS JOIN LATERAL (SELECT title FROM events WHERE id = a.event_id LIMIT 1) e
    LEFT JOIN LATERAL (SELECT u.name FROM event_interests i JOIN users u ON u.id = i.user_id
        WHERE i.event_id = a.event_id AND i.user_id = a.actor_id AND i.state IS NOT NULL
          AND i.privacy = 'public' LIMIT 1) actor ON true
    ORDER BY a.id DESC";
/// Those of whose interest everybody may know.
const NAMED: &str = "SELECT i.event_id, i.user_id, u.name
    FROM unnest($1::uuid[], $2::uuid[]) AS k (event_id, user_id)
    JOIN event_interests i ON i.event_id = k.event_id AND i.user_id = k.user_id
    JOIN users u ON u.id = i.user_id
    WHERE i.state IS NOT NULL AND i.privacy = 'public' AND u.deactivated_at IS NULL";
const OWNED: &str = "SELECT 1 FROM user_alerts WHERE user_id = $1 AND id = $2";
/// It never goes back.
const SEE: &str = "INSERT INTO alert_pointers AS p (user_id, last_seen, seen_at)
    VALUES ($1, $2, $3)
    ON CONFLICT (user_id) DO UPDATE SET last_seen = excluded.last_seen, seen_at = excluded.seen_at
    WHERE p.last_seen < excluded.last_seen";
const POINTER: &str = "SELECT p.last_seen,
        (SELECT count(*) FROM (SELECT 1 FROM user_alerts a
            WHERE a.user_id = $1 AND (p.last_seen IS NULL OR a.id > p.last_seen) LIMIT $2) u)
            AS unseen
    FROM (SELECT (SELECT last_seen FROM alert_pointers WHERE user_id = $1) AS last_seen) p";

const PRUNE: &str = "DELETE FROM user_alerts WHERE id = ANY (ARRAY(
    SELECT id FROM user_alerts WHERE created_at < $1 LIMIT $2))";

/// Most unseen alerts that are counted.
const UNSEEN_MAX: i64 = 1000;

/// An alert to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewAlert {
    /// Who is told.
    pub user_id: UserId,
    /// Of which event.
    pub event_id: EventId,
    /// What.
    pub alert: Alert,
}

/// How far somebody has seen their alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Up to this one; `None`: none of them.
    pub last_seen: Option<AlertId>,
    /// How many came after it, up to a thousand.
    pub unseen: i64,
}

/// Whose events these are.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn organizers(
    conn: &Conn,
    events: &[Uuid],
) -> Result<HashMap<EventId, OrganizationId>, DbError> {
    let rows = conn.rows(ABOUT, &[&events]).await?;
    rows.iter()
        .map(|row| {
            Ok((EventId(row.try_get("id")?), OrganizationId(row.try_get("organization_id")?)))
        })
        .collect()
}

/// News of an event that followers of its organisation are to be told.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Of which event.
    pub event_id: EventId,
    /// Whose followers.
    pub organization_id: OrganizationId,
    /// What all alerts about it have in common.
    pub alert_id: AlertId,
    /// The follower who was told last; nil: none yet.
    pub after: UserId,
}

/// Who runs these events, up to `limit` people each.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn staff(
    conn: &Conn,
    events: &[(EventId, OrganizationId)],
    limit: i64,
) -> Result<Vec<(EventId, UserId)>, DbError> {
    let (events, organizations): (Vec<Uuid>, Vec<Uuid>) =
        events.iter().map(|(event, organization)| (event.0, organization.0)).unzip();
    let rows = conn.rows(STAFF, &[&events, &organizations, &limit]).await?;
    rows.iter()
        .map(|row| Ok((EventId(row.try_get("event_id")?), UserId(row.try_get("user_id")?))))
        .collect()
}

/// Those of the next `window` followers who are interested themselves, each with their interest if
/// it is among the news.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn followers(
    conn: &Conn,
    parts: &[Part],
    window: i64,
) -> Result<Vec<(AlertId, UserId, Option<InterestState>)>, DbError> {
    let column = |of: fn(&Part) -> Uuid| parts.iter().map(of).collect::<Vec<Uuid>>();
    let (events, organizations) = (column(|p| p.event_id.0), column(|p| p.organization_id.0));
    let (alerts, after) = (column(|p| p.alert_id.0), column(|p| p.after.0));
    let rows = conn.rows(FOLLOWERS, &[&events, &organizations, &alerts, &after, &window]).await?;
    rows.iter()
        .map(|row| {
            let (alert, user) = pair(row)?;
            Ok((alert, user, state(row.try_get("state")?)?))
        })
        .collect()
}

/// The last follower of each such window that is full: behind it there may be more.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn ends(
    conn: &Conn,
    parts: &[Part],
    window: i64,
) -> Result<Vec<(AlertId, UserId)>, DbError> {
    let column = |of: fn(&Part) -> Uuid| parts.iter().map(of).collect::<Vec<Uuid>>();
    let (alerts, organizations) = (column(|p| p.alert_id.0), column(|p| p.organization_id.0));
    let after = column(|p| p.after.0);
    let rows = conn.rows(ENDS, &[&alerts, &organizations, &after, &window]).await?;
    rows.iter().map(pair).collect()
}

fn pair(row: &tokio_postgres::Row) -> Result<(AlertId, UserId), DbError> {
    Ok((AlertId(row.try_get("alert_id")?), UserId(row.try_get("user_id")?)))
}

/// Writes alerts.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn insert(tx: &Conn, alerts: &[NewAlert], now: Timestamp) -> Result<(), DbError> {
    let column = |of: fn(&NewAlert) -> Uuid| alerts.iter().map(of).collect::<Vec<Uuid>>();
    let number = |of: fn(&NewAlert) -> u32| {
        let int = |alert| i32::try_from(of(alert)).unwrap_or(i32::MAX);
        alerts.iter().map(int).collect::<Vec<i32>>()
    };
    tx.run(
        INSERT,
        &[
            &column(|one| one.alert.id.0),
            &column(|one| one.user_id.0),
            &column(|one| one.event_id.0),
            &column(|one| one.alert.actor.0),
            &number(|one| one.alert.others),
            &number(|one| one.alert.states.sure),
            &number(|one| one.alert.states.maybe),
            &number(|one| one.alert.states.interested),
            &now,
        ],
    )
    .await
    .map(drop)
}

/// Somebody's alerts, the newest first, after (that is, older than) the one named.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn list(
    conn: &Conn,
    user: UserId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ListedAlert>, DbError> {
    let rows = conn.rows(LIST, &[&user.0, &after, &limit]).await?;
    rows.iter().map(from_row).collect()
}

/// What those are called of whose interest everybody may know at this moment, among these.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn named(
    conn: &Conn,
    actors: &[(EventId, UserId)],
) -> Result<HashMap<(EventId, UserId), String>, DbError> {
    if actors.is_empty() {
        return Ok(HashMap::new());
    }
    let (events, users): (Vec<Uuid>, Vec<Uuid>) =
        actors.iter().map(|(event, user)| (event.0, user.0)).unzip();
    let pair = |row: &tokio_postgres::Row| {
        let pair = (EventId(row.try_get("event_id")?), UserId(row.try_get("user_id")?));
        Ok((pair, row.try_get("name")?))
    };
    conn.rows(NAMED, &[&events, &users]).await?.iter().map(pair).collect()
}

/// Whether an alert is somebody's.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn is_owned(conn: &Conn, user: UserId, id: AlertId) -> Result<bool, DbError> {
    Ok(conn.row(OWNED, &[&user.0, &id.0]).await?.is_some())
}

/// Notes that somebody has seen their alerts up to this one.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn see(tx: &Conn, user: UserId, up_to: AlertId, now: Timestamp) -> Result<(), DbError> {
    tx.run(SEE, &[&user.0, &up_to.0, &now]).await.map(drop)
}

/// How far somebody has seen their alerts.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn pointer(conn: &Conn, user: UserId) -> Result<Pointer, DbError> {
    let Some(row) = conn.row(POINTER, &[&user.0, &UNSEEN_MAX]).await? else {
        return Ok(Pointer { last_seen: None, unseen: 0 });
    };
    let last_seen = row.try_get::<_, Option<Uuid>>("last_seen")?.map(AlertId);
    Ok(Pointer { last_seen, unseen: row.try_get("unseen")? })
}

/// Forgets up to `limit` alerts that were told before `before`. Who was told of stays known: nobody
/// is told of them again.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prune(conn: &Conn, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    conn.run(PRUNE, &[&before, &limit]).await
}

fn from_row(row: &tokio_postgres::Row) -> Result<ListedAlert, DbError> {
    let count = |column: &str| -> Result<u32, DbError> {
        Ok(u32::try_from(row.try_get::<_, i32>(column)?).unwrap_or_default())
    };
    let states = InterestCounts {
        sure: count("sure")?,
        maybe: count("maybe")?,
        interested: count("interested")?,
    };
    Ok(ListedAlert {
        alert: Alert {
            id: AlertId(row.try_get("id")?),
            actor: UserId(row.try_get("actor_id")?),
            others: count("others")?,
            states,
        },
        kind: row.try_get("kind")?,
        event_id: EventId(row.try_get("event_id")?),
        event_title: row.try_get("title")?,
        actor_name: row.try_get("name")?,
        created_at: row.try_get("created_at")?,
    })
}
