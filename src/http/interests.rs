//! What people say of events and organizers: interests, ratings, follows.

use actix_web::{HttpResponse, delete, get, put, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::accounts::unchecked;
use super::body::Body;
use super::caller::{Authorized, ReadEvents, ReadProfile, WriteProfile};
use super::event_body::InterestBody;
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply;
use super::time::rfc3339;
use super::trace::Traced;
use crate::app::App;
use crate::app::interests::list::{InterestBy, InterestIn};
use crate::app::interests::{follow, list, rate, set};
use crate::domain::ids::{EventId, OrganizationId};
use crate::domain::interest::{Follow, Interest, InterestState, Privacy, Rating};
use crate::domain::refusal::{FieldError, FieldErrors};

/// Interests, ratings and follows.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(set_interest).service(withdraw_interest);
    cfg.service(own_interests).service(interests_in_event);
    cfg.service(rate_event).service(take_back_rating);
    cfg.service(follow_organization).service(unfollow_organization);
}

/// How much the caller is interested.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewInterest {
    /// `sure`, `maybe` or `interested`.
    #[schema(pattern = "^(sure|maybe|interested)$", example = "sure")]
    state: String,
    /// Who may know: `public` (everybody), `followers` (those who follow the caller) or `private`.
    /// Without it, what was chosen before stays; at first it is `public`. All are counted.
    #[schema(pattern = "^(public|followers|private)$", example = "public")]
    privacy: Option<String>,
}

impl NewInterest {
    fn parse(&self) -> Result<(InterestState, Option<Privacy>), Problem> {
        let mut errors = FieldErrors::default();
        let detail = "must be sure, maybe or interested";
        let wrong = || FieldError::new("/state", "unknown_state", detail);
        let state = errors.take(InterestState::parse(&self.state).ok_or_else(wrong));
        let detail = "must be public, followers or private";
        let wrong = || FieldError::new("/privacy", "unknown_privacy", detail);
        let privacy = self.privacy.as_deref();
        let privacy = privacy.and_then(|raw| errors.take(Privacy::parse(raw).ok_or_else(wrong)));
        errors.check()?;
        Ok((state.ok_or_else(unchecked)?, privacy))
    }
}

/// The caller's interest in an event.
#[derive(Serialize, ToSchema)]
struct OwnInterestBody {
    event_id: Uuid,
    user_id: Uuid,
    /// `sure`, `maybe` or `interested`.
    #[schema(value_type = Option<String>, example = "sure")]
    state: Option<&'static str>,
    /// `public`, `followers` or `private`.
    #[schema(value_type = String, example = "public")]
    privacy: &'static str,
    /// Rises by one with every change.
    version: i64,
    #[schema(format = "date-time")]
    changed_at: String,
}

impl From<&Interest> for OwnInterestBody {
    fn from(interest: &Interest) -> Self {
        Self {
            event_id: interest.event_id.0,
            user_id: interest.user_id.0,
            state: interest.state.map(InterestState::name),
            privacy: interest.privacy.name(),
            version: interest.version,
            changed_at: rfc3339(interest.changed_at),
        }
    }
}

/// One of the caller's interests, and the event that it is in.
#[derive(Serialize, ToSchema)]
struct ListedInterestBody {
    #[serde(flatten)]
    interest: OwnInterestBody,
    event_title: String,
    #[schema(format = "date-time")]
    event_starts_at: String,
    /// `published`, `cancelled` or `completed`.
    #[schema(value_type = String, example = "published")]
    event_status: &'static str,
}

impl From<InterestIn> for ListedInterestBody {
    fn from(one: InterestIn) -> Self {
        Self {
            interest: OwnInterestBody::from(&one.interest),
            event_title: one.event_title,
            event_starts_at: rfc3339(one.event_starts_at),
            event_status: one.event_status.name(),
        }
    }
}

/// Somebody who is interested, and lets everybody know it.
#[derive(Serialize, ToSchema)]
struct PublicInterestBody {
    user_id: Uuid,
    user_name: String,
    /// `sure`, `maybe` or `interested`.
    #[schema(value_type = Option<String>, example = "sure")]
    state: Option<&'static str>,
    #[schema(format = "date-time")]
    changed_at: String,
}

impl From<InterestBy> for PublicInterestBody {
    fn from(one: InterestBy) -> Self {
        Self {
            user_id: one.interest.user_id.0,
            user_name: one.user_name,
            state: one.interest.state.map(InterestState::name),
            changed_at: rfc3339(one.interest.changed_at),
        }
    }
}

/// Who is interested in an event.
#[derive(Serialize, ToSchema)]
struct InterestsBody {
    /// How many, whether everybody may know of them or not; a moment behind.
    counts: InterestBody,
    /// Those of whom everybody may know.
    items: Vec<PublicInterestBody>,
    /// Where the next page starts; null on the last one.
    next_cursor: Option<String>,
}

/// A rating to be given.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRating {
    /// From 1 to 5.
    #[schema(minimum = 1, maximum = 5, example = 5)]
    rating: i64,
}

/// The caller's rating of an event.
#[derive(Serialize, ToSchema)]
struct RatingBody {
    event_id: Uuid,
    user_id: Uuid,
    /// From 1 to 5.
    rating: Option<i32>,
    /// Rises by one with every change.
    version: i64,
    #[schema(format = "date-time")]
    changed_at: String,
}

impl From<&Rating> for RatingBody {
    fn from(rated: &Rating) -> Self {
        Self {
            event_id: rated.event_id.0,
            user_id: rated.user_id.0,
            rating: rated.rating,
            version: rated.version,
            changed_at: rfc3339(rated.changed_at),
        }
    }
}

