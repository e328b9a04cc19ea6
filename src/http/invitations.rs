//! Invitations into organisations: given by their organisers, answered by who is invited.

use actix_web::{HttpResponse, get, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::accounts::unchecked;
use super::body::Body;
use super::caller::{Authorized, ReadProfile, WriteEvents, WriteProfile};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, IdempotencyKey};
use super::time::rfc3339;
use super::trace::Traced;
use crate::app::once::{Answer, Reply, once};
use crate::app::organizations::answer::{self, Choice};
use crate::app::organizations::invite::invite;
use crate::app::{App, Origin};
use crate::domain::account::Caller;
use crate::domain::ids::{InvitationId, OrganizationId};
use crate::domain::organization::{self, Invitation};
use crate::domain::refusal::FieldErrors;
use crate::domain::text;

/// Everything about invitations.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(create).service(list).service(accept).service(decline);
}

/// Somebody to invite.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewInvitation {
    /// Whom; they need not have an account yet.
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// As what: `owner`, `organizer` or `member`.
    role: String,
}

/// Somebody asked to join.
#[derive(Serialize, ToSchema)]
struct InvitationBody {
    id: Uuid,
    organization_id: Uuid,
    email: String,
    #[schema(value_type = String, example = "organizer")]
    role: &'static str,
    /// `pending`, `accepted`, `declined` or `expired`.
    #[schema(value_type = String, example = "pending")]
    status: &'static str,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    expires_at: String,
}

impl From<&Invitation> for InvitationBody {
    fn from(invitation: &Invitation) -> Self {
        Self {
            id: invitation.id.0,
            organization_id: invitation.organization_id.0,
            email: invitation.email.clone(),
            role: invitation.role.name(),
            status: invitation.status.name(),
            created_at: rfc3339(invitation.created_at),
            expires_at: rfc3339(invitation.expires_at),
        }
    }
}

/// Invites somebody by e-mail address: organisers to what they are, owners also other owners.
#[utoipa::path(tag = "organizations", request_body = NewInvitation,
    params(("id" = Uuid, Path, description = "Into which organization"),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 201, description = "The invitation", body = InvitationBody,
               headers(("Location" = String)))))]
#[post("/organizations/{id}/invitations")]
async fn create(
    authorized: Authorized<WriteEvents>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: Body<NewInvitation>,
) -> Result<HttpResponse, Problem> {
    let sent = body.read()?;
    let mut errors = FieldErrors::default();
    let email = errors.take(text::email("/email", &sent.email));
    let role = errors.take(organization::role("/role", &sent.role));
    errors.check()?;
    let (Some(email), Some(role)) = (email, role) else { return Err(unchecked()) };
    let (id, caller) = (OrganizationId(id.into_inner()), &authorized.caller);
    let submission = key.submission(caller.user_id.0, &body.bytes);
    let verb = async |tx: &_| invite(&app, tx, caller, &origin, id, (email, role)).await;
    let answer = once(&app, submission.as_ref(), verb, reply::outcome(invited)).await?;
    if matches!(answer, Answer::Fresh(_)) {
        app.wakes.outbox_relay.ring();
    }
    Ok(reply::answer(answer, invited))
}

fn invited(made: &Invitation) -> Reply {
    // Who invited does not see it again by itself; who is invited finds it here.
    reply::created("/api/v1/me/invitations".to_owned(), &InvitationBody::from(made))
}

/// The invitations of the caller's e-mail address, newest first.
#[utoipa::path(tag = "organizations", params(PageQuery),
    responses((status = 200, description = "A page of invitations",
               body = PageBody<InvitationBody>)))]
#[get("/me/invitations")]
async fn list(
    authorized: Authorized<ReadProfile>,
    app: web::Data<App>,
    query: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (after, limit) = query.after_id()?;
    let page = answer::list(&app, &authorized.caller, after, limit).await?;
    let body = PageBody::of(page, |invitation| InvitationBody::from(&invitation));
    Ok(reply::send(reply::ok(&body)))
}

/// Joins the organisation with the role of the invitation.
#[utoipa::path(tag = "organizations",
    params(("id" = Uuid, Path, description = "Which invitation"),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, description = "The invitation, accepted", body = InvitationBody)))]
#[post("/invitations/{id}/accept")]
async fn accept(
    authorized: Authorized<WriteProfile>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let id = InvitationId(id.into_inner());
    give(&app, &authorized.caller, key, &origin, id, Choice::Accept).await
}

/// Turns the invitation down.
#[utoipa::path(tag = "organizations",
    params(("id" = Uuid, Path, description = "Which invitation"),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, description = "The invitation, declined", body = InvitationBody)))]
#[post("/invitations/{id}/decline")]
async fn decline(
    authorized: Authorized<WriteProfile>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let id = InvitationId(id.into_inner());
    give(&app, &authorized.caller, key, &origin, id, Choice::Decline).await
}

async fn give(
    app: &App,
    caller: &Caller,
    key: IdempotencyKey,
    origin: &Origin,
    id: InvitationId,
    choice: Choice,
) -> Result<HttpResponse, Problem> {
    let submission = key.submission(caller.user_id.0, b"");
    let verb = async |tx: &_| answer::answer(app, tx, caller, origin, id, choice).await;
    let answer = once(app, submission.as_ref(), verb, reply::outcome(answered)).await?;
    Ok(reply::answer(answer, answered))
}

fn answered(invitation: &Invitation) -> Reply {
    reply::ok(&InvitationBody::from(invitation))
}
