//! Sign-up, sign-in, and one's own profile.
//!
//! The routes under `/auth` ignore `Idempotency-Key`: their answers are secrets, which are never
//! kept. Sent twice, a sign-up is refused as `email_taken`, and the person signs in.

use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::body::Body;
use super::caller::{Authorized, ReadProfile, WriteProfile};
use super::limits::Limits;
use super::problem::Problem;
use super::reply;
use super::time::rfc3339;
use super::trace::Traced;
use crate::app::accounts::change_profile::{self, Change};
use crate::app::accounts::register::{self, NewUser};
use crate::app::accounts::{Session, delete_account, login, logout, profile, refresh};
use crate::app::{App, Error};
use crate::domain::account::{self, User};
use crate::domain::refusal::FieldErrors;
use crate::domain::text;

/// Sign-up, sign-in and the profile.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(sign_up).service(sign_in).service(exchange).service(sign_out);
    cfg.service(me).service(change_me).service(delete_me);
}

/// Somebody who wants an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Registration {
    /// Unique; compared in lower case.
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// 8 to 128 characters.
    #[schema(format = "password", min_length = 8, max_length = 128)]
    password: String,
    /// As they want to be called.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
}

/// What proves a person.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Credentials {
    /// The account's address.
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// Its password.
    #[schema(format = "password")]
    password: String,
}

/// A refresh token, as the last sign-in or exchange gave it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshToken {
    /// Good for one exchange.
    refresh_token: String,
}

/// What to change of one's profile; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProfileChange {
    /// As they want to be called.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Needs `current_password`.
    #[schema(format = "email", max_length = 254)]
    email: Option<String>,
    /// The new one, 8 to 128 characters; needs `current_password` and ends all other sign-ins.
    #[schema(format = "password", min_length = 8, max_length = 128)]
    password: Option<String>,
    /// Proves that it is the account's owner who asks.
    #[schema(format = "password")]
    current_password: Option<String>,
}

/// A person, as they see themselves.
#[derive(Serialize, ToSchema)]
pub struct UserBody {
    id: Uuid,
    /// Shown to its owner and to admins only.
    email: String,
    name: String,
    #[schema(value_type = String, example = "user")]
    role: &'static str,
    #[schema(format = "date-time")]
    created_at: String,
    /// Rises with every change; also the `ETag`.
    version: i64,
}

impl From<&User> for UserBody {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.0,
            email: user.email.clone(),
            name: user.name.clone(),
            role: user.role.name(),
            created_at: rfc3339(user.created_at),
            version: user.version,
        }
    }
}

/// What a sign-in gives.
#[derive(Serialize, ToSchema)]
struct SessionBody {
    user: UserBody,
    /// For `Authorization: Bearer …`.
    access_token: String,
    /// For the next exchange; good once.
    refresh_token: String,
    /// How long the access token is good for, in seconds.
    expires_in: u32,
}

impl From<&Session> for SessionBody {
    fn from(session: &Session) -> Self {
        Self {
            user: UserBody::from(&session.user),
            access_token: session.access_token.clone(),
            refresh_token: session.refresh_token.clone(),
            expires_in: session.expires_in,
        }
    }
}

/// Signs up and in.
///
/// Takes no `Idempotency-Key`: the answer is a secret.
#[utoipa::path(tag = "accounts", request_body = Registration,
    responses((status = 201, description = "The account and its first sign-in",
               body = SessionBody, headers(("Location" = String)))))]
#[post("/auth/register")]
async fn sign_up(
    request: HttpRequest,
    app: web::Data<App>,
    limits: web::Data<Limits>,
    body: Body<Registration>,
) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let mut errors = FieldErrors::default();
    let email = errors.take(text::email("/email", &sent.email));
    let name = errors.take(text::line("/name", &sent.name, text::NAME_MAX));
    errors.take(account::password("/password", &sent.password));
    errors.check()?;
    let (Some(email), Some(name)) = (email, name) else { return Err(unchecked()) };
    limits.check_sign_in(&request, &email)?;
    let new = NewUser { email, name, password: sent.password };
    let session = register::register(&app, new).await?;
    Ok(reply::send(reply::created("/api/v1/me".to_owned(), &SessionBody::from(&session))))
}

