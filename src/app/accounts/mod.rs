//! People: sign-up, sign-in, profile, API keys.

pub mod authenticate;

/// Hashes passwords on a bounded pool.
#[derive(Clone)]
pub struct Passwords;
/// Signs and checks access tokens.
#[derive(Clone)]
pub struct AccessTokens;
/// Accounts whose access tokens are void before they expire.
#[derive(Clone)]
pub struct Revocations;
