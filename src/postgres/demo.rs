//! What the demo asks before it makes anything, so that it can be loaded any number of times.

use jiff::Timestamp;

use super::{Conn, DbError, Statements as _};
use crate::domain::ids::{EventId, OrganizationId};

/// Two loads at once would make everything twice. Any number that nobody else uses.
const LOCK: &str = "SELECT pg_advisory_xact_lock(4842517)";
const ORGANIZATION: &str = "SELECT id FROM organizations WHERE slug = $1";
const EVENT: &str = "SELECT id FROM events
    WHERE organization_id = $1 AND title = $2 AND status = 'published' AND starts_at > $3
    ORDER BY starts_at LIMIT 1";

/// Waits for another load; the lock ends with the transaction.
pub async fn lock(tx: &Conn) -> Result<(), DbError> {
    tx.run(LOCK, &[]).await.map(drop)
}

/// The organisation of that slug.
pub async fn organization(tx: &Conn, slug: &str) -> Result<Option<OrganizationId>, DbError> {
    let row = tx.row(ORGANIZATION, &[&slug]).await?;
    row.map(|row| Ok(OrganizationId(row.try_get("id")?))).transpose()
}

/// An event of that title that starts after `now`.
pub async fn event(
    tx: &Conn,
    organization: OrganizationId,
    title: &str,
    now: Timestamp,
) -> Result<Option<EventId>, DbError> {
    let row = tx.row(EVENT, &[&organization.0, &title, &now]).await?;
    row.map(|row| Ok(EventId(row.try_get("id")?))).transpose()
}
