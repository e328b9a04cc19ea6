//! Password hashing: argon2id on blocking threads, so many at once and so many in the queue, so
//! that a flood of sign-ins costs the sign-ins and nobody else (research/reliability.md, 47).

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::app::{Error, Result};
use crate::config;

/// Memory in KiB, passes and lanes (OWASP Password Storage Cheat Sheet).
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// Costs as much to verify as any other hash, and nobody's password has it.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$\
    AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes passwords on a bounded pool. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    /// One for each hash that is being computed or waits.
    places: Arc<Semaphore>,
    /// One for each hash that is being computed.
    running: Arc<Semaphore>,
}

impl Passwords {
    /// A pool with the configured bounds.
    pub fn new(config: &config::Auth) -> Self {
        let places = config.hashing_concurrency.saturating_add(config.hashing_queue);
        Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            running: Arc::new(Semaphore::new(config.hashing_concurrency)),
        }
    }

    /// The hash of a new password, as a PHC string with its own salt.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the queue is full.
    pub async fn hash(&self, password: String) -> Result<String> {
        self.work(move || {
            let hash = argon2()?.hash_password(password.as_bytes());
            Ok(hash.map_err(|error| anyhow!("a password cannot be hashed: {error}"))?.to_string())
        })
        .await
    }

    /// Whether the password has that hash. Without a hash (nobody has that address, or the
    /// account is gone) the same work is done, and the answer is no.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the queue is full.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        self.work(move || {
            let known = hash.as_deref().filter(|hash| !hash.is_empty());
            let parsed = PasswordHash::new(known.unwrap_or(NOBODYS))
                .map_err(|error| anyhow!("a stored password hash cannot be read: {error}"))?;
            let equal = argon2()?.verify_password(password.as_bytes(), &parsed).is_ok();
            Ok(equal && known.is_some())
        })
        .await
    }

    /// Runs `work` when it is its turn. Its permits go with it to the blocking thread, so that a
    /// caller who hangs up neither leaks one nor lets more than the bound run at once.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Error::unavailable("passwords"))?;
        let turn = Arc::clone(&self.running).acquire_owned().await;
        let turn = turn.map_err(|_| Error::unavailable("passwords"))?;
        let done = tokio::task::spawn_blocking(move || {
            let _until_done = (place, turn);
            work()
        });
        Ok(done.await.context("hashing a password was interrupted")??)
    }
}

fn argon2() -> anyhow::Result<Argon2<'static>> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None)
        .map_err(|error| anyhow!("argon2 does not take its parameters: {error}"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(concurrency: usize, queue: usize) -> Passwords {
        Passwords {
            places: Arc::new(Semaphore::new(concurrency + queue)),
            running: Arc::new(Semaphore::new(concurrency)),
        }
    }

    #[tokio::test]
    async fn only_the_right_password_has_the_hash() {
        let passwords = passwords(2, 8);
        let hash = passwords.hash("korrekt-häst".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let again = passwords.hash("korrekt-häst".to_owned()).await.unwrap();
        assert_ne!(hash, again, "each hash has its own salt");
        assert!(passwords.verify("korrekt-häst".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("korrekt-hast".to_owned(), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_and_the_anonymised_cost_the_same_and_are_refused() {
        let passwords = passwords(2, 8);
        assert!(!passwords.verify("anything".to_owned(), None).await.unwrap());
        assert!(!passwords.verify(String::new(), Some(String::new())).await.unwrap());
        let nobodys = PasswordHash::new(NOBODYS).unwrap();
        let params = Params::try_from(&nobodys).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), COST);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_lost_caller_leaks_nothing() {
        let passwords = passwords(1, 1);
        let work = |passwords: Passwords| async move { passwords.hash("x".repeat(8)).await };
        let mut running = Box::pin(work(passwords.clone()));
        let mut waiting = Box::pin(work(passwords.clone()));
        assert!(futures_util::poll!(running.as_mut()).is_pending());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let refused = work(passwords.clone()).await;
        assert!(matches!(refused, Err(Error::Unavailable { part: "passwords", .. })));
        drop((running, waiting));
        let after = tokio::time::timeout(std::time::Duration::from_secs(20), async {
            while passwords.places.available_permits() < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            work(passwords.clone()).await
        });
        assert!(after.await.unwrap().is_ok());
    }
}
