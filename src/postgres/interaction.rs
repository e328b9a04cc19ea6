//! What is counted of interests, ratings and follows. Each row remembers of which version it is
//! counted and as what, so that a message that comes again, late or beside others changes nothing,
//! and counters change by differences. Everything is an upsert in the order of its arrays: two
//! handlers lock rows in the same order and never wait for each other in a circle. A scalar
//! subquery is never turned into a join that reads whole tables.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::interest::state;
use super::{Conn, DbError, Statements as _};
use crate::domain::ids::{AlertId, EventId};
use crate::domain::interaction::{Delta, Pair, Said, SaidInterest};
use crate::domain::interest::InterestState;

/// The record learns what it does not know yet (somebody else may have published). An alert is
/// noted when somebody is interested in public, for the first time, and still is by the record.
const INTERESTS: &str = "INSERT INTO event_interests AS i (event_id, user_id, state, privacy,
        version, changed_at, counted_state, counted_version, alert_id)
    SELECT m.event_id, m.user_id, m.state, m.privacy, m.version, m.changed_at, m.state, m.version,
        CASE WHEN m.state IS NOT NULL AND m.privacy = 'public' THEN m.alert_id END
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[],
                $7::uuid[])
         WITH ORDINALITY AS m (event_id, user_id, state, privacy, version, changed_at, alert_id, n)
    WHERE (SELECT true FROM events e WHERE e.id = m.event_id)
      AND (SELECT true FROM users u WHERE u.id = m.user_id)
    ORDER BY m.n
    ON CONFLICT (event_id, user_id) DO UPDATE SET
        state = CASE WHEN excluded.version > i.version THEN excluded.state ELSE i.state END,
        privacy = CASE WHEN excluded.version > i.version THEN excluded.privacy ELSE i.privacy END,
        changed_at = CASE WHEN excluded.version > i.version THEN excluded.changed_at
                          ELSE i.changed_at END,
        version = greatest(i.version, excluded.version),
        counted_before = i.counted_state, counted_state = excluded.counted_state,
        counted_version = excluded.counted_version,
        alert_id = coalesce(i.alert_id, CASE
            WHEN excluded.version > i.version OR (i.state IS NOT NULL AND i.privacy = 'public')
            THEN excluded.alert_id END)
    WHERE i.counted_version < excluded.counted_version
    RETURNING i.event_id, i.user_id, i.counted_before, i.counted_state, i.alert_id";
const RATINGS: &str = "INSERT INTO event_ratings AS r (event_id, user_id, rating, version,
        changed_at, counted_rating, counted_version)
    SELECT m.event_id, m.user_id, m.rating, m.version, m.changed_at, m.rating, m.version
    FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[], $5::timestamptz[])
         WITH ORDINALITY AS m (event_id, user_id, rating, version, changed_at, n)
    WHERE (SELECT true FROM events e WHERE e.id = m.event_id)
      AND (SELECT true FROM users u WHERE u.id = m.user_id)
    ORDER BY m.n
    ON CONFLICT (event_id, user_id) DO UPDATE SET
        rating = CASE WHEN excluded.version > r.version THEN excluded.rating ELSE r.rating END,
        changed_at = CASE WHEN excluded.version > r.version THEN excluded.changed_at
                          ELSE r.changed_at END,
        version = greatest(r.version, excluded.version),
        counted_before = r.counted_rating, counted_rating = excluded.counted_rating,
        counted_version = excluded.counted_version
    WHERE r.counted_version < excluded.counted_version
    RETURNING r.event_id, r.user_id, r.counted_before, r.counted_rating";
const FOLLOWS: &str = "INSERT INTO organization_follows AS f (organization_id, user_id, following,
        version, changed_at, counted, counted_version)
    SELECT m.organization_id, m.user_id, m.following, m.version, m.changed_at, m.following,
        m.version
    FROM unnest($1::uuid[], $2::uuid[], $3::boolean[], $4::bigint[], $5::timestamptz[])
         WITH ORDINALITY AS m (organization_id, user_id, following, version, changed_at, n)
    WHERE (SELECT true FROM organizations o WHERE o.id = m.organization_id)
      AND (SELECT true FROM users u WHERE u.id = m.user_id)
    ORDER BY m.n
    ON CONFLICT (organization_id, user_id) DO UPDATE SET
        following = CASE WHEN excluded.version > f.version THEN excluded.following
                         ELSE f.following END,
        changed_at = CASE WHEN excluded.version > f.version THEN excluded.changed_at
                          ELSE f.changed_at END,
        version = greatest(f.version, excluded.version),
        counted_before = f.counted, counted = excluded.counted,
        counted_version = excluded.counted_version
    WHERE f.counted_version < excluded.counted_version
    RETURNING f.organization_id, f.user_id, f.counted_before, f.counted";
