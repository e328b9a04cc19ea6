//! TRUTH. The only SQL: one aggregate a file, its statements as constants at the top.
//!
//! No function here decides anything; none keeps a transaction open across anything but
//! PostgreSQL. Statements are prepared once per connection.

pub mod account;
pub mod alarm;
pub mod alert;
pub mod api_key;
pub mod audit;
pub mod booking;
pub mod booking_views;
pub mod bus_outbox;
pub mod bus_relay;
pub mod cascade;
pub mod dead_letter;
pub mod delivery;
pub mod demo;
pub mod epoch;
pub mod event;
pub mod follow;
pub mod idempotency;
pub mod inbox;
pub mod integrity;
pub mod interaction;
pub mod interest;
pub mod inventory;
pub mod invitation;
pub mod migrate;
pub mod notification;
pub mod organization;
pub mod outbox;
pub mod parity;
pub mod pool;
pub mod rating;
pub mod redrive;
pub mod refresh_token;
pub mod rehearsal;
pub mod seat_map;
pub mod sent;
pub mod stream_lease;
pub mod trace;
pub mod vitals;

use std::ops::Deref;

use deadpool_postgres::{ClientWrapper, Object};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

pub use self::pool::Db;

/// A connection: what every statement runs on, inside a transaction or not.
pub type Conn = ClientWrapper;

/// Why PostgreSQL did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It is away, shutting down, out of connections, or a bound on waiting was hit.
    #[error("PostgreSQL is unavailable")]
    Unavailable(#[source] anyhow::Error),
    /// It answered with an error: a broken rule or a mistake of ours.
    #[error("PostgreSQL refused a statement")]
    Query(#[source] tokio_postgres::Error),
    /// A row that our own rules do not allow.
    #[error("{table}.{column} holds something impossible: {value}")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// In which column.
        column: &'static str,
        /// What.
        value: String,
    },
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        let away = error.is_closed()
            || match error.code() {
                None => true, // not an answer of the server's: the connection broke
                Some(code) => {
                    code.code().starts_with("08")
                        || code.code().starts_with("53")
                        || code.code().starts_with("57")
                        || matches!(
                            code,
                            &SqlState::LOCK_NOT_AVAILABLE
                                | &SqlState::T_R_DEADLOCK_DETECTED
                                | &SqlState::T_R_SERIALIZATION_FAILURE
                                | &SqlState::READ_ONLY_SQL_TRANSACTION
                                | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                        )
                }
            };
        if away { Self::Unavailable(error.into()) } else { Self::Query(error) }
    }
}

impl DbError {
    /// The unique constraint that the statement broke, if that is what went wrong.
    pub fn violated(&self) -> Option<&str> {
        match self {
            Self::Query(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                error.as_db_error().and_then(|db| db.constraint())
            }
            _ => None,
        }
    }
}

/// Statements by their text, prepared once per connection.
pub trait Statements {
    /// All rows.
    fn rows(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Vec<Row>, DbError>> + Send;

    /// The first row, if any.
    fn row(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Option<Row>, DbError>> + Send;

    /// How many rows it touched.
    fn run(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<u64, DbError>> + Send;
}

impl Statements for Conn {
    async fn rows(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        let statement = self.prepare_cached(sql).await?;
        Ok(self.query(&statement, params).await?)
    }

    async fn row(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, DbError> {
        let statement = self.prepare_cached(sql).await?;
        Ok(self.query_opt(&statement, params).await?)
    }

    async fn run(&self, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, DbError> {
        let statement = self.prepare_cached(sql).await?;
        Ok(self.execute(&statement, params).await?)
    }
}

/// A transaction that owns its connection. Dropped without an end, it closes the connection, so
/// that PostgreSQL rolls back and no half-done transaction returns to the pool.
pub struct Tx(Option<Object>);

impl Tx {
    /// Begins on this connection.
    pub(crate) async fn begin(client: Object) -> Result<Self, DbError> {
        let tx = Self(Some(client));
        tx.batch_execute("BEGIN").await?;
        Ok(tx)
    }

    /// Takes over a connection whose `BEGIN` is the first statement of a flight.
    pub(crate) fn adopt(client: Object) -> Self {
        Self(Some(client))
    }

    /// Returns the connection after a flight that ended with `COMMIT`.
    pub(crate) fn settled(mut self) {
        drop(self.0.take());
    }

    /// Makes it true. If the answer is lost, whether it is true is unknown until asked again.
    pub async fn commit(self) -> Result<(), DbError> {
        self.end("COMMIT").await
    }

    /// Makes it undone.
    pub async fn rollback(self) -> Result<(), DbError> {
        self.end("ROLLBACK").await
    }

    /// Marks the point that [`Tx::rollback_to_savepoint`] returns to.
    pub async fn savepoint(&self) -> Result<(), DbError> {
        Ok(self.batch_execute("SAVEPOINT here").await?)
    }

    /// Undoes all since [`Tx::savepoint`].
    pub async fn rollback_to_savepoint(&self) -> Result<(), DbError> {
        Ok(self.batch_execute("ROLLBACK TO SAVEPOINT here").await?)
    }

    async fn end(mut self, how: &str) -> Result<(), DbError> {
        self.batch_execute(how).await?;
        // Only now may the connection go back to the pool.
        drop(self.0.take());
        Ok(())
    }
}

impl Deref for Tx {
    type Target = Conn;

    #[expect(clippy::expect_used, reason = "only `end` and `drop`, which consume it, take it")]
    fn deref(&self) -> &Conn {
        self.0.as_ref().expect("a transaction has its connection until its end")
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}
