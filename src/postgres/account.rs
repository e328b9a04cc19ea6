//! People's accounts: the rows of `users`, living and anonymised.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::account::{User, UserRole};
use crate::domain::ids::UserId;

const INSERT: &str = "INSERT INTO users
    (id, email, name, password_hash, role, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6)";
const FIND: &str = "SELECT id, email, name, password_hash, role, created_at, version FROM users
    WHERE id = $1 AND deactivated_at IS NULL";
const FIND_BY_EMAIL: &str = "SELECT id, email, name, password_hash, role, created_at, version
    FROM users WHERE email = $1 AND deactivated_at IS NULL";
/// Not `FOR UPDATE`: rows that refer to the account may still be written meanwhile.
const LOCK: &str = "SELECT id, email, name, password_hash, role, created_at, version FROM users
    WHERE id = $1 AND deactivated_at IS NULL FOR NO KEY UPDATE";
const UPDATE: &str = "UPDATE users
    SET email = $2, name = $3, password_hash = $4, updated_at = $5, version = version + 1
    WHERE id = $1
    RETURNING id, email, name, password_hash, role, created_at, version";
const SET_ROLE: &str = "UPDATE users SET role = $2, updated_at = $3, version = version + 1
    WHERE id = $1 AND role <> $2";
const ANONYMISE: &str = "UPDATE users
    SET email = 'deleted-' || id || '@invalid', name = 'Deleted user', password_hash = '',
        role = 'user', deactivated_at = $2, updated_at = $2, version = version + 1
    WHERE id = $1";
const DEACTIVATED_SINCE: &str = "SELECT id, deactivated_at FROM users WHERE deactivated_at > $1";
const ROLES: &str = "SELECT id, role FROM users WHERE id = ANY($1) AND deactivated_at IS NULL";

/// The unique index on e-mail addresses, as [`DbError::violated`] names it.
pub const EMAIL_UNIQUE: &str = "users_email";

/// A living account with what proves its owner.
#[derive(Clone)]
pub struct Account {
    /// The person.
    pub user: User,
    /// The password's hash, a PHC string.
    pub password_hash: String,
}

/// Writes a new account. A taken e-mail address violates [`EMAIL_UNIQUE`].
pub async fn insert(conn: &Conn, user: &User, password_hash: &str) -> Result<(), DbError> {
    let User { id, email, name, role, created_at, .. } = user;
    conn.run(INSERT, &[&id.0, email, name, &password_hash, &role.name(), created_at]).await?;
    Ok(())
}

/// The living account of that id.
pub async fn find(conn: &Conn, id: UserId) -> Result<Option<User>, DbError> {
    let row = conn.row(FIND, &[&id.0]).await?;
    Ok(row.as_ref().map(account).transpose()?.map(|found| found.user))
}

/// The living account of that id, with its password's hash.
pub async fn credentials(conn: &Conn, id: UserId) -> Result<Option<Account>, DbError> {
    conn.row(FIND, &[&id.0]).await?.as_ref().map(account).transpose()
}

/// The living account of that e-mail address.
pub async fn find_by_email(conn: &Conn, email: &str) -> Result<Option<Account>, DbError> {
    conn.row(FIND_BY_EMAIL, &[&email]).await?.as_ref().map(account).transpose()
}

/// The living account of that id, locked until the transaction ends: everything that opens,
/// renews or ends a sign-in takes this lock first, so they cannot miss each other.
pub async fn lock(tx: &Conn, id: UserId) -> Result<Option<Account>, DbError> {
    tx.row(LOCK, &[&id.0]).await?.as_ref().map(account).transpose()
}

/// Writes what its owner may change, and answers the row as it is now.
pub async fn update(tx: &Conn, changed: &Account, now: Timestamp) -> Result<User, DbError> {
    let Account { user, password_hash } = changed;
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&user.id.0, &user.email, &user.name, password_hash, &now];
    match tx.row(UPDATE, &params).await? {
        Some(row) => Ok(account(&row)?.user),
        None => Err(corrupt("id", user.id.to_string())),
    }
}

/// Gives the account a role on the instance and says whether that changed anything.
pub async fn set_role(
    tx: &Conn,
    id: UserId,
    role: UserRole,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.run(SET_ROLE, &[&id.0, &role.name(), &now]).await? > 0)
}

/// Leaves of a person nothing but the id that their bookings refer to.
pub async fn anonymise(tx: &Conn, id: UserId, now: Timestamp) -> Result<(), DbError> {
    tx.run(ANONYMISE, &[&id.0, &now]).await?;
    Ok(())
}

/// Who was deactivated after `since`, and when.
pub async fn deactivated_since(
    conn: &Conn,
    since: Timestamp,
) -> Result<Vec<(UserId, Timestamp)>, DbError> {
    let rows = conn.rows(DEACTIVATED_SINCE, &[&since]).await?;
    rows.iter()
        .map(|row| Ok((UserId(row.try_get("id")?), row.try_get("deactivated_at")?)))
        .collect()
}

/// The roles of those who have an account.
pub async fn roles(conn: &Conn, ids: &[UserId]) -> Result<Vec<(UserId, UserRole)>, DbError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = conn.rows(ROLES, &[&ids]).await?;
    rows.iter().map(|row| Ok((UserId(row.try_get("id")?), role(row.try_get("role")?)?))).collect()
}

fn account(row: &Row) -> Result<Account, DbError> {
    Ok(Account {
        user: User {
            id: UserId(row.try_get::<_, Uuid>("id")?),
            email: row.try_get("email")?,
            name: row.try_get("name")?,
            role: role(row.try_get("role")?)?,
            created_at: row.try_get("created_at")?,
            version: row.try_get("version")?,
        },
        password_hash: row.try_get("password_hash")?,
    })
}

pub(super) fn role(name: &str) -> Result<UserRole, DbError> {
    UserRole::parse(name).ok_or_else(|| corrupt("role", name.to_owned()))
}

fn corrupt(column: &'static str, value: String) -> DbError {
    DbError::Corrupt { table: "users", column, value }
}
