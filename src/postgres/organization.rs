//! Organisations and who belongs to them with which role.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::organization::{MemberRole, Membership, Organization};

const INSERT: &str = "INSERT INTO organizations (id, name, slug, created_by, created_at)
    VALUES ($1, $2, $3, $4, $5)";
const FIND: &str = "SELECT id, name, slug, created_at, version FROM organizations WHERE id = $1";
const LIST_OF: &str = "SELECT o.id, o.name, o.slug, o.created_at, o.version, m.role
    FROM organization_members m JOIN organizations o ON o.id = m.organization_id
    WHERE m.user_id = $1 AND ($2::uuid IS NULL OR m.organization_id > $2)
    ORDER BY m.organization_id LIMIT $3";
/// Whoever changes memberships takes this lock, so that the last owner is counted right.
const LOCK: &str = "SELECT 1 FROM organizations WHERE id = $1 FOR NO KEY UPDATE";
const LOCK_ALL_OF: &str = "SELECT id FROM organizations
    WHERE id IN (SELECT organization_id FROM organization_members WHERE user_id = $1)
    ORDER BY id FOR NO KEY UPDATE";
const ROLE_OF: &str = "SELECT role FROM organization_members
    WHERE organization_id = $1 AND user_id = $2";
const OTHER_OWNERS: &str = "SELECT 1 FROM organization_members
    WHERE organization_id = $1 AND user_id <> $2 AND role = 'owner' LIMIT 1";
const MEMBERS: &str = "SELECT m.user_id, u.name, m.role, m.created_at
    FROM organization_members m JOIN users u ON u.id = m.user_id
    WHERE m.organization_id = $1 AND ($2::uuid IS NULL OR m.user_id > $2)
    ORDER BY m.user_id LIMIT $3";
const MEMBER: &str = "SELECT m.user_id, u.name, m.role, m.created_at
    FROM organization_members m JOIN users u ON u.id = m.user_id
    WHERE m.organization_id = $1 AND m.user_id = $2";
const ADD_MEMBER: &str = "INSERT INTO organization_members
    (organization_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (organization_id, user_id) DO NOTHING";
const SET_ROLE: &str = "UPDATE organization_members SET role = $3
    WHERE organization_id = $1 AND user_id = $2";
const REMOVE_MEMBER: &str =
    "DELETE FROM organization_members WHERE organization_id = $1 AND user_id = $2";
const REMOVE_EVERYWHERE: &str = "DELETE FROM organization_members WHERE user_id = $1";

/// The unique constraint on slugs, as [`DbError::violated`] names it.
pub const SLUG_UNIQUE: &str = "organizations_slug_key";

/// Writes a new organisation. A taken slug violates [`SLUG_UNIQUE`].
pub async fn insert(tx: &Conn, made: &Organization, by: UserId) -> Result<(), DbError> {
    let Organization { id, name, slug, created_at, .. } = made;
    tx.run(INSERT, &[&id.0, name, slug, &by.0, created_at]).await?;
    Ok(())
}

/// The organisation of that id.
pub async fn find(conn: &Conn, id: OrganizationId) -> Result<Option<Organization>, DbError> {
    conn.row(FIND, &[&id.0]).await?.as_ref().map(organization).transpose()
}

/// The organisations of a person and their role in each, oldest first, after `after`.
pub async fn list_of(
    conn: &Conn,
    user_id: UserId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<(Organization, MemberRole)>, DbError> {
    let rows = conn.rows(LIST_OF, &[&user_id.0, &after, &limit]).await?;
    rows.iter().map(|row| Ok((organization(row)?, role(row)?))).collect()
}

/// Locks the organisation's memberships until the transaction ends and says whether it exists.
pub async fn lock(tx: &Conn, id: OrganizationId) -> Result<bool, DbError> {
    Ok(tx.row(LOCK, &[&id.0]).await?.is_some())
}

/// Locks the memberships of all organisations that the person belongs to, and names them.
pub async fn lock_all_of(tx: &Conn, user_id: UserId) -> Result<Vec<OrganizationId>, DbError> {
    let rows = tx.rows(LOCK_ALL_OF, &[&user_id.0]).await?;
    rows.iter().map(|row| Ok(OrganizationId(row.try_get("id")?))).collect()
}

/// What the person may do in the organisation; `None` if they do not belong to it.
pub async fn role_of(
    conn: &Conn,
    organization_id: OrganizationId,
    user_id: UserId,
) -> Result<Option<MemberRole>, DbError> {
    conn.row(ROLE_OF, &[&organization_id.0, &user_id.0]).await?.as_ref().map(role).transpose()
}

/// Whether anybody but that person owns the organisation.
pub async fn has_other_owner(
    tx: &Conn,
    organization_id: OrganizationId,
    user_id: UserId,
) -> Result<bool, DbError> {
    Ok(tx.row(OTHER_OWNERS, &[&organization_id.0, &user_id.0]).await?.is_some())
}

/// Who belongs to the organisation, after the person `after`.
pub async fn members(
    conn: &Conn,
    organization_id: OrganizationId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Membership>, DbError> {
    let rows = conn.rows(MEMBERS, &[&organization_id.0, &after, &limit]).await?;
    rows.iter().map(membership).collect()
}

/// One person's place in the organisation.
pub async fn member(
    conn: &Conn,
    organization_id: OrganizationId,
    user_id: UserId,
) -> Result<Option<Membership>, DbError> {
    let row = conn.row(MEMBER, &[&organization_id.0, &user_id.0]).await?;
    row.as_ref().map(membership).transpose()
}

/// Lets a person in; says `false` if they belong already, whose role then stays.
pub async fn add_member(
    tx: &Conn,
    organization_id: OrganizationId,
    user_id: UserId,
    role: MemberRole,
    now: Timestamp,
) -> Result<bool, DbError> {
    let added = tx.run(ADD_MEMBER, &[&organization_id.0, &user_id.0, &role.name(), &now]).await?;
    Ok(added > 0)
}

/// Gives a member another role.
pub async fn set_role(
    tx: &Conn,
    organization_id: OrganizationId,
    user_id: UserId,
    role: MemberRole,
) -> Result<(), DbError> {
    tx.run(SET_ROLE, &[&organization_id.0, &user_id.0, &role.name()]).await?;
    Ok(())
}

/// Removes a member.
pub async fn remove_member(
    tx: &Conn,
    organization_id: OrganizationId,
    user_id: UserId,
) -> Result<(), DbError> {
    tx.run(REMOVE_MEMBER, &[&organization_id.0, &user_id.0]).await?;
    Ok(())
}

/// Removes a person from every organisation.
pub async fn remove_everywhere(tx: &Conn, user_id: UserId) -> Result<(), DbError> {
    tx.run(REMOVE_EVERYWHERE, &[&user_id.0]).await?;
    Ok(())
}

fn organization(row: &Row) -> Result<Organization, DbError> {
    Ok(Organization {
        id: OrganizationId(row.try_get("id")?),
        name: row.try_get("name")?,
        slug: row.try_get("slug")?,
        created_at: row.try_get("created_at")?,
        version: row.try_get("version")?,
    })
}

fn membership(row: &Row) -> Result<Membership, DbError> {
    Ok(Membership {
        user_id: UserId(row.try_get("user_id")?),
        name: row.try_get("name")?,
        role: role(row)?,
        created_at: row.try_get("created_at")?,
    })
}

fn role(row: &Row) -> Result<MemberRole, DbError> {
    let name: &str = row.try_get("role")?;
    MemberRole::parse(name).ok_or_else(|| DbError::Corrupt {
        table: "organization_members",
        column: "role",
        value: name.to_owned(),
    })
}
