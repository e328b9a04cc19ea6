//! Organisations and their members.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::accounts::unchecked;
use super::body::Body;
use super::caller::{Authorized, ReadProfile, WriteEvents};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, IdempotencyKey};
use super::time::rfc3339;
use super::trace::Traced;
use crate::app::App;
use crate::app::once::{Reply, once, transaction};
use crate::app::organizations::{create, members, read};
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::organization::{self, MemberRole, Membership, Organization};
use crate::domain::refusal::FieldErrors;
use crate::domain::text;

/// Organisations and their members.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(found).service(list).service(get);
    cfg.service(list_members).service(change_member).service(remove_member);
}

/// An organisation to found.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewOrganization {
    /// What it is called.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Its name in addresses; without it, one is made of the name.
    #[schema(max_length = 63, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    slug: Option<String>,
}

/// What a member is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RoleChange {
    /// `owner`, `organizer` or `member`.
    role: String,
}

/// A group of people who hold events.
#[derive(Serialize, ToSchema)]
struct OrganizationBody {
    id: Uuid,
    name: String,
    slug: String,
    /// The caller's role in it; null for an admin who does not belong to it.
    #[schema(value_type = Option<String>, example = "owner")]
    role: Option<&'static str>,
    #[schema(format = "date-time")]
    created_at: String,
    version: i64,
}

impl OrganizationBody {
    fn of(organization: &Organization, role: Option<MemberRole>) -> Self {
        Self {
            id: organization.id.0,
            name: organization.name.clone(),
            slug: organization.slug.clone(),
            role: role.map(MemberRole::name),
            created_at: rfc3339(organization.created_at),
            version: organization.version,
        }
    }
}

/// Somebody's place in an organisation.
#[derive(Serialize, ToSchema)]
struct MemberBody {
    user_id: Uuid,
    name: String,
    #[schema(value_type = String, example = "organizer")]
    role: &'static str,
    /// Since when they belong to it.
    #[schema(format = "date-time")]
    created_at: String,
}

impl From<&Membership> for MemberBody {
    fn from(member: &Membership) -> Self {
        Self {
            user_id: member.user_id.0,
            name: member.name.clone(),
            role: member.role.name(),
            created_at: rfc3339(member.created_at),
        }
    }
}

/// Founds an organisation, whose owner the caller becomes.
#[utoipa::path(tag = "organizations", request_body = NewOrganization,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 201, description = "The organization", body = OrganizationBody,
               headers(("Location" = String)))))]
#[post("/organizations")]
async fn found(
    authorized: Authorized<WriteEvents>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    body: Body<NewOrganization>,
) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let mut errors = FieldErrors::default();
    let name = errors.take(text::line("/name", &sent.name, text::NAME_MAX));
    let slug = sent.slug.as_deref();
    let slug = slug.and_then(|raw| errors.take(organization::slug("/slug", raw)));
    errors.check()?;
    let Some(name) = name else { return Err(unchecked()) };
    let (new, caller) = (create::NewOrganization { name, slug }, &authorized.caller);
    let submission = key.submission(caller.user_id.0, &body.bytes);
    let verb = async |tx: &_| create::create(&app, tx, caller, &origin, new).await;
    let answer = once(&app, submission.as_ref(), verb, reply::outcome(founded)).await?;
    Ok(reply::answer(answer, founded))
}

fn founded(made: &Organization) -> Reply {
    let location = format!("/api/v1/organizations/{}", made.id);
    reply::created(location, &OrganizationBody::of(made, Some(MemberRole::Owner)))
}

/// The caller's organisations, oldest first.
#[utoipa::path(tag = "organizations", params(PageQuery),
    responses((status = 200, description = "A page of organizations",
               body = PageBody<OrganizationBody>)))]
#[get("/organizations")]
async fn list(
    authorized: Authorized<ReadProfile>,
    app: web::Data<App>,
    query: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (after, limit) = query.after_id()?;
    let page = read::list(&app, &authorized.caller, after, limit).await?;
    let body = PageBody::of(page, |(one, role)| OrganizationBody::of(&one, role));
    Ok(reply::send(reply::ok(&body)))
}

/// One organisation, to its members and to admins.
#[utoipa::path(tag = "organizations",
    params(("id" = Uuid, Path, description = "Which organization")),
    responses((status = 200, description = "The organization", body = OrganizationBody,
               headers(("ETag" = String)))))]
#[get("/organizations/{id}")]
async fn get(
    authorized: Authorized<ReadProfile>,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let id = OrganizationId(id.into_inner());
    let (seen, role) = read::get(&app, &authorized.caller, id).await?;
    let body = OrganizationBody::of(&seen, role);
    Ok(reply::versioned(seen.version, reply::ok(&body)))
}

/// Who belongs to the organisation.
#[utoipa::path(tag = "organizations",
    params(("id" = Uuid, Path, description = "Which organization"), PageQuery),
    responses((status = 200, description = "A page of members", body = PageBody<MemberBody>)))]
#[get("/organizations/{id}/members")]
async fn list_members(
    authorized: Authorized<ReadProfile>,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    query: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (after, limit) = query.after_id()?;
    let id = OrganizationId(id.into_inner());
    let page = read::members(&app, &authorized.caller, id, after, limit).await?;
    let body = PageBody::of(page, |member| MemberBody::from(&member));
    Ok(reply::send(reply::ok(&body)))
}

/// Gives a member another role; owners may.
#[utoipa::path(tag = "organizations", request_body = RoleChange,
    params(("id" = Uuid, Path, description = "Which organization"),
           ("user_id" = Uuid, Path, description = "Which member")),
    responses((status = 200, description = "The member as they are now", body = MemberBody)))]
#[patch("/organizations/{id}/members/{user_id}")]
async fn change_member(
    authorized: Authorized<WriteEvents>,
    Traced(origin): Traced,
    app: web::Data<App>,
    path: web::Path<(Uuid, Uuid)>,
    body: Body<RoleChange>,
) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let role = organization::role("/role", &sent.role);
    let mut errors = FieldErrors::default();
    let role = errors.take(role);
    errors.check()?;
    let Some(role) = role else { return Err(unchecked()) };
    let (place, caller) = (place(path), &authorized.caller);
    let member = transaction(&app, async |tx| {
        members::change_role(&app, tx, caller, &origin, place, role).await
    })
    .await?;
    Ok(reply::send(reply::ok(&MemberBody::from(&member))))
}

/// Removes a member: owners anybody, everybody themselves.
#[utoipa::path(tag = "organizations",
    params(("id" = Uuid, Path, description = "Which organization"),
           ("user_id" = Uuid, Path, description = "Which member")),
    responses((status = 204, description = "They do not belong to it any more")))]
#[delete("/organizations/{id}/members/{user_id}")]
async fn remove_member(
    authorized: Authorized<WriteEvents>,
    Traced(origin): Traced,
    app: web::Data<App>,
    path: web::Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, Problem> {
    let (place, caller) = (place(path), &authorized.caller);
    transaction(&app, async |tx| members::remove(&app, tx, caller, &origin, place).await).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn place(path: web::Path<(Uuid, Uuid)>) -> (OrganizationId, UserId) {
    let (id, user_id) = path.into_inner();
    (OrganizationId(id), UserId(user_id))
}
