//! The messages describe themselves: an AsyncAPI 3 document and the schema of each version, made
//! of the registry once. The types are a closed list, so neither changes while we run.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, ResponseError as _, web};
use serde_json::{Map, Value, json};

use super::problem::Problem;
use crate::app::messages::registry::Registry;
use crate::domain::refusal::Refusal;
use crate::domain::stream_type::{Schema, StreamType};

/// The media type of a JSON Schema.
const SCHEMA_MEDIA: &str = "application/schema+json";
/// What travels: CloudEvents in their JSON form.
const MESSAGE_MEDIA: &str = "application/cloudevents+json";
/// What is said of the messages as a whole.
const ABOUT: &str = "Facts that Happening tells. Each is a CloudEvent (1.0, JSON): on Redis the \
    field `data` of a stream's entry, on NATS the body of a JetStream message with its id in \
    `Nats-Msg-Id`. Messages of one partition key keep their order; each may come more than once \
    and is known by its id. Members marked `x-sealed` travel encrypted (AES-256-GCM, bound to \
    message and place). Operators publish by `POST /api/v1/admin/streams/{type}/messages`.";

/// The document and the schemas, ready to be sent.
pub struct Messages {
    document: web::Bytes,
    schemas: HashMap<String, web::Bytes>,
}

impl Messages {
    /// Describes all types.
    pub fn new(registry: &Registry) -> Self {
        let mut schemas = HashMap::new();
        for kind in registry.types() {
            for schema in kind.schemas() {
                let text = web::Bytes::from_static(schema.text.as_bytes());
                schemas.insert(kind.data_schema(schema.version), text);
            }
        }
        let document = serde_json::to_vec(&document(registry)).unwrap_or_default();
        Self { document: document.into(), schemas }
    }
}

/// The routes, which stand at the root beside the OpenAPI document.
pub fn pages(cfg: &mut web::ServiceConfig) {
    cfg.route("/asyncapi.json", web::get().to(asyncapi))
        .route("/schemas/{type}/{version}", web::get().to(schema));
}

async fn asyncapi(messages: web::Data<Messages>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(messages.document.clone())
}

async fn schema(messages: web::Data<Messages>, request: HttpRequest) -> HttpResponse {
    match messages.schemas.get(request.path()) {
        Some(text) => HttpResponse::Ok().content_type(SCHEMA_MEDIA).body(text.clone()),
        None => Problem::from(Refusal::NotFound("schema")).error_response(),
    }
}

fn document(registry: &Registry) -> Value {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    schemas.insert("envelope".to_owned(), envelope());
    for kind in registry.types() {
        messages.insert(kind.name.to_owned(), message(kind));
        for schema in kind.schemas() {
            schemas.insert(schema_name(kind, schema), wire(kind, schema));
        }
        for shard in 0..kind.shards {
            for (server, address) in
                [("redis", kind.redis_stream(shard)), ("nats", kind.nats_subject(shard))]
            {
                let id = match shard {
                    0 => format!("{server}.{}", kind.name),
                    shard => format!("{server}.{}.{shard}", kind.name),
                };
                for (action, verb) in [("send", "publish"), ("receive", "consume")] {
                    let operation = operation(kind, &id, action);
                    operations.insert(format!("{verb}.{id}"), operation);
                }
                channels.insert(id, channel(kind, server, &address));
            }
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Happening",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": MESSAGE_MEDIA,
        "servers": {
            "redis": server("redis", "Redis Streams, the default (`bus.provider`).", "6379"),
            "nats": server("nats", "NATS JetStream (`bus.provider`).", "4222"),
        },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    })
}

/// Where a broker is only its operator knows: the document says no more than how it is spoken to.
fn server(protocol: &str, about: &str, port: &str) -> Value {
    json!({
        "host": "{host}:{port}",
        "protocol": protocol,
        "description": about,
        "variables": {
            "host": { "default": "localhost", "description": "Its address." },
            "port": { "default": port, "description": "Its port." },
        },
    })
}

fn channel(kind: &StreamType, server: &str, address: &str) -> Value {
    json!({
        "address": address,
        "title": kind.name,
        "description": kind.about,
        "servers": [{ "$ref": format!("#/servers/{server}") }],
        "messages": { kind.name: { "$ref": format!("#/components/messages/{}", kind.name) } },
        "x-retention-hours": kind.retention_hours,
        "x-partition-key": kind.partition_key,
    })
}

fn operation(kind: &StreamType, channel: &str, action: &str) -> Value {
    let reference = format!("#/channels/{channel}");
    let mut operation = json!({
        "action": action,
        "channel": { "$ref": reference },
        "messages": [{ "$ref": format!("{reference}/messages/{}", kind.name) }],
    });
    if action == "send" {
        let publishers: Vec<_> = kind.publishers.iter().map(|one| one.name()).collect();
        if let Some(members) = operation.as_object_mut() {
            members.insert("x-publishers".to_owned(), json!(publishers));
        }
    }
    operation
}

fn message(kind: &StreamType) -> Value {
    let data = format!("#/components/schemas/{}", schema_name(kind, kind.schema));
    json!({
        "name": kind.name,
        "title": kind.name,
        "summary": kind.about,
        "contentType": MESSAGE_MEDIA,
        "correlationId": {
            "description": "The request that caused it.",
            "location": "$message.payload#/correlationid",
        },
        "payload": {
            "allOf": [{ "$ref": "#/components/schemas/envelope" }],
            "properties": {
                "type": { "const": kind.name },
                "dataschema": { "const": kind.data_schema(kind.version()) },
                "data": { "$ref": data },
            },
        },
        "x-version": kind.version(),
        "x-critical": kind.critical,
    })
}

fn schema_name(kind: &StreamType, schema: Schema) -> String {
    format!("{}.v{}", kind.name, schema.version)
}

/// A schema as readers of the broker meet it: sealed members are strings that tell nothing.
fn wire(kind: &StreamType, schema: Schema) -> Value {
    let mut wire: Value = serde_json::from_str(schema.text).unwrap_or_default();
    if let Some(members) = wire.as_object_mut() {
        // They would give the parts of this document addresses of their own.
        members.remove("$schema");
        members.remove("$id");
    }
    for pointer in kind.encrypted {
        let place = format!("/properties{}", pointer.replace('/', "/properties/"));
        let place = place.replacen("/properties/properties", "/properties", 1);
        if let Some(member) = wire.pointer_mut(&place) {
            *member = json!({
                "type": ["string", "null"],
                "pattern": "^sealed:",
                "description": member.get("description"),
                "x-sealed": true,
            });
        }
    }
    wire
}

/// The members that every message has.
fn envelope() -> Value {
    let text = |about: &str| json!({ "type": "string", "minLength": 1, "description": about });
    json!({
        "title": "CloudEvent 1.0",
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "datacontenttype",
            "dataschema", "correlationid", "partitionkey", "data"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": { "type": "string", "format": "uuid",
                "description": "The message's for good: it may come twice under it." },
            "source": { "const": "/happening" },
            "type": text("What happened: `resource.action`."),
            "subject": text("What it is about."),
            "time": { "type": "string", "format": "date-time", "description": "When." },
            "datacontenttype": { "const": "application/json" },
            "dataschema": text("`/schemas/{type}/{version}`, where the schema of the data is."),
            "correlationid": text("The request that caused it."),
            "traceparent": text("W3C trace context of that request."),
            "partitionkey": text("Messages that have it in common keep their order."),
            "data": { "type": "object", "description": "What its type says." },
        },
    })
}