/// That the caller follows an organization.
#[derive(Serialize, ToSchema)]
struct OrganizationFollowBody {
    organization_id: Uuid,
    user_id: Uuid,
    following: bool,
    /// Rises by one with every change.
    version: i64,
    #[schema(format = "date-time")]
    changed_at: String,
}

impl From<&Follow> for OrganizationFollowBody {
    fn from(follow: &Follow) -> Self {
        Self {
            organization_id: follow.organization_id.0,
            user_id: follow.user_id.0,
            following: follow.following,
            version: follow.version,
            changed_at: rfc3339(follow.changed_at),
        }
    }
}

/// Says how much the caller is interested in an event. The same again changes nothing.
#[utoipa::path(tag = "interests", request_body = NewInterest,
    params(("id" = Uuid, Path, description = "Which event")),
    responses((status = 200, description = "The interest", body = OwnInterestBody)))]
#[put("/events/{id}/interest")]
async fn set_interest(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: Body<NewInterest>,
) -> Result<HttpResponse, Problem> {
    let (id, wish) = (EventId(id.into_inner()), body.read()?.parse()?);
    let interest = set::set(&app, &authorized.caller, &origin, id, wish).await?;
    Ok(reply::send(reply::ok(&OwnInterestBody::from(&interest))))
}

/// Withdraws the caller's interest in an event, if there is one.
#[utoipa::path(tag = "interests",
    params(("id" = Uuid, Path, description = "Which event")),
    responses((status = 204, description = "The caller is not interested")))]
#[delete("/events/{id}/interest")]
async fn withdraw_interest(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    set::withdraw(&app, &authorized.caller, &origin, EventId(id.into_inner())).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What the caller is interested in, the last changed first.
#[utoipa::path(tag = "interests", params(PageQuery),
    responses((status = 200, description = "A page of interests",
               body = PageBody<ListedInterestBody>)))]
#[get("/me/interests")]
async fn own_interests(
    authorized: Authorized<ReadProfile>,
    app: web::Data<App>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let (limit, after) = (page.limit(&mut errors), page.after(&mut errors, list::place));
    errors.check()?;
    let page = list::mine(&app, &authorized.caller, after, limit).await?;
    Ok(reply::send(reply::ok(&PageBody::of(page, ListedInterestBody::from))))
}

/// Who is interested in an event: all are counted, those are named of whom everybody may know.
#[utoipa::path(tag = "interests",
    params(("id" = Uuid, Path, description = "Which event"), PageQuery),
    responses((status = 200, description = "Counts, and a page of people", body = InterestsBody)))]
#[get("/events/{id}/interests")]
async fn interests_in_event(
    authorized: Authorized<ReadEvents>,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let (limit, after) = (page.limit(&mut errors), page.after(&mut errors, list::place));
    errors.check()?;
    let (id, caller) = (EventId(id.into_inner()), &authorized.caller);
    let (counts, page) = list::of_event(&app, caller, id, after, limit).await?;
    let PageBody { items, next_cursor } = PageBody::of(page, PublicInterestBody::from);
    let body = InterestsBody { counts: counts.into(), items, next_cursor };
    Ok(reply::send(reply::ok(&body)))
}

/// Rates an event. The same again changes nothing.
#[utoipa::path(tag = "interests", request_body = NewRating,
    params(("id" = Uuid, Path, description = "Which event")),
    responses((status = 200, description = "The rating", body = RatingBody)))]
#[put("/events/{id}/rating")]
async fn rate_event(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: Body<NewRating>,
) -> Result<HttpResponse, Problem> {
    let (id, sent) = (EventId(id.into_inner()), body.read()?);
    let mut errors = FieldErrors::default();
    let wrong = || FieldError::new("/rating", "out_of_range", "must be 1 to 5");
    let stars = i32::try_from(sent.rating).ok().filter(|stars| (1..=5).contains(stars));
    let stars = errors.take(stars.ok_or_else(wrong));
    errors.check()?;
    let stars = stars.ok_or_else(unchecked)?;
    let rated = rate::rate(&app, &authorized.caller, &origin, id, stars).await?;
    Ok(reply::send(reply::ok(&RatingBody::from(&rated))))
}

/// Takes the caller's rating of an event back, if there is one.
#[utoipa::path(tag = "interests",
    params(("id" = Uuid, Path, description = "Which event")),
    responses((status = 204, description = "The caller has not rated it")))]
#[delete("/events/{id}/rating")]
async fn take_back_rating(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    rate::take_back(&app, &authorized.caller, &origin, EventId(id.into_inner())).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Follows an organization: the caller is told who else is interested in those of its events that
/// interest them.
#[utoipa::path(tag = "interests",
    params(("id" = Uuid, Path, description = "Which organization")),
    responses((status = 200, description = "The caller follows it",
               body = OrganizationFollowBody)))]
#[put("/organizations/{id}/follow")]
async fn follow_organization(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let (id, caller) = (OrganizationId(id.into_inner()), &authorized.caller);
    let follow = follow::follow(&app, caller, &origin, id).await?;
    Ok(reply::send(reply::ok(&OrganizationFollowBody::from(&follow))))
}

/// Follows an organization no more.
#[utoipa::path(tag = "interests",
    params(("id" = Uuid, Path, description = "Which organization")),
    responses((status = 204, description = "The caller does not follow it")))]
#[delete("/organizations/{id}/follow")]
async fn unfollow_organization(
    authorized: Authorized<WriteProfile>,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let (id, caller) = (OrganizationId(id.into_inner()), &authorized.caller);
    follow::unfollow(&app, caller, &origin, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
