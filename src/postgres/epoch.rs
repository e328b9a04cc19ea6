//! Which incarnation of Redis is believed. One row, changed under its lock, so that any number of
//! processes agree.

use super::{Conn, Db, DbError, Statements as _};

const READ: &str = "SELECT run_id, epoch FROM redis_epoch FOR UPDATE";
const WRITE: &str = "UPDATE redis_epoch SET run_id = $1, epoch = $2";

/// The epoch of the Redis server with this run id. A new server, or one that lost what we wrote
/// (`forgot` names the epoch that is gone), begins a new epoch; a process that comes second finds
/// it begun.
pub async fn of(db: &Db, run_id: &str, forgot: Option<i64>) -> Result<i64, DbError> {
    let tx = db.begin().await?;
    let conn: &Conn = &tx;
    let row = conn.row(READ, &[]).await?;
    let (known, epoch): (String, i64) = match &row {
        Some(row) => (row.try_get("run_id")?, row.try_get("epoch")?),
        None => (String::new(), 0),
    };
    if known == run_id && forgot != Some(epoch) {
        tx.rollback().await?;
        return Ok(epoch);
    }
    let next = epoch.saturating_add(1);
    conn.run(WRITE, &[&run_id, &next]).await?;
    tx.commit().await?;
    Ok(next)
}
