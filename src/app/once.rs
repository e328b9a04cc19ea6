//! At most once per idempotency key: the answer is written in the transaction of its effect, so a
//! retry finds either both or neither.

use super::{App, Error, Result};
use crate::domain::refusal::Refusal;
pub use crate::domain::submission::{Answer, Reply, Submission};
use crate::postgres::idempotency::{self, Found};
use crate::postgres::{Conn, Tx};

/// Runs `verb` in a transaction, at most once per key. Refusals are remembered like successes;
/// what a refused verb wrote is rolled back. `render` says what will be answered.
///
/// # Errors
/// The verb's, [`Refusal::IdempotencyMismatch`], or [`Refusal::RequestInFlight`] if the same key
/// is still being worked on when the lock timeout ends.
pub async fn once<T>(
    app: &App,
    submission: Option<&Submission>,
    verb: impl AsyncFnOnce(&Conn) -> Result<T>,
    render: impl FnOnce(&std::result::Result<T, Refusal>) -> Reply,
) -> Result<Answer<T>> {
    let tx = app.db.begin().await?;
    let Some(submission) = submission else {
        return finish(tx, verb).await.map(Answer::Fresh);
    };
    match idempotency::start(&tx, submission).await? {
        Found::Replay(reply) => {
            tx.rollback().await?;
            return Ok(Answer::Replayed(reply));
        }
        Found::Mismatch => {
            tx.rollback().await?;
            return Err(Refusal::IdempotencyMismatch.into());
        }
        Found::InFlight => {
            tx.rollback().await?;
            return Err(Refusal::RequestInFlight.into());
        }
        Found::Nothing => {}
    }
    tx.savepoint().await?;
    let outcome = match verb(&tx).await {
        Ok(value) => Ok(value),
        Err(Error::Refused(refusal)) => {
            tx.rollback_to_savepoint().await?;
            Err(refusal)
        }
        Err(error) => {
            tx.rollback().await.ok();
            return Err(error);
        }
    };
    let reply = render(&outcome);
    idempotency::save(&tx, submission, &reply, app.clock.now()).await?;
    tx.commit().await?;
    Ok(Answer::Fresh(outcome?))
}

/// Runs `verb` in a transaction that no key guards: what it makes is a secret, or doing it twice
/// is doing it once.
///
/// # Errors
/// The verb's; what it wrote is then rolled back.
pub async fn transaction<T>(app: &App, verb: impl AsyncFnOnce(&Conn) -> Result<T>) -> Result<T> {
    finish(app.db.begin().await?, verb).await
}

async fn finish<T>(tx: Tx, verb: impl AsyncFnOnce(&Conn) -> Result<T>) -> Result<T> {
    match verb(&tx).await {
        Ok(value) => {
            tx.commit().await?;
            Ok(value)
        }
        Err(error) => {
            tx.rollback().await.ok();
            Err(error)
        }
    }
}