const EVENT_STATS: &str = "INSERT INTO event_stats AS s
        (event_id, sure, maybe, interested, ratings, rating_sum, counted_at)
    SELECT m.id, m.sure, m.maybe, m.interested, m.ratings, m.rating_sum, $7
    FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[], $6::bigint[])
         WITH ORDINALITY AS m (id, sure, maybe, interested, ratings, rating_sum, n)
    ORDER BY m.n
    ON CONFLICT (event_id) DO UPDATE SET
        sure = s.sure + excluded.sure, maybe = s.maybe + excluded.maybe,
        interested = s.interested + excluded.interested, ratings = s.ratings + excluded.ratings,
        rating_sum = s.rating_sum + excluded.rating_sum, counted_at = excluded.counted_at";
const USER_STATS: &str = "INSERT INTO user_stats AS s
        (user_id, sure, maybe, interested, ratings, rating_sum, follows, counted_at)
    SELECT m.id, m.sure, m.maybe, m.interested, m.ratings, m.rating_sum, m.follows, $8
    FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[], $6::bigint[], $7::int[])
         WITH ORDINALITY AS m (id, sure, maybe, interested, ratings, rating_sum, follows, n)
    ORDER BY m.n
    ON CONFLICT (user_id) DO UPDATE SET
        sure = s.sure + excluded.sure, maybe = s.maybe + excluded.maybe,
        interested = s.interested + excluded.interested, ratings = s.ratings + excluded.ratings,
        rating_sum = s.rating_sum + excluded.rating_sum, follows = s.follows + excluded.follows,
        counted_at = excluded.counted_at";
const ORGANIZATION_STATS: &str = "INSERT INTO organization_stats AS s
        (organization_id, followers, counted_at)
    SELECT m.id, m.followers, $3
    FROM unnest($1::uuid[], $2::int[]) WITH ORDINALITY AS m (id, followers, n)
    ORDER BY m.n
    ON CONFLICT (organization_id) DO UPDATE SET
        followers = s.followers + excluded.followers, counted_at = excluded.counted_at";

/// What is counted of a pair now, and was before.
#[derive(Clone, Copy, Debug)]
pub struct Counted<T> {
    /// The event or organisation, and the person.
    pub pair: Pair,
    /// Before.
    pub before: T,
    /// Now.
    pub after: T,
    /// The alerts that tell of it, or did.
    pub alert: Option<AlertId>,
}

/// Takes interests into account, those that are newer than what is counted. `alerts` names the
/// alerts of each event in which there may be something to tell.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn count_interests(
    tx: &Conn,
    said: &BTreeMap<Pair, SaidInterest>,
    alerts: &BTreeMap<EventId, AlertId>,
) -> Result<Vec<Counted<Option<InterestState>>>, DbError> {
    if said.is_empty() {
        return Ok(Vec::new());
    }
    let (events, users, versions, times) = columns(said);
    let states: Vec<Option<&str>> =
        said.values().map(|one| one.what.0.map(InterestState::name)).collect();
    let privacies: Vec<&str> = said.values().map(|one| one.what.1.name()).collect();
    let alert = |(event, _): &Pair| alerts.get(&EventId(*event)).map(|id| id.0);
    let alerts: Vec<Option<Uuid>> = said.keys().map(alert).collect();
    let rows = tx
        .rows(INTERESTS, &[&events, &users, &states, &privacies, &versions, &times, &alerts])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Counted {
                pair: (row.try_get("event_id")?, row.try_get("user_id")?),
                before: state(row.try_get("counted_before")?)?,
                after: state(row.try_get("counted_state")?)?,
                alert: row.try_get::<_, Option<Uuid>>("alert_id")?.map(AlertId),
            })
        })
        .collect()
}

