//! Who changed what that others rely on: roles, keys, memberships, accounts, events. Append only.

use jiff::Timestamp;
use serde_json::Value;

use super::{Conn, DbError, Statements as _};
use crate::domain::ids::UserId;

const APPEND: &str = "INSERT INTO audit_log (at, actor_id, action, subject, request_id, detail)
    VALUES ($1, $2, $3, $4, $5, $6)";

/// Notes a change in the transaction that makes it. `actor` is `None` for the system itself;
/// `action` is like `api_key.created`; `subject` is the id of what was changed.
pub async fn append(
    tx: &Conn,
    now: Timestamp,
    actor: Option<UserId>,
    action: &str,
    subject: &str,
    request_id: Option<&str>,
    detail: Option<&Value>,
) -> Result<(), DbError> {
    let actor = actor.map(|id| id.0);
    tx.run(APPEND, &[&now, &actor, &action, &subject, &request_id, &detail]).await?;
    Ok(())
}
