//! Tickets for sockets: browsers cannot send a bearer token with them, and a token in an address
//! would stand in logs. A ticket is good once and for moments only.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::digest;
use super::tokens::Proof;
use crate::app::{App, Error, Result};
use crate::domain::account::{Caller, UserRole};
use crate::domain::ids::UserId;
use crate::domain::refusal::Refusal;
use crate::redis::tickets;

/// A ticket, shown once.
#[derive(Debug)]
pub struct Ticket {
    /// What to show at the door. A secret.
    pub ticket: String,
    /// For how many seconds it is good.
    pub expires_in: u32,
}

/// A ticket for the caller.
///
/// # Errors
/// When Redis is away.
pub async fn issue(app: &App, caller: &Caller) -> Result<Ticket> {
    let (ticket, expires_in) = (app.ids.secret(), app.config.holds.ticket_seconds);
    let since = app.clock.now().as_second();
    let who = format!("{} {} {since}", caller.user_id, caller.role.name());
    let kept = tickets::keep(&app.redis, &name(&ticket), &who, expires_in).await;
    kept.map_err(|_| Error::unavailable("redis"))?;
    Ok(Ticket { ticket, expires_in })
}

/// Whom the ticket lets in, now and never again. What was revoked since it was issued is void.
///
/// # Errors
/// [`Refusal::Unauthenticated`] for anything that is not good now; when Redis is away.
pub async fn redeem(app: &App, ticket: &str) -> Result<Proof> {
    let found = tickets::take(&app.redis, &name(ticket)).await;
    let who = found.map_err(|_| Error::unavailable("redis"))?;
    let proof = who.as_deref().and_then(proof).filter(|proof| !app.revocations.is_void(proof));
    proof.ok_or_else(|| Refusal::Unauthenticated.into())
}

fn name(ticket: &str) -> String {
    digest(ticket).iter().fold(String::new(), |mut name, byte| {
        // Writing to a string does not fail.
        write!(name, "{byte:02x}").ok();
        name
    })
}

fn proof(who: &str) -> Option<Proof> {
    let mut parts = who.split(' ');
    Some(Proof {
        user_id: UserId(parts.next()?.parse().ok()?),
        role: UserRole::parse(parts.next()?)?,
        issued_at: Timestamp::from_second(parts.next()?.parse().ok()?).ok()?,
    })
}
