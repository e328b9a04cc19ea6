//! The API describes itself: the OpenAPI document, a page to try it on, and a page for each
//! problem. All of it is in the binary and works without the internet.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use actix_web::dev::ResourceDef;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, web};
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::problem::{CATALOGUE, MEDIA_TYPE, Problem, ProblemBody};
use crate::domain::refusal::Refusal;

/// Our pages need no scripts, and nothing from elsewhere.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'";
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;\
    padding:0 1rem;color:#1c1c1e;background:#fdfdfb}a{color:#0b5cad}\
    code{background:#eee;padding:.1em .3em;border-radius:.2em}\
    td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}\
    @media(prefers-color-scheme:dark){body{color:#eee;background:#161618}a{color:#7bb8f5}\
    code{background:#333}}";

/// What is said of the API as a whole.
const ABOUT: &str = "People see free seats, book them, wait in a fair queue and get promoted. \
    Errors are problems (RFC 9457) with a stable `code`, explained at `/problems`. Sign in at \
    `/api/v1/auth/login`, then send `Authorization: Bearer <access token>`; API keys (`hk_…`) go \
    the same way. `Idempotency-Key` makes every creating POST safe to repeat.";

/// Statuses that any operation may answer with, whatever it does: (status, problem code).
const COMMON: [(&str, &str); 15] = [
    ("400", "malformed"),
    ("401", "unauthenticated"),
    ("403", "forbidden"),
    ("404", "not_found"),
    ("408", "request_timeout"),
    ("409", "request_in_flight"),
    ("412", "version_mismatch"),
    ("413", "too_large"),
    ("414", "uri_too_long"),
    ("415", "unsupported_media_type"),
    ("422", "invalid"),
    ("429", "too_many_requests"),
    ("431", "headers_too_large"),
    ("500", "internal"),
    ("503", "unavailable"),
];

/// What needs no credential: (method, path under the base path, whether one is of use).
const PUBLIC: [(&str, &str, bool); 8] = [
    ("post", "/auth/register", false),
    ("post", "/auth/login", false),
    ("post", "/auth/refresh", false),
    ("post", "/auth/logout", false),
    ("get", "/events", true),
    ("get", "/events/{id}", true),
    ("get", "/events/{id}/seats", true),
    ("get", "/events/{id}/availability/stream", true),
];
/// Where the API begins.
const BASE: &str = "/api/v1";

/// The OpenAPI document, ready to be sent, and which methods each path has.
pub struct Document {
    json: web::Bytes,
    paths: Vec<(ResourceDef, String)>,
}

impl Document {
    /// Completes what the handlers say of themselves with what all of them have in common.
    pub fn new(openapi: OpenApi) -> Self {
        let mut document = serde_json::to_value(openapi).unwrap_or_default();
        let paths = methods(&document);
        complete(&mut document);
        let json = serde_json::to_vec(&document).unwrap_or_default();
        Self { json: json.into(), paths }
    }

    /// The methods that `path` has, as `Allow` lists them; `None`: there is no such path.
    pub fn allowed(&self, path: &str) -> Option<&str> {
        let found = self.paths.iter().find(|(pattern, _)| pattern.is_match(path));
        found.map(|(_, allow)| allow.as_str())
    }
}

fn methods(document: &Value) -> Vec<(ResourceDef, String)> {
    let paths = document.get("paths").and_then(Value::as_object);
    let list = |item: &Value| {
        let operations = item.as_object().map(Map::keys).into_iter().flatten();
        let names: Vec<String> = operations
            .filter(|name| name.as_str() != "parameters")
            .map(
                |name| {
                    if name == "get" { "GET, HEAD".to_owned() } else { name.to_ascii_uppercase() }
                },
            )
            .collect();
        names.join(", ")
    };
    // What is written out comes before what has parameters: `/me/bookings` is no `/me/{id}`.
    let sorted: BTreeMap<(bool, &String), &Value> = paths
        .into_iter()
        .flatten()
        .map(|(path, item)| ((path.contains('{'), path), item))
        .collect();
    sorted
        .into_iter()
        .map(|((_, path), item)| (ResourceDef::new(path.as_str()), list(item)))
        .collect()
}

fn complete(document: &mut Value) {
    document["info"] = json!({
        "title": "Happening",
        "version": env!("CARGO_PKG_VERSION"),
        "description": ABOUT,
        "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
    });
    document["servers"] = json!([{ "url": "/" }]);
    let components = &mut document["components"];
    components["securitySchemes"] = json!({ "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token, or an API key (`hk_…`) with the scopes it needs.",
    }});
    components["responses"] = json!({ "Problem": {
        "description": "What went wrong (RFC 9457); see `/problems`.",
        "content": { MEDIA_TYPE: { "schema": { "$ref": "#/components/schemas/ProblemBody" } } },
    }});
    add_schema::<ProblemBody>(&mut components["schemas"]);
    forget_null_defaults(document);
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else { return };
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if method != "parameters" {
                complete_operation(method, path, operation);
            }
        }
    }
}