/// Signs in.
///
/// Unknown address, closed account and wrong password get the same answer.
/// Takes no `Idempotency-Key`: the answer is a secret.
#[utoipa::path(tag = "accounts", request_body = Credentials,
    responses((status = 200, description = "A new sign-in", body = SessionBody)))]
#[post("/auth/login")]
async fn sign_in(
    request: HttpRequest,
    app: web::Data<App>,
    limits: web::Data<Limits>,
    body: Body<Credentials>,
) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let mut errors = FieldErrors::default();
    let email = errors.take(text::email("/email", &sent.email));
    errors.check()?;
    let Some(email) = email else { return Err(unchecked()) };
    limits.check_sign_in(&request, &email)?;
    let session = login::login(&app, &email, sent.password).await?;
    Ok(reply::send(reply::ok(&SessionBody::from(&session))))
}

/// Exchanges a refresh token for the next tokens.
///
/// Each token is good for one exchange; one that comes twice ends the whole sign-in.
/// Takes no `Idempotency-Key`: the answer is a secret.
#[utoipa::path(tag = "accounts", request_body = RefreshToken,
    responses((status = 200, description = "The next tokens", body = SessionBody)))]
#[post("/auth/refresh")]
async fn exchange(app: web::Data<App>, body: Body<RefreshToken>) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let session = refresh::refresh(&app, &sent.refresh_token).await?;
    Ok(reply::send(reply::ok(&SessionBody::from(&session))))
}

/// Ends a sign-in.
///
/// Needs no access token, and says the same of a token that was no good.
#[utoipa::path(tag = "accounts", request_body = RefreshToken,
    responses((status = 204, description = "The sign-in is over")))]
#[post("/auth/logout")]
async fn sign_out(app: web::Data<App>, body: Body<RefreshToken>) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    logout::logout(&app, &sent.refresh_token).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The caller's profile.
#[utoipa::path(tag = "accounts",
    responses((status = 200, description = "The profile", body = UserBody,
               headers(("ETag" = String)))))]
#[get("/me")]
async fn me(
    authorized: Authorized<ReadProfile>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let user = profile::read(&app, &authorized.caller).await?;
    Ok(reply::versioned(user.version, reply::ok(&UserBody::from(&user))))
}

/// Changes the caller's profile.
#[utoipa::path(tag = "accounts", request_body = ProfileChange,
    params(("If-Match" = Option<String>, Header, description = "The version it must still have")),
    responses((status = 200, description = "The profile as it is now", body = UserBody,
               headers(("ETag" = String)))))]
#[patch("/me")]
async fn change_me(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    request: HttpRequest,
    app: web::Data<App>,
    limits: web::Data<Limits>,
    body: Body<ProfileChange>,
) -> Result<HttpResponse, Problem> {
    let expected = reply::if_match(&request)?;
    let ProfileChange { name, email, password, current_password } = body.read()?;
    let mut errors = FieldErrors::default();
    let name = name.and_then(|raw| errors.take(text::line("/name", &raw, text::NAME_MAX)));
    let email = email.and_then(|raw| errors.take(text::email("/email", &raw)));
    if let Some(new) = &password {
        errors.take(account::password("/password", new));
    }
    errors.check()?;
    if current_password.is_some() {
        // Guessing the password here is no cheaper than at the sign-in.
        limits.check_sign_in(&request, &authorized.caller.user_id.to_string())?;
    }
    let change = Change { name, email, password, current_password };
    let (caller, app) = (&authorized.caller, app.get_ref());
    let user = change_profile::change(app, caller, &origin, change, expected).await?;
    Ok(reply::versioned(user.version, reply::ok(&UserBody::from(&user))))
}

/// Deletes the caller's account: it is made anonymous, its credentials are void at once, and its
/// bookings stay.
#[utoipa::path(tag = "accounts",
    responses((status = 204, description = "The account is gone")))]
#[delete("/me")]
async fn delete_me(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    delete_account::delete(&app, &authorized.caller, &origin).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `FieldErrors::check` passed although a field is missing: a mistake of ours.
pub(super) fn unchecked() -> Problem {
    Error::Fault(anyhow::anyhow!("a field was neither good nor refused")).into()
}
