//! Who follows which organisation. What of it is counted is written by `interaction.rs`.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::inventory::corrupt;
use super::{Conn, DbError, Statements as _};
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::interest::Follow;

/// The row of a person who never followed it, for them to be the only one who changes it.
const RESERVE: &str = "INSERT INTO organization_follows
        (organization_id, user_id, following, version, changed_at)
    VALUES ($1, $2, false, 0, $3) ON CONFLICT (organization_id, user_id) DO NOTHING";
const LOCK: &str = "SELECT organization_id, user_id, following, version, changed_at
    FROM organization_follows WHERE organization_id = $1 AND user_id = $2 FOR UPDATE";
/// In the order in which everybody locks them.
const LOCK_ALL_OF: &str = "SELECT organization_id, user_id, following, version, changed_at
    FROM organization_follows WHERE user_id = $1 AND following
    ORDER BY organization_id FOR UPDATE";
const SAVE: &str = "UPDATE organization_follows SET following = $3, version = $4, changed_at = $5
    WHERE organization_id = $1 AND user_id = $2";

/// Locks whether somebody follows until the transaction ends; a new row if there is none.
pub async fn reserve(
    tx: &Conn,
    organization: OrganizationId,
    user: UserId,
    now: Timestamp,
) -> Result<Follow, DbError> {
    if let Some(known) = lock(tx, organization, user).await? {
        return Ok(known);
    }
    tx.run(RESERVE, &[&organization.0, &user.0, &now]).await?;
    let missing = || corrupt("organization_follows", "user_id", "the row just written is gone");
    lock(tx, organization, user).await?.ok_or_else(missing)
}

/// Locks whether somebody follows until the transaction ends, if they ever did.
pub async fn lock(
    tx: &Conn,
    organization: OrganizationId,
    user: UserId,
) -> Result<Option<Follow>, DbError> {
    tx.row(LOCK, &[&organization.0, &user.0]).await?.as_ref().map(from_row).transpose()
}

/// Locks all that somebody follows until the transaction ends.
pub async fn lock_all_of(tx: &Conn, user: UserId) -> Result<Vec<Follow>, DbError> {
    tx.rows(LOCK_ALL_OF, &[&user.0]).await?.iter().map(from_row).collect()
}

/// Writes what is locked.
pub async fn save(tx: &Conn, follow: &Follow) -> Result<(), DbError> {
    let Follow { organization_id, user_id, following, version, changed_at } = follow;
    tx.run(SAVE, &[&organization_id.0, &user_id.0, following, version, changed_at]).await.map(drop)
}

fn from_row(row: &Row) -> Result<Follow, DbError> {
    Ok(Follow {
        organization_id: OrganizationId(row.try_get("organization_id")?),
        user_id: UserId(row.try_get("user_id")?),
        following: row.try_get("following")?,
        version: row.try_get("version")?,
        changed_at: row.try_get("changed_at")?,
    })
}