fn complete_operation(method: &str, path: &str, operation: &mut Value) {
    let inside = path.strip_prefix(BASE);
    operation["operationId"] = json!(operation_id(method, inside.unwrap_or(path)));
    if let Some(inside) = inside {
        let public = PUBLIC.iter().find(|entry| entry.0 == method && entry.1 == inside);
        operation["security"] = match public {
            None => json!([{ "bearer": [] }]),
            // Members see more of what the public sees.
            Some((_, _, true)) => json!([{}, { "bearer": [] }]),
            Some((_, _, false)) => json!([]),
        };
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, response) in responses.iter_mut() {
        if let Some(stream) = response.pointer_mut("/content/text~1event-stream") {
            // OpenAPI 3.1 cannot describe the events of a stream; the text tells.
            *stream = json!({});
        }
        let described = response.get("description").is_some() || response.get("$ref").is_some();
        if !described {
            response["description"] = json!(reason(status));
        }
    }
    for (status, _) in COMMON {
        let elsewhere = matches!(status, "422" | "404" | "500" | "503");
        if inside.is_some() || elsewhere {
            responses
                .entry(status)
                .or_insert_with(|| json!({ "$ref": "#/components/responses/Problem" }));
        }
    }
}

/// What may be absent has no default: `null` would claim to be one, of the wrong type.
fn forget_null_defaults(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            members.values_mut().for_each(forget_null_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_null_defaults),
        _ => {}
    }
}

/// One for each operation: handlers of several nouns are called `list`.
fn operation_id(method: &str, path: &str) -> String {
    let plain = path.replace(['{', '}'], "").replace(['/', '-', '.'], "_");
    format!("{method}{plain}")
}

/// What a status means by itself.
fn reason(status: &str) -> &'static str {
    status
        .parse()
        .ok()
        .and_then(|status: u16| StatusCode::from_u16(status).ok())
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Answer")
}

fn add_schema<T: utoipa::ToSchema>(schemas: &mut Value) {
    let mut all = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut all);
    for (name, schema) in all {
        schemas[name] = serde_json::to_value(schema).unwrap_or_default();
    }
}

/// The pages, which are for people and not part of the document.
pub fn pages(cfg: &mut web::ServiceConfig) {
    let ui = Config::new(["/openapi.json"])
        .validator_url("none")
        .persist_authorization(true)
        .try_it_out_enabled(true);
    cfg.route("/openapi.json", web::get().to(openapi))
        .route("/docs", web::get().to(to_docs))
        .route("/problems", web::get().to(problems))
        .route("/problems/{code}", web::get().to(problem))
        .service(SwaggerUi::new("/docs/{_:.*}").config(ui));
}

async fn openapi(document: web::Data<Document>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document.json.clone())
}

async fn to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

async fn problems() -> HttpResponse {
    let mut rows = String::from("<p>Every error has one of these codes.</p><table>");
    for (code, status, title, _) in CATALOGUE {
        let _ = write!(
            rows,
            "<tr><td>{status}</td><td><a href=\"/problems/{code}\"><code>{code}</code></a></td>\
             <td>{title}</td></tr>"
        );
    }
    rows.push_str("</table>");
    page("Problems", &rows)
}

async fn problem(request: HttpRequest) -> HttpResponse {
    let wanted = request.match_info().get("code").unwrap_or_default();
    let Some((code, status, title, text)) = CATALOGUE.iter().find(|entry| entry.0 == wanted) else {
        return Problem::from(Refusal::NotFound("problem")).error_response();
    };
    let body = format!(
        "<p><code>{code}</code>, status {status}</p><p>{text}</p>\
         <p><a href=\"/problems\">All problems</a></p>"
    );
    page(title, &body)
}

/// A page of ours; nothing in it comes from a request.
fn page(title: &str, body: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, PAGE_POLICY))
        .body(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <style>{STYLE}</style><h1>{title}</h1>{body}</html>"
        ))
}