/// Takes ratings into account, those that are newer than what is counted.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn count_ratings(
    tx: &Conn,
    said: &BTreeMap<Pair, Said<Option<i32>>>,
) -> Result<Vec<Counted<Option<i32>>>, DbError> {
    if said.is_empty() {
        return Ok(Vec::new());
    }
    let (events, users, versions, times) = columns(said);
    let ratings: Vec<Option<i32>> = said.values().map(|one| one.what).collect();
    let rows = tx.rows(RATINGS, &[&events, &users, &ratings, &versions, &times]).await?;
    rows.iter()
        .map(|row| {
            Ok(Counted {
                pair: (row.try_get("event_id")?, row.try_get("user_id")?),
                before: row.try_get("counted_before")?,
                after: row.try_get("counted_rating")?,
                alert: None,
            })
        })
        .collect()
}

/// Takes follows into account, those that are newer than what is counted.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn count_follows(
    tx: &Conn,
    said: &BTreeMap<Pair, Said<bool>>,
) -> Result<Vec<Counted<bool>>, DbError> {
    if said.is_empty() {
        return Ok(Vec::new());
    }
    let (organizations, users, versions, times) = columns(said);
    let following: Vec<bool> = said.values().map(|one| one.what).collect();
    let rows = tx.rows(FOLLOWS, &[&organizations, &users, &following, &versions, &times]).await?;
    rows.iter()
        .map(|row| {
            Ok(Counted {
                pair: (row.try_get("organization_id")?, row.try_get("user_id")?),
                before: row.try_get("counted_before")?,
                after: row.try_get("counted")?,
                alert: None,
            })
        })
        .collect()
}

/// Adds to the counters of events; what is calculated from them follows.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn add_to_events(
    tx: &Conn,
    deltas: &BTreeMap<Uuid, Delta>,
    now: Timestamp,
) -> Result<u64, DbError> {
    if deltas.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&Uuid> = deltas.keys().collect();
    let (sure, maybe, interested, ratings) = counters(deltas);
    let sums: Vec<i64> = deltas.values().map(|delta| delta.rating_sum).collect();
    tx.run(EVENT_STATS, &[&ids, &sure, &maybe, &interested, &ratings, &sums, &now]).await
}

/// Adds to the counters of people; what is calculated from them follows.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn add_to_users(
    tx: &Conn,
    deltas: &BTreeMap<Uuid, Delta>,
    now: Timestamp,
) -> Result<u64, DbError> {
    if deltas.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&Uuid> = deltas.keys().collect();
    let (sure, maybe, interested, ratings) = counters(deltas);
    let sums: Vec<i64> = deltas.values().map(|delta| delta.rating_sum).collect();
    let follows: Vec<i32> = deltas.values().map(|delta| delta.follows).collect();
    tx.run(USER_STATS, &[&ids, &sure, &maybe, &interested, &ratings, &sums, &follows, &now]).await
}

/// Adds to the followers of organisations.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn add_to_organizations(
    tx: &Conn,
    deltas: &BTreeMap<Uuid, i32>,
    now: Timestamp,
) -> Result<u64, DbError> {
    if deltas.is_empty() {
        return Ok(0);
    }
    let (ids, followers): (Vec<&Uuid>, Vec<i32>) = deltas.iter().unzip();
    tx.run(ORGANIZATION_STATS, &[&ids, &followers, &now]).await
}

/// What all kinds have in common, one array a column.
fn columns<T>(said: &BTreeMap<Pair, Said<T>>) -> (Vec<Uuid>, Vec<Uuid>, Vec<i64>, Vec<Timestamp>) {
    let (things, users) = said.keys().copied().unzip();
    let (versions, times) = said.values().map(|one| (one.version, one.at)).unzip();
    (things, users, versions, times)
}

fn counters(deltas: &BTreeMap<Uuid, Delta>) -> (Vec<i32>, Vec<i32>, Vec<i32>, Vec<i32>) {
    let of = |field: fn(&Delta) -> i32| deltas.values().map(field).collect();
    (of(|d| d.sure), of(|d| d.maybe), of(|d| d.interested), of(|d| d.ratings))
}
