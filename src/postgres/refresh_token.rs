//! Sign-ins: a family of refresh tokens each, of which one is good. Only their hashes are here.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Conn, DbError, Statements as _};
use crate::domain::ids::UserId;

const INSERT: &str = "INSERT INTO refresh_tokens
    (token_hash, family_id, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
const OWNER: &str = "SELECT user_id FROM refresh_tokens WHERE token_hash = $1";
const LOCK: &str = "SELECT family_id, expires_at, used_at, revoked_at FROM refresh_tokens
    WHERE token_hash = $1 FOR UPDATE";
const USE: &str = "UPDATE refresh_tokens SET used_at = $2 WHERE token_hash = $1";
const REVOKE_FAMILY: &str = "UPDATE refresh_tokens SET revoked_at = $2
    WHERE family_id = $1 AND revoked_at IS NULL";
const REVOKE_ALL: &str = "UPDATE refresh_tokens SET revoked_at = $2
    WHERE user_id = $1 AND revoked_at IS NULL";
const PRUNE: &str = "DELETE FROM refresh_tokens WHERE token_hash IN
    (SELECT token_hash FROM refresh_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)";

/// SHA-256 of a token: 256 random bits need no salt and no stretching.
pub type TokenHash = [u8; 32];

/// A token that was issued.
#[derive(Clone, Copy, Debug)]
pub struct Issued {
    /// The sign-in it belongs to.
    pub family_id: Uuid,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// It was exchanged for another one.
    pub used: bool,
    /// Its sign-in was ended.
    pub revoked: bool,
}

/// Keeps a new token of a sign-in.
pub async fn insert(
    tx: &Conn,
    hash: &TokenHash,
    family_id: Uuid,
    user_id: UserId,
    (created_at, expires_at): (Timestamp, Timestamp),
) -> Result<(), DbError> {
    tx.run(INSERT, &[&hash.as_slice(), &family_id, &user_id.0, &created_at, &expires_at]).await?;
    Ok(())
}

/// Whose token it is.
pub async fn owner(conn: &Conn, hash: &TokenHash) -> Result<Option<UserId>, DbError> {
    let row = conn.row(OWNER, &[&hash.as_slice()]).await?;
    Ok(row.map(|row| row.try_get("user_id")).transpose()?.map(UserId))
}

/// The token, locked until the transaction ends.
pub async fn lock(tx: &Conn, hash: &TokenHash) -> Result<Option<Issued>, DbError> {
    let Some(row) = tx.row(LOCK, &[&hash.as_slice()]).await? else { return Ok(None) };
    Ok(Some(Issued {
        family_id: row.try_get("family_id")?,
        expires_at: row.try_get("expires_at")?,
        used: row.try_get::<_, Option<Timestamp>>("used_at")?.is_some(),
        revoked: row.try_get::<_, Option<Timestamp>>("revoked_at")?.is_some(),
    }))
}

/// Notes that the token was exchanged.
pub async fn mark_used(tx: &Conn, hash: &TokenHash, now: Timestamp) -> Result<(), DbError> {
    tx.run(USE, &[&hash.as_slice(), &now]).await?;
    Ok(())
}

/// Ends one sign-in.
pub async fn revoke_family(tx: &Conn, family_id: Uuid, now: Timestamp) -> Result<(), DbError> {
    tx.run(REVOKE_FAMILY, &[&family_id, &now]).await?;
    Ok(())
}

/// Ends all sign-ins of a person.
pub async fn revoke_all(tx: &Conn, user_id: UserId, now: Timestamp) -> Result<(), DbError> {
    tx.run(REVOKE_ALL, &[&user_id.0, &now]).await?;
    Ok(())
}

/// Forgets at most `limit` tokens that expired before `before` and says how many.
pub async fn prune(conn: &Conn, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    conn.run(PRUNE, &[&before, &limit]).await
}
