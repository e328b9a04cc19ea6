//! Credential to caller.

use crate::app::{App, Result};
use crate::domain::account::Caller;
use crate::domain::refusal::Refusal;

/// Proves a bearer token: an access token, or an API key (`hk_…`).
///
/// # Errors
/// [`Refusal::Unauthenticated`] for anything that is not good now.
#[expect(clippy::unused_async, reason = "placeholder")]
pub async fn bearer(_app: &App, _token: &str) -> Result<Caller> {
    Err(Refusal::Unauthenticated.into())
}
