//! The three ways a verb can fail to do what was asked.

use std::time::Duration;

use crate::domain::refusal::Refusal;
use crate::postgres::DbError;
use crate::wake::Lost;

/// What a verb answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a verb did not do what was asked.
#[derive(Debug)]
pub enum Error {
    /// We say no, and why; nothing changed.
    Refused(Refusal),
    /// A needed part is away or too busy; trying again later may work.
    Unavailable {
        /// Which part, e.g. `postgres`.
        part: &'static str,
        /// When to try again.
        retry_after: Duration,
        /// For the log.
        cause: Option<anyhow::Error>,
    },
    /// Something is broken on our side.
    Fault(anyhow::Error),
}

impl Error {
    /// A part is away or too busy.
    pub fn unavailable(part: &'static str) -> Self {
        Self::Unavailable { part, retry_after: Duration::from_secs(1), cause: None }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(cause) => Self::Unavailable {
                part: "postgres",
                retry_after: Duration::from_secs(1),
                cause: Some(cause),
            },
            DbError::Query(_) | DbError::Corrupt { .. } => Self::Fault(error.into()),
        }
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Fault(error)
    }
}

impl From<Lost> for Error {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Busy => Self::unavailable("server"),
            Lost::Broken => Self::Fault(lost.into()),
        }
    }
}

/// For the log, and for actors, whose failures are only ever logged.
impl From<Error> for anyhow::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => Self::msg(format!("refused: {}", refusal.code())),
            Error::Unavailable { part, cause: Some(cause), .. } => {
                cause.context(format!("{part} is unavailable"))
            }
            Error::Unavailable { part, .. } => Self::msg(format!("{part} is unavailable")),
            Error::Fault(cause) => cause,
        }
    }
}
