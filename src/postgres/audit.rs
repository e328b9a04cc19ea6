//! Who changed what that others rely on: roles, keys, memberships, accounts, events. Append only.

use jiff::Timestamp;
use serde_json::Value;

use super::{Conn, DbError, Statements as _};
use crate::domain::ids::UserId;

const APPEND: &str = "INSERT INTO audit_log (at, actor_id, action, subject, request_id, detail)
    VALUES ($1, $2, $3, $4, $5, $6)";
const APPEND_ALL: &str = "INSERT INTO audit_log (at, actor_id, action, subject, request_id, detail)
    SELECT $1, $2, $3, m.subject, $4, m.detail
    FROM unnest($5::text[], $6::json[]) AS m (subject, detail)";

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

/// Notes the same change of many things, each with its detail.
pub async fn append_all(
    tx: &Conn,
    now: Timestamp,
    actor: Option<UserId>,
    action: &str,
    request_id: Option<&str>,
    changed: &[(String, Value)],
) -> Result<(), DbError> {
    let actor = actor.map(|id| id.0);
    let subjects: Vec<&str> = changed.iter().map(|(subject, _)| subject.as_str()).collect();
    let details: Vec<&Value> = changed.iter().map(|(_, detail)| detail).collect();
    tx.run(APPEND_ALL, &[&now, &actor, &action, &request_id, &subjects, &details]).await?;
    Ok(())
}
