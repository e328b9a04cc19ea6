//! What the inbox's consumer reads under its claims, in one flight, and what it writes, in another.
//! Flights are pipelined on one connection, as those of the desk (see [`super::inventory`]): a
//! batch of few messages costs two waits instead of six.

use jiff::Timestamp;
use tokio::join;

use super::inbox::{self, Claim, Finish, Key};
use super::notification::{self, Names, Wanted};
use super::outbox::{self, RawMessage};
use super::{Conn, Db, DbError, Tx, dead_letter};
use crate::domain::dead_letter::DeadLetter;
use crate::domain::notification::Notification;
use crate::domain::processing::ServiceContext;

/// What a batch of messages came to.
#[derive(Debug, Default)]
pub struct Effects {
    /// Entries of inboxes.
    pub entries: Vec<Notification>,
    /// What is left of messages to many.
    pub rests: Vec<RawMessage>,
    /// Messages that make no sense.
    pub letters: Vec<DeadLetter>,
    /// The ends of the claims.
    pub ends: Vec<Finish>,
}

/// Begins a transaction, claims messages and looks up names, in one flight. A connection that
/// died in the pool is replaced once.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn open(
    db: &Db,
    service: ServiceContext,
    keys: &[&Key],
    wanted: &Wanted,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<(Tx, Vec<Claim>, Names), DbError> {
    match claim(db, service, keys, wanted, now, lease_until).await {
        Err(DbError::Unavailable(_)) => claim(db, service, keys, wanted, now, lease_until).await,
        opened => opened,
    }
}

async fn claim(
    db: &Db,
    service: ServiceContext,
    keys: &[&Key],
    wanted: &Wanted,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<(Tx, Vec<Claim>, Names), DbError> {
    let tx = Tx::adopt(db.get().await?);
    // First of all, so that nothing in the flight waits for a preparation and is overtaken.
    inbox::prepare(&tx).await?;
    notification::prepare(&tx).await?;
    let (begun, claims, names) = join!(
        tx.batch_execute("BEGIN"),
        inbox::claim(&tx, service, keys, now, lease_until),
        notification::names(&tx, wanted),
    );
    begun?;
    Ok((tx, claims?, names?))
}

/// Writes everything and commits, in one flight. The claims' rows are locked since they were won,
/// so that each of them ends here, or nothing is written.
///
/// # Errors
/// [`DbError::Query`] means that nothing was written; any other leaves it unknown.
pub async fn close(
    tx: Tx,
    service: ServiceContext,
    effects: &Effects,
    now: Timestamp,
) -> Result<(), DbError> {
    let conn: &Conn = &tx;
    // Rare, and so not worth a place in the flight.
    outbox::append_raw(conn, &effects.rests).await?;
    dead_letter::save(conn, &effects.letters).await?;
    let (entered, ended, committed) = join!(
        notification::insert(conn, &effects.entries),
        inbox::finish(conn, service, &effects.ends, now),
        conn.batch_execute("COMMIT"),
    );
    entered?;
    ended?;
    committed?;
    tx.settled();
    Ok(())
}
