//! Sign-in with e-mail address and password: equal work and an equal answer whether the address
//! is unknown, the account is gone, or the password is wrong.

use super::{Session, session};
use crate::app::once::transaction;
use crate::app::{App, Result};
use crate::domain::account::DEMO_PASSWORD;
use crate::domain::refusal::Refusal;
use crate::postgres::account;

/// Signs a person in.
///
/// # Errors
/// [`Refusal::WrongCredentials`].
pub async fn login(app: &App, email: &str, password: String) -> Result<Session> {
    // The connection goes back before the hash is computed.
    let found = account::find_by_email(&*app.db.get().await?, email).await?;
    // Everybody knows the demo's password.
    let too_well_known = password == DEMO_PASSWORD && !app.config.demo;
    let hash = found.as_ref().map(|found| found.password_hash.clone());
    let right = app.passwords.verify(password, hash).await? && !too_well_known;
    let Some(found) = found.filter(|_| right) else {
        metrics::counter!("sign_ins_total", "outcome" => "refused").increment(1);
        tracing::info!("a sign-in was refused");
        return Err(Refusal::WrongCredentials.into());
    };
    let session = transaction(app, async |tx| {
        // Gone or changed while the hash was computed: then the proof is of the past.
        let locked = account::lock(tx, found.user.id).await?;
        let current = locked.filter(|locked| locked.password_hash == found.password_hash);
        let user = current.ok_or(Refusal::WrongCredentials)?.user;
        session::open(app, tx, user, app.clock.now()).await
    })
    .await?;
    metrics::counter!("sign_ins_total", "outcome" => "signed_in").increment(1);
    Ok(session)
}
