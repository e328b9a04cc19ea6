//! Looks again at who has open sockets: a socket may be open for days, and what its owner was when
//! it was opened may be true no more.

use std::collections::HashMap;

use crate::app::seat_rooms::member::Farewell;
use crate::app::{App, Result};
use crate::domain::ids::UserId;
use crate::postgres::account;

/// Most people in one question.
const CHUNK: usize = 1_000;

/// Sends away the sockets of people whose credentials were voided. Asks nobody.
pub fn check_revoked(app: &App) {
    for user in app.rooms.users() {
        if app.revocations.is_deactivated(user) {
            dismiss(app, user);
        }
    }
}

/// Sends away the sockets of people who have no account any more, notes the roles of the others,
/// and has all who watch a draft look whether they still may.
///
/// # Errors
/// When PostgreSQL is away; then it is left for the next time.
pub async fn check_roles(app: &App) -> Result<()> {
    let users = app.rooms.users();
    for chunk in users.chunks(CHUNK) {
        let conn = app.db.get().await?;
        let roles: HashMap<UserId, _> = account::roles(&conn, chunk).await?.into_iter().collect();
        drop(conn);
        for user in chunk {
            let Some(role) = roles.get(user) else {
                dismiss(app, *user);
                continue;
            };
            for member in app.rooms.of(*user) {
                if member.caller().is_some_and(|caller| caller.role != *role) {
                    member.promote(*role);
                }
            }
        }
    }
    for room in app.rooms.all() {
        if !room.is_public() {
            room.review();
        }
    }
    Ok(())
}

fn dismiss(app: &App, user: UserId) {
    for member in app.rooms.of(user) {
        member.dismiss(Farewell::Revoked);
    }
}
