//! The API's document: all routes are in it, all that it refers to is in it. That what is answered
//! is documented is checked at the end of every test (`TestServer::check`).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::TestServer;

/// The contract of what exists so far.
const ROUTES: &[&str] = &[
    "POST /auth/register",
    "POST /auth/login",
    "POST /auth/refresh",
    "POST /auth/logout",
    "GET /me",
    "PATCH /me",
    "DELETE /me",
    "POST /me/api-keys",
    "GET /me/api-keys",
    "DELETE /me/api-keys/{id}",
    "POST /organizations",
    "GET /organizations",
    "GET /organizations/{id}",
    "GET /organizations/{id}/members",
    "PATCH /organizations/{id}/members/{user_id}",
    "DELETE /organizations/{id}/members/{user_id}",
    "POST /organizations/{id}/invitations",
    "GET /me/invitations",
    "POST /invitations/{id}/accept",
    "POST /invitations/{id}/decline",
    "POST /organizations/{id}/events",
    "GET /events",
    "GET /events/{id}",
    "PATCH /events/{id}",
    "POST /events/{id}/publish",
    "POST /events/{id}/cancel",
    "GET /events/{id}/seats",
    "GET /events/{id}/availability/stream",
    "POST /bookings",
    "GET /bookings/{id}",
    "GET /me/bookings",
    "POST /bookings/{id}/cancel",
    "GET /bookings/{id}/waitlist",
    "GET /events/{id}/bookings",
    "GET /events/{id}/waitlist",
    "PUT /events/{id}/interest",
    "DELETE /events/{id}/interest",
    "GET /events/{id}/interests",
    "PUT /events/{id}/rating",
    "DELETE /events/{id}/rating",
    "PUT /organizations/{id}/follow",
    "DELETE /organizations/{id}/follow",
    "GET /me/interests",
    "GET /me/alerts",
    "PUT /me/alerts/seen",
    "GET /me/notifications",
    "POST /me/notifications/read",
    "GET /admin/dead-letters",
    "POST /admin/dead-letters/{id}/redrive",
    "POST /admin/dead-letters/redrive",
    "DELETE /admin/dead-letters/{id}",
    "GET /admin/dead-letters/{id}",
    "POST /admin/dead-letters/{id}/copy",
    "GET /admin/dead-letters/redrives",
    "GET /admin/dead-letters/redrives/{id}",
    "DELETE /admin/dead-letters/redrives/{id}",
    "GET /admin/failed-events",
    "GET /admin/processed-events/stats",
    "POST /admin/processed-events/cleanup",
    "GET /admin/streams",
    "GET /admin/streams/{type}",
    "POST /admin/streams/{type}/messages",
    "GET /admin/alarms",
    "GET /admin/audit",
    "GET /admin/integrity",
    "POST /admin/integrity/repair",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_whole() {
    let server = TestServer::start().await;
    let document = server.root("GET", "/openapi.json").send().await.expect(200).body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut documented = BTreeSet::new();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{} {path}", method.to_uppercase());
            check(&document, &what, path, operation);
            let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{what}: no id"));
            assert!(names.insert(name.to_owned()), "{what}: {name} is the id of two operations");
            documented.insert(what.replace("/api/v1", ""));
        }
    }
    let missing: Vec<_> = ROUTES.iter().filter(|route| !documented.contains(**route)).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
    for root in ["/health", "/health/live", "/health/ready", "/health/events", "/metrics", "/ws"] {
        assert!(documented.contains(&format!("GET {root}")), "{root}");
    }
    references(&document, &document);
    server.finish().await;
}

fn check(document: &Value, what: &str, path: &str, operation: &Value) {
    let text = ["summary", "description"].map(|name| operation[name].as_str().unwrap_or_default());
    assert!(text.iter().any(|text| !text.is_empty()), "{what}: says nothing of itself");
    assert!(operation["tags"].as_array().is_some_and(|tags| !tags.is_empty()), "{what}: no tag");
    let answers = operation["responses"].as_object().unwrap();
    let success = |status: &String| status.starts_with('2') || status == "101";
    assert!(answers.keys().any(success), "{what}: no success");
    for (status, answer) in answers {
        let answer = resolved(document, answer);
        let is_empty =
            matches!(status.as_str(), "101" | "204" | "301" | "302" | "303" | "307" | "308");
        let content = answer["content"].as_object();
        assert!(is_empty || content.is_some_and(|content| !content.is_empty()), "{what} {status}");
        if status.starts_with('4') {
            assert!(content.unwrap().contains_key("application/problem+json"), "{what} {status}");
        }
    }
    for part in path.split('/').filter(|part| part.starts_with('{')) {
        let name = part.trim_matches(['{', '}']);
        let parameters = operation["parameters"].as_array().unwrap();
        let declared = parameters.iter().any(|one| one["name"] == name && one["in"] == "path");
        assert!(declared, "{what}: {name} is not declared");
    }
    if path.starts_with("/api/v1/me") || path.starts_with("/api/v1/admin") {
        assert!(answers.contains_key("401"), "{what}: needs a credential");
        let own = operation.get("security").or_else(|| document.get("security"));
        assert!(own.is_some(), "{what}: no security");
    }
}

/// An answer, or what it refers to.
fn resolved<'a>(document: &'a Value, answer: &'a Value) -> &'a Value {
    let reference = answer["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    reference.map_or(answer, |to| document.pointer(to).expect("what it refers to"))
}

/// Whatever is referred to is there.
fn references(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                let pointer = to.strip_prefix('#').unwrap_or_else(|| panic!("{to} is elsewhere"));
                assert!(document.pointer(pointer).is_some(), "{to} is not there");
            }
            fields.values().for_each(|field| references(document, field));
        }
        Value::Array(items) => items.iter().for_each(|item| references(document, item)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_documented_is_there() {
    let server = TestServer::start().await;
    let ana = server.person().await;
    let document = server.root("GET", "/openapi.json").send().await.expect(200).body;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            if path.ends_with("/stream")
                || (method.as_str(), path.as_str()) == ("DELETE", "/api/v1/me")
            {
                continue;
            }
            let path = path.replace("{id}", &ana.id.to_string()).replace("{user_id}", "x");
            let reply = server.root(&method, &path).bearer(&ana.token).send().await;
            let nowhere = reply.body["detail"] == "no such page" || reply.status == 405;
            assert!(!nowhere && reply.status < 500, "{method} {path}: {}", reply.text);
        }
    }
    server.finish().await;
}

/// The door refuses these before any operation sees them, so each has to be documented for all
/// (which is checked at the end of every test).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_door_refuses_is_documented() {
    let server = TestServer::start().await;
    let long = "x".repeat(9_000);
    for path in ["/events", "/admin/dead-letters", "/me/bookings"] {
        let ask = server.call("GET", &format!("{path}?query={long}"));
        ask.send().await.refused(414, "uri_too_long");
    }
    let mut heavy = server.call("GET", "/events");
    for n in 0..12 {
        heavy = heavy.header(&format!("x-heavy-{n}"), &"y".repeat(3_000));
    }
    heavy.send().await.refused(431, "headers_too_large");
    server.finish().await;
}
