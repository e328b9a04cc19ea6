//! Keys that stand for their owner in programs.

use actix_web::{HttpResponse, delete, get, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::accounts::unchecked;
use super::body::Body;
use super::caller::{Authorized, ReadProfile, WriteProfile};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply;
use super::time::{self, rfc3339};
use super::trace::Traced;
use crate::app::App;
use crate::app::accounts::api_keys::{self, NewApiKey};
use crate::domain::account::{self, ApiKey};
use crate::domain::ids::ApiKeyId;
use crate::domain::refusal::{FieldError, FieldErrors};
use crate::domain::text;

/// Everything about API keys.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(create).service(list).service(revoke);
}

/// A key to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// What its owner calls it.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// What it may be used for: `profile:read`, `profile:write`, `events:read`, `events:write`,
    /// `bookings:read`, `bookings:write`, `admin`.
    #[schema(min_items = 1, max_items = 7)]
    scopes: Vec<String>,
    /// Until when; without it, until revoked.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// A key without its secret.
#[derive(Serialize, ToSchema)]
struct KeyBody {
    id: Uuid,
    name: String,
    /// Its first characters, to tell keys apart.
    prefix: String,
    #[schema(value_type = Vec<String>)]
    scopes: Vec<&'static str>,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// A key just made.
#[derive(Serialize, ToSchema)]
struct NewKeyBody {
    #[serde(flatten)]
    shown: KeyBody,
    /// For `Authorization: Bearer …`. Shown now and never again.
    key: String,
}

impl From<&ApiKey> for KeyBody {
    fn from(key: &ApiKey) -> Self {
        Self {
            id: key.id.0,
            name: key.name.clone(),
            prefix: key.prefix.clone(),
            scopes: key.scopes.iter().map(|scope| scope.name()).collect(),
            created_at: rfc3339(key.created_at),
            expires_at: key.expires_at.map(rfc3339),
        }
    }
}

/// Makes a key.
///
/// Takes no `Idempotency-Key`: the answer is a secret. A key cannot make keys.
#[utoipa::path(tag = "accounts", request_body = NewKey,
    responses((status = 201, description = "The key, shown once", body = NewKeyBody,
               headers(("Location" = String)))))]
#[post("/me/api-keys")]
async fn create(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    app: web::Data<App>,
    body: Body<NewKey>,
) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let mut errors = FieldErrors::default();
    let name = errors.take(text::line("/name", &sent.name, text::NAME_MAX));
    let scopes = match account::scopes("/scopes", &sent.scopes) {
        Ok(scopes) => scopes,
        Err(wrong) => {
            for error in wrong {
                errors.push(error);
            }
            Vec::new()
        }
    };
    let expires_at = sent.expires_at.as_deref().and_then(|raw| {
        let at = errors.take(time::parse("/expires_at", raw))?;
        if at <= app.clock.now() {
            errors.push(FieldError::new("/expires_at", "in_the_past", "must be in the future"));
        }
        Some(at)
    });
    errors.check()?;
    let Some(name) = name else { return Err(unchecked()) };
    let new = NewApiKey { name, scopes, expires_at };
    let (key, secret) = api_keys::create(&app, &authorized.caller, &origin, new).await?;
    let location = format!("/api/v1/me/api-keys/{}", key.id);
    let body = NewKeyBody { shown: KeyBody::from(&key), key: secret };
    Ok(reply::send(reply::created(location, &body)))
}

/// The caller's keys, newest first, without their secrets.
#[utoipa::path(tag = "accounts", params(PageQuery),
    responses((status = 200, description = "A page of keys", body = PageBody<KeyBody>)))]
#[get("/me/api-keys")]
async fn list(
    authorized: Authorized<ReadProfile>,
    app: web::Data<App>,
    query: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (after, limit) = query.after_id()?;
    let page = api_keys::list(&app, &authorized.caller, after, limit).await?;
    Ok(reply::send(reply::ok(&PageBody::of(page, |key| KeyBody::from(&key)))))
}

/// Revokes a key for good.
#[utoipa::path(tag = "accounts",
    params(("id" = Uuid, Path, description = "Which key")),
    responses((status = 204, description = "The key opens nothing any more")))]
#[delete("/me/api-keys/{id}")]
async fn revoke(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let id = ApiKeyId(id.into_inner());
    api_keys::revoke(&app, &authorized.caller, &origin, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
