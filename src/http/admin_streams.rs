//! What operators see of the bus: its types with their rules, and a door for publishing by hand.

use actix_web::{HttpResponse, get, post, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::body::Body;
use super::caller::{Authorized, Operate};
use super::page::PageBody;
use super::problem::Problem;
use super::reply::{self, IdempotencyKey};
use super::trace::Traced;
use crate::app::messages::publish::{self, Accepted};
use crate::app::once::{Reply, once};
use crate::app::{self, App};
use crate::domain::refusal::Refusal;
use crate::domain::stream_type::StreamType;

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list).service(show).service(publish_one);
}

/// A type of message and its rules.
#[derive(Serialize, ToSchema)]
struct StreamBody {
    /// `resource.action`.
    #[serde(rename = "type")]
    #[schema(example = "interest.changed")]
    kind: &'static str,
    /// What it tells.
    description: &'static str,
    /// The version that is published now.
    version: u32,
    /// Every version that consumers take, the newest first.
    versions: Vec<u32>,
    /// JSON Schema (2020-12) of the data in the current version.
    #[schema(value_type = Object)]
    schema: Value,
    /// Who may publish it; `operator` is who calls this API.
    publishers: Vec<&'static str>,
    /// How long streams keep it. What a group has not acknowledged stays longer.
    retention_hours: u32,
    /// JSON pointer to the member of the data by which order is kept.
    partition_key: &'static str,
    /// Over how many streams it is spread.
    shards: u16,
    /// JSON pointers to the members that travel encrypted.
    encrypted: &'static [&'static str],
    /// Operators are told at once when one cannot be published.
    critical: bool,
    /// Its streams by provider, one a shard.
    streams: Vec<NamesBody>,
}

/// What one shard is called.
#[derive(Serialize, ToSchema)]
struct NamesBody {
    shard: u16,
    /// The Redis stream.
    #[schema(example = "newEveInters")]
    redis: String,
    /// The NATS subject.
    #[schema(example = "events.interest.changed")]
    nats: String,
}

/// A message to publish.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PublishRequest {
    /// What its type says; see `schema` of the type.
    #[schema(value_type = Object)]
    data: Value,
}

/// A message on its way.
#[derive(Serialize, ToSchema)]
struct PublishedBody {
    /// The message's id for good.
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    /// The version of its schema.
    version: u32,
    /// Messages that have it in common keep their order.
    partition_key: String,
    /// By which its whole life can be looked up.
    correlation_id: String,
}

/// Every type of message, with its schema and its rules.
#[utoipa::path(tag = "operations",
    responses((status = 200, description = "All types, on one page", body = PageBody<StreamBody>)))]
#[get("/admin/streams")]
async fn list(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let page = app::Page { items: app.registry.types().collect(), next: None };
    Ok(reply::send(reply::ok(&PageBody::of(page, StreamBody::from))))
}

/// One type of message.
#[utoipa::path(tag = "operations",
    params(("type" = String, Path, description = "Its name, e.g. `interest.changed`")),
    responses((status = 200, description = "The type", body = StreamBody)))]
#[get("/admin/streams/{type}")]
async fn show(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
    kind: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let kind = app.registry.find(&kind).ok_or(Refusal::UnknownType)?;
    Ok(reply::send(reply::ok(&StreamBody::from(kind))))
}

/// Publishes a message by hand, if operators may publish its type and the data fits its schema.
/// Accepted means kept: it leaves for the broker at once, or as soon as that is back.
#[utoipa::path(tag = "operations", request_body = PublishRequest,
    params(("type" = String, Path, description = "Its type, e.g. `interest.changed`")),
    responses((status = 201, description = "It is on its way", body = PublishedBody)))]
#[post("/admin/streams/{type}/messages")]
async fn publish_one(
    authorized: Authorized<Operate>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    kind: web::Path<String>,
    body: Body<PublishRequest>,
) -> Result<HttpResponse, Problem> {
    if app.registry.find(&kind).is_none() {
        return Err(Refusal::UnknownType.into());
    }
    let PublishRequest { data } = body.read()?;
    let actor = authorized.caller.user_id;
    let submission = key.submission(actor.0, &body.bytes);
    let verb = async |tx: &_| publish::by_hand(&app, tx, actor, &origin, &kind, data).await;
    let answer = once(&app, submission.as_ref(), verb, reply::outcome(accepted)).await?;
    app.wakes.bus_relay.ring();
    Ok(reply::answer(answer, accepted))
}

fn accepted(message: &Accepted) -> Reply {
    let location = format!("/api/v1/admin/trace/{}", message.correlation_id);
    let body = PublishedBody {
        id: message.id.0,
        kind: message.kind.clone(),
        version: message.version,
        partition_key: message.partition_key.clone(),
        correlation_id: message.correlation_id.clone(),
    };
    reply::created(location, &body)
}

impl From<&StreamType> for StreamBody {
    fn from(kind: &StreamType) -> Self {
        let names = |shard| NamesBody {
            shard,
            redis: kind.redis_stream(shard),
            nats: kind.nats_subject(shard),
        };
        Self {
            kind: kind.name,
            description: kind.about,
            version: kind.version(),
            versions: kind.schemas().map(|schema| schema.version).collect(),
            schema: serde_json::from_str(kind.schema.text).unwrap_or_default(),
            publishers: kind.publishers.iter().map(|publisher| publisher.name()).collect(),
            retention_hours: kind.retention_hours,
            partition_key: kind.partition_key,
            shards: kind.shards,
            encrypted: kind.encrypted,
            critical: kind.critical,
            streams: (0..kind.shards).map(names).collect(),
        }
    }
}
