//! Alerts: who is to be told of an event, and what everybody was told.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::alert::{Alert, ListedAlert};
use crate::domain::ids::{AlertId, EventId, OrganizationId, UserId};
use crate::domain::interest::InterestCounts;

const ABOUT: &str = "SELECT m.id, e.organization_id
    FROM unnest($1::uuid[]) AS m (id)
    CROSS JOIN LATERAL (SELECT organization_id FROM events WHERE id = m.id LIMIT 1) e";
/// Who runs the events of the organisation, $3 of them, and of the next $4 of those who follow it
/// the ones who are interested in the event. A window over followers, not over those who are
/// interested: so much is read and no more, however few of them there are.
const RECIPIENTS: &str = "SELECT m.event_id, r.user_id
    FROM unnest($1::uuid[], $2::uuid[]) AS m (event_id, organization_id)
    CROSS JOIN LATERAL (
        (SELECT user_id FROM organization_members
         WHERE organization_id = m.organization_id AND role IN ('owner', 'organizer')
         ORDER BY user_id LIMIT $3)
        UNION
        (SELECT f.user_id FROM (
            SELECT user_id FROM organization_follows
            WHERE organization_id = m.organization_id AND following
            ORDER BY user_id LIMIT $4) f
         WHERE (SELECT true FROM event_interests i
             WHERE i.event_id = m.event_id AND i.user_id = f.user_id AND i.state IS NOT NULL))
    ) r";
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

/// Whom news of these events concern: up to `staff` people who run each, and those of up to
/// `followers` people who follow its organisation that are interested themselves.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn recipients(
    conn: &Conn,
    events: &[(EventId, OrganizationId)],
    staff: i64,
    followers: i64,
) -> Result<Vec<(EventId, UserId)>, DbError> {
    let (events, organizations): (Vec<Uuid>, Vec<Uuid>) =
        events.iter().map(|(event, organization)| (event.0, organization.0)).unzip();
    let rows = conn.rows(RECIPIENTS, &[&events, &organizations, &staff, &followers]).await?;
    rows.iter()
        .map(|row| Ok((EventId(row.try_get("event_id")?), UserId(row.try_get("user_id")?))))
        .collect()
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
