//! Who was asked to join which organisation, and what they answered.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::ids::{InvitationId, OrganizationId, UserId};
use crate::domain::organization::{Invitation, InvitationStatus, MemberRole};

const INSERT: &str = "INSERT INTO invitations
    (id, organization_id, email, role, status, invited_by, created_at, expires_at)
    VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7)";
/// One open invitation an address: an expired one makes room for the next.
const REMOVE_EXPIRED: &str = "DELETE FROM invitations
    WHERE organization_id = $1 AND email = $2 AND status = 'pending' AND expires_at <= $3";
const LIST_FOR: &str = "SELECT id, organization_id, email, role, status, created_at, expires_at
    FROM invitations
    WHERE email = (SELECT email FROM users WHERE id = $1 AND deactivated_at IS NULL)
      AND ($2::uuid IS NULL OR id < $2)
    ORDER BY id DESC LIMIT $3";
const LOCK_FOR: &str = "SELECT id, organization_id, email, role, status, created_at, expires_at
    FROM invitations WHERE id = $1 AND email = $2 FOR UPDATE";
const ANSWER: &str = "UPDATE invitations SET status = $2, answered_at = $3 WHERE id = $1";

/// The index that allows one open invitation an address, as [`DbError::violated`] names it.
pub const ONE_OPEN: &str = "invitations_open";

/// Writes a new invitation. A second open one for the address violates [`ONE_OPEN`].
pub async fn insert(tx: &Conn, made: &Invitation, by: UserId) -> Result<(), DbError> {
    let Invitation { id, organization_id, email, role, created_at, expires_at, .. } = made;
    let (role, organization_id) = (role.name(), organization_id.0);
    tx.run(INSERT, &[&id.0, &organization_id, email, &role, &by.0, created_at, expires_at]).await?;
    Ok(())
}

/// Removes the organisation's invitation of that address if it expired unanswered.
pub async fn remove_expired(
    tx: &Conn,
    organization_id: OrganizationId,
    email: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.run(REMOVE_EXPIRED, &[&organization_id.0, &email, &now]).await?;
    Ok(())
}

/// The invitations of a person's address, newest first, after `after`, as they stand at `now`.
pub async fn list_for(
    conn: &Conn,
    user_id: UserId,
    after: Option<Uuid>,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Invitation>, DbError> {
    let rows = conn.rows(LIST_FOR, &[&user_id.0, &after, &limit]).await?;
    rows.iter().map(|row| invitation(row, now)).collect()
}

/// The invitation, if it is for that address, locked until the transaction ends.
pub async fn lock_for(
    tx: &Conn,
    id: InvitationId,
    email: &str,
    now: Timestamp,
) -> Result<Option<Invitation>, DbError> {
    let row = tx.row(LOCK_FOR, &[&id.0, &email]).await?;
    row.as_ref().map(|row| invitation(row, now)).transpose()
}

/// Writes the answer: accepted or declined.
pub async fn answer(
    tx: &Conn,
    id: InvitationId,
    status: InvitationStatus,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.run(ANSWER, &[&id.0, &status.name(), &now]).await?;
    Ok(())
}

fn invitation(row: &Row, now: Timestamp) -> Result<Invitation, DbError> {
    let role: &str = row.try_get("role")?;
    let expires_at = row.try_get("expires_at")?;
    Ok(Invitation {
        id: InvitationId(row.try_get("id")?),
        organization_id: OrganizationId(row.try_get("organization_id")?),
        email: row.try_get("email")?,
        role: MemberRole::parse(role).ok_or_else(|| DbError::Corrupt {
            table: "invitations",
            column: "role",
            value: role.to_owned(),
        })?,
        status: InvitationStatus::at(row.try_get("status")?, expires_at, now),
        created_at: row.try_get("created_at")?,
        expires_at,
    })
}
