//! Access tokens are checked without asking the database, so whoever is deactivated is remembered
//! here until the last of their tokens has expired: at once in the process that did it, and in
//! the others when they next load.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};

use super::tokens::Proof;
use crate::app::{App, Result};
use crate::domain::ids::UserId;
use crate::postgres::account;

/// Loads look this much further back than a token lives: processes' clocks may differ, and a
/// deactivation becomes visible a little after the time it carries.
const SLACK: SignedDuration = SignedDuration::from_secs(120);

/// Accounts whose access tokens are void before they expire. Cheap to clone.
#[derive(Clone, Default)]
pub struct Revocations(Arc<ArcSwap<HashMap<UserId, Timestamp>>>);

impl Revocations {
    /// Voids every token that was issued to the person up to `at`.
    pub fn void(&self, user_id: UserId, at: Timestamp) {
        self.change(&[(user_id, at)], Timestamp::MIN);
    }

    /// Whether the token was voided after it was issued.
    pub fn is_void(&self, proof: &Proof) -> bool {
        // `issued_at` is cut to the second, so a token of the same second counts as earlier.
        self.0.load().get(&proof.user_id).is_some_and(|at| proof.issued_at <= *at)
    }

    /// Whether the person's account was closed while tokens of theirs may be out.
    pub fn is_deactivated(&self, user_id: UserId) -> bool {
        self.0.load().contains_key(&user_id)
    }

    /// Adds what is new and forgets what is older than `horizon`.
    fn change(&self, new: &[(UserId, Timestamp)], horizon: Timestamp) {
        let known = self.0.load();
        let grows = new.iter().any(|(id, at)| known.get(id).is_none_or(|known| known < at));
        if !grows && known.values().all(|at| *at > horizon) {
            return;
        }
        // Merged, never replaced: a load may have begun before the latest `void`.
        self.0.rcu(|known| {
            let mut all: HashMap<_, _> =
                known.iter().filter(|(_, at)| **at > horizon).map(|(id, at)| (*id, *at)).collect();
            for (id, at) in new {
                let latest = all.entry(*id).or_insert(*at);
                *latest = (*latest).max(*at);
            }
            all
        });
    }
}

/// Learns who was deactivated, here or elsewhere, while tokens of theirs may be out. To be called
/// about every second.
///
/// # Errors
/// When PostgreSQL is away; what is known stays known.
pub async fn load(app: &App) -> Result<()> {
    let lifetime = SignedDuration::from_secs(app.tokens.lifetime_seconds().into()) + SLACK;
    let horizon = app.clock.now().checked_sub(lifetime).unwrap_or(Timestamp::MIN);
    let conn = app.db.get().await?;
    let new = account::deactivated_since(&conn, horizon).await?;
    app.revocations.change(&new, horizon);
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::account::UserRole;

    fn proof(user: u128, issued: i64) -> Proof {
        Proof {
            user_id: UserId(Uuid::from_u128(user)),
            role: UserRole::User,
            issued_at: Timestamp::from_second(issued).unwrap(),
        }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn voids_what_was_issued_before_and_nothing_else() {
        let revocations = Revocations::default();
        revocations.void(proof(1, 0).user_id, at(10_400));
        assert!(revocations.is_void(&proof(1, 9)));
        assert!(revocations.is_void(&proof(1, 10)));
        assert!(!revocations.is_void(&proof(1, 11)));
        assert!(!revocations.is_void(&proof(2, 9)));
    }

    #[test]
    fn a_load_that_began_earlier_does_not_undo_a_later_void() {
        let revocations = Revocations::default();
        revocations.void(proof(1, 0).user_id, at(10_000));
        revocations.change(&[(proof(2, 0).user_id, at(9_000))], at(5_000));
        assert!(revocations.is_void(&proof(1, 9)) && revocations.is_void(&proof(2, 9)));
        revocations.change(&[(proof(1, 0).user_id, at(7_000))], at(5_000));
        assert!(revocations.is_void(&proof(1, 9)), "the later time stays");
        revocations.change(&[], at(9_500));
        assert!(revocations.is_void(&proof(1, 9)) && !revocations.is_void(&proof(2, 9)));
    }
}
