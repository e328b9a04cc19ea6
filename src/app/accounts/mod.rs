//! People: sign-up, sign-in, profile, API keys.
//!
//! Secrets leave once, in the answer that makes them: passwords are kept as argon2id hashes,
//! refresh tokens and keys as SHA-256. None of it is ever kept under an idempotency key.

pub mod api_keys;
pub mod authenticate;
pub mod change_profile;
pub mod delete_account;
pub mod login;
pub mod logout;
pub mod passwords;
pub mod profile;
pub mod provision;
pub mod prune;
pub mod refresh;
pub mod register;
pub mod revocations;
pub mod session;
pub mod tickets;
pub mod tokens;

use sha2::{Digest as _, Sha256};

pub use self::passwords::Passwords;
pub use self::revocations::Revocations;
pub use self::session::Session;
pub use self::tokens::AccessTokens;
use crate::app::App;
use crate::domain::account::{Caller, DEMO_PASSWORD};
use crate::domain::refusal::Refusal;

/// What is kept of a random secret: it has 256 bits, so it needs no salt and no stretching.
fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Refuses API keys: what they may never do, whatever their scopes.
fn signed_in(caller: &Caller) -> Result<(), Refusal> {
    match caller.scopes {
        None => Ok(()),
        Some(_) => Err(Refusal::Forbidden("needs a signed-in person, not an API key")),
    }
}

/// Refuses a new password that everybody knows, with which its owner could not sign in.
fn not_well_known(app: &App, password: &str) -> Result<(), Refusal> {
    if app.config.demo || password != DEMO_PASSWORD {
        return Ok(());
    }
    Err(Refusal::invalid("/password", "too_well_known", "is the demo's, which everybody knows"))
}
