//! Keys that stand for people. Only their hashes are here; a revoked key keeps its row.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::account::{ApiKey, Caller, Scope};
use crate::domain::ids::{ApiKeyId, UserId};

const INSERT: &str = "INSERT INTO api_keys
    (id, user_id, name, key_hash, prefix, scopes, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const LIST: &str = "SELECT id, user_id, name, prefix, scopes, created_at, expires_at
    FROM api_keys
    WHERE user_id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR id < $2)
    ORDER BY id DESC LIMIT $3";
/// The role is the owner's of now, not of when the key was made.
const PROVE: &str = "SELECT users.id, users.role, api_keys.scopes
    FROM api_keys JOIN users ON users.id = api_keys.user_id
    WHERE key_hash = $1 AND revoked_at IS NULL AND deactivated_at IS NULL
      AND (expires_at IS NULL OR expires_at > $2)";
const REVOKE: &str = "UPDATE api_keys SET revoked_at = $3
    WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL";
const EXISTS: &str = "SELECT 1 FROM api_keys WHERE id = $1 AND user_id = $2";
const REVOKE_ALL: &str =
    "UPDATE api_keys SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL";

/// Keeps a new key by the SHA-256 of its secret.
pub async fn insert(tx: &Conn, key: &ApiKey, hash: &[u8; 32]) -> Result<(), DbError> {
    let ApiKey { id, user_id, name, prefix, scopes, created_at, expires_at } = key;
    let scopes: Vec<&str> = scopes.iter().map(|scope| scope.name()).collect();
    let hash = hash.as_slice();
    tx.run(INSERT, &[&id.0, &user_id.0, name, &hash, prefix, &scopes, created_at, expires_at])
        .await?;
    Ok(())
}

/// A person's keys that were not revoked, newest first, after the key `after`.
pub async fn list(
    conn: &Conn,
    user_id: UserId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ApiKey>, DbError> {
    conn.rows(LIST, &[&user_id.0, &after, &limit]).await?.iter().map(api_key).collect()
}

/// For whom the key with this hash stands, if it is good at `now`.
pub async fn prove(
    conn: &Conn,
    hash: &[u8; 32],
    now: Timestamp,
) -> Result<Option<Caller>, DbError> {
    let Some(row) = conn.row(PROVE, &[&hash.as_slice(), &now]).await? else { return Ok(None) };
    Ok(Some(Caller {
        user_id: UserId(row.try_get("id")?),
        role: super::account::role(row.try_get("role")?)?,
        scopes: Some(scopes(&row)?),
    }))
}

/// Revokes a person's key and says whether it was good until now.
pub async fn revoke(
    tx: &Conn,
    id: ApiKeyId,
    user_id: UserId,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.run(REVOKE, &[&id.0, &user_id.0, &now]).await? > 0)
}

/// Whether the person has, or had, that key.
pub async fn exists(conn: &Conn, id: ApiKeyId, user_id: UserId) -> Result<bool, DbError> {
    Ok(conn.row(EXISTS, &[&id.0, &user_id.0]).await?.is_some())
}

/// Revokes all keys of a person.
pub async fn revoke_all(tx: &Conn, user_id: UserId, now: Timestamp) -> Result<(), DbError> {
    tx.run(REVOKE_ALL, &[&user_id.0, &now]).await?;
    Ok(())
}

fn api_key(row: &Row) -> Result<ApiKey, DbError> {
    Ok(ApiKey {
        id: ApiKeyId(row.try_get("id")?),
        user_id: UserId(row.try_get("user_id")?),
        name: row.try_get("name")?,
        prefix: row.try_get("prefix")?,
        scopes: scopes(row)?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
    })
}

fn scopes(row: &Row) -> Result<Vec<Scope>, DbError> {
    let names: Vec<&str> = row.try_get("scopes")?;
    let known = |name: &str| {
        Scope::parse(name).ok_or_else(|| DbError::Corrupt {
            table: "api_keys",
            column: "scopes",
            value: name.to_owned(),
        })
    };
    names.into_iter().map(known).collect()
}
