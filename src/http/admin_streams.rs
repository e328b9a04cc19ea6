//! What operators see of the bus: its types with their rules, and a door for publishing by hand.

use std::time::Duration;

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
use crate::app::messages::streams::{self, GroupLive, TypeState};
use crate::app::once::{Reply, once};
use crate::app::{self, App};
use crate::domain::refusal::Refusal;

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
    /// Which broker keeps them now: `redis`, `nats` or `memory`.
    provider: &'static str,
    /// Messages on them; null when the broker is away.
    length: Option<u64>,
    /// Messages that the slowest group has not been given yet; null when the broker is away.
    lag: Option<u64>,
    /// Messages that were given to groups and are not acknowledged; null when the broker is away.
    pending: Option<u64>,
    /// How long ago the oldest message was stored that a group has not acknowledged, in
    /// milliseconds; null: all are, or the broker is away.
    oldest_age_ms: Option<u64>,
    /// Who reads them.
    groups: Vec<GroupBody>,
}

/// How one group is with a type's streams, all shards together.
#[derive(Serialize, ToSchema)]
struct GroupBody {
    #[schema(example = "user_interactions")]
    name: &'static str,
    /// Not given to it yet.
    lag: u64,
    /// Given to it and not acknowledged, those that wait to be retried included.
    pending: u64,
    /// How long ago the oldest message was stored that it has not acknowledged, in milliseconds.
    oldest_age_ms: Option<u64>,
    /// Consumers that the broker knows of.
    consumers: u64,
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

/// Every type of message, with its schema, its rules, and how its streams are.
#[utoipa::path(tag = "operations",
    responses((status = 200, description = "All types, on one page", body = PageBody<StreamBody>)))]
#[get("/admin/streams")]
async fn list(
    _authorized: Authorized<Operate>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let provider = streams::provider(&app);
    let page = app::Page { items: streams::all(&app).await, next: None };
    Ok(reply::send(reply::ok(&PageBody::of(page, |state| StreamBody::of(provider, state)))))
}

/// One type of message, and how its streams are.
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
    let state = streams::one(&app, kind).await;
    Ok(reply::send(reply::ok(&StreamBody::of(streams::provider(&app), state))))
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

impl StreamBody {
    fn of(provider: &'static str, state: TypeState) -> Self {
        let TypeState { kind, redis, nats, live } = state;
        let names = redis.into_iter().zip(nats).zip(0..);
        let streams = names.map(|((redis, nats), shard)| NamesBody { shard, redis, nats });
        let live = live.as_ref();
        let groups = || live.into_iter().flat_map(|live| live.groups.values());
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
            streams: streams.collect(),
            provider,
            length: live.map(|live| live.length),
            lag: live.map(|_| groups().map(|group| group.lag).max().unwrap_or_default()),
            pending: live.map(|_| groups().map(|group| group.pending).sum()),
            oldest_age_ms: groups().filter_map(|group| group.oldest_age).max().map(whole_ms),
            groups: live.into_iter().flat_map(|live| &live.groups).map(GroupBody::from).collect(),
        }
    }
}

impl From<(&&'static str, &GroupLive)> for GroupBody {
    fn from((name, live): (&&'static str, &GroupLive)) -> Self {
        Self {
            name,
            lag: live.lag,
            pending: live.pending,
            oldest_age_ms: live.oldest_age.map(whole_ms),
            consumers: live.consumers,
        }
    }
}

fn whole_ms(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}
