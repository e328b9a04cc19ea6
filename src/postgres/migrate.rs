//! Applies the migrations that are built into the binary, forward only. Any number of processes
//! may start at once: refinery has no lock of its own, so an advisory lock lets one work.

use std::ops::DerefMut as _;

use anyhow::Context as _;

use super::Db;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Any number that nobody else uses for advisory locks in this database.
const LOCK: i64 = 0x4841_5050_454e;

/// Brings the schema up to date and names what was applied.
///
/// # Errors
/// When PostgreSQL is away, or a migration fails or was changed after it was applied.
pub async fn migrate(db: &Db) -> anyhow::Result<Vec<String>> {
    let mut client = db.get().await.context("cannot reach PostgreSQL (DATABASE_URL)")?;
    // Another process may hold the lock for as long as its migration takes.
    client.batch_execute("SET lock_timeout = 0; SET statement_timeout = 0").await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let report = embedded::migrations::runner().run_async(client.deref_mut().deref_mut()).await;
    // Closing the connection gives back the lock and the settings, whatever happened.
    drop(deadpool_postgres::Object::take(client));
    let report = report.context("a migration failed")?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// The names of migrations that are built in but not applied yet.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn pending(db: &Db) -> anyhow::Result<Vec<String>> {
    let mut client = db.get().await.context("cannot reach PostgreSQL (DATABASE_URL)")?;
    let applied = embedded::migrations::runner()
        .get_applied_migrations_async(client.deref_mut().deref_mut())
        .await
        .unwrap_or_default();
    let known = embedded::migrations::runner();
    Ok(known
        .get_migrations()
        .iter()
        .filter(|one| !applied.iter().any(|done| done.version() == one.version()))
        .map(ToString::to_string)
        .collect())
}
