//! The types of messages: listed with their rules, described as AsyncAPI, and published by hand
//! only by those who may, if the data fits.

use std::time::Duration;

use happening::clock::Ids;
use serde_json::{Value, json};

use crate::harness::{TestServer, Wishes};
use crate::support::client::Ask;
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(15);

fn interest() -> Value {
    json!({"eventId": Ids.uuid(), "userId": Ids.uuid(), "state": "sure", "previous": null,
        "privacy": "public", "version": 1})
}

fn vendor() -> Value {
    let at = "2026-11-21T10:00:00.000Z";
    json!({"id": Ids.uuid(), "name": "Bread", "phone": "+49 30 123456",
        "email": "bread@example.org", "open": true, "lat": 0, "long": 0,
        "createdAt": at, "updatedAt": at})
}

fn publish(server: &TestServer, token: &str, kind: &str, data: &Value) -> Ask {
    let path = format!("/admin/streams/{kind}/messages");
    server.call("POST", &path).bearer(token).json(json!({"data": data}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_are_listed_with_their_rules_for_operators_only() {
    let server = TestServer::start().await;
    let (admin, ana) = (server.admin().await, server.person().await);
    let list = server.call("GET", "/admin/streams").bearer(&admin.token).send().await.expect(200);
    let items = list.items();
    for name in [
        "interest.changed",
        "event.rated",
        "organizer.followed",
        "organizer.unfollowed",
        "post.created",
        "post.liked",
        "follower.added",
        "vendor.created",
        "vendor.updated",
        "vendor.deleted",
    ] {
        let kind = items
            .iter()
            .find(|item| item["type"] == name)
            .unwrap_or_else(|| panic!("{name} is not listed"));
        let path = format!("/admin/streams/{name}");
        let one = server.call("GET", &path).bearer(&admin.token).send().await.expect(200);
        for fixed in ["schema", "publishers", "streams", "retention_hours", "encrypted"] {
            assert_eq!(one.body[fixed], kind[fixed], "{name} {fixed}");
        }
        let schema = server.root("GET", &format!("/schemas/{name}/1")).send().await.expect(200);
        assert_eq!(schema.body, kind["schema"]);
        server.call("GET", &path).bearer(&ana.token).send().await.refused(403, "forbidden");
    }
    let interest = items.iter().find(|item| item["type"] == "interest.changed").unwrap();
    let streams = json!([{"shard": 0, "redis": "newEveInters", "nats": "events.interest.changed"}]);
    assert_eq!(interest["streams"], streams);
    // A message that was dealt with is on the stream, and nobody waits for it.
    publish(&server, &admin.token, "interest.changed", &self::interest()).send().await.expect(201);
    eventually(SOON, || async {
        let one = server.call("GET", "/admin/streams/interest.changed").bearer(&admin.token);
        let one = one.send().await.expect(200).body;
        let told = ["length", "lag", "pending", "oldest_age_ms"].map(|name| one[name].clone());
        let done = told == [json!(1), json!(0), json!(0), json!(null)]
            && one["groups"][0]["name"] == "user_interactions";
        if done { Ok(()) } else { Err(format!("{told:?} {}", one["groups"])) }
    })
    .await;
    let nowhere = server.call("GET", "/admin/streams/no.such").bearer(&admin.token).send().await;
    nowhere.refused(404, "unknown_type");
    server.call("GET", "/admin/streams").send().await.refused(401, "unauthenticated");
    server.root("GET", "/schemas/interest.changed/2").send().await.refused(404, "not_found");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fits_is_kept_for_the_bus_and_what_is_secret_is_sealed() {
    let server = Wishes::default().without_loops().start().await;
    let admin = server.admin().await;
    let data = vendor();
    let done = publish(&server, &admin.token, "vendor.created", &data);
    let done = done.header("idempotency-key", "once").send().await.expect(201);
    assert_eq!((&done.body["type"], &done.body["version"]), (&json!("vendor.created"), &json!(1)));
    assert_eq!(done.body["partition_key"], data["id"]);
    let again = publish(&server, &admin.token, "vendor.created", &data);
    let again = again.header("idempotency-key", "once").send().await.expect(201);
    assert_eq!(again.body, done.body);
    let rows = "SELECT id::text, type, payload::text, correlation_id, aggregate_id::text
        FROM bus_outbox";
    let rows = server.sql(rows).await;
    assert_eq!(rows.len(), 1);
    let text = |index: usize| rows[0].get::<_, String>(index);
    assert_eq!(text(0), done.body["id"].as_str().unwrap());
    assert_eq!(text(1), "vendor.created");
    assert_eq!(text(3), done.body["correlation_id"].as_str().unwrap());
    assert_eq!(text(4), data["id"].as_str().unwrap());
    let kept: Value = serde_json::from_str(&text(2)).unwrap();
    assert_eq!(kept["name"], "Bread");
    for member in ["phone", "email"] {
        let sealed = kept[member].as_str().unwrap();
        assert!(sealed.starts_with("sealed:signing:"), "{sealed}");
    }
    let audit = "SELECT count(*) FROM audit_log WHERE action = 'message.submitted'
        AND actor_id IS NOT NULL";
    assert_eq!(server.count(audit).await, 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_with_pointers_and_nothing_is_kept() {
    let server = TestServer::start().await;
    let (admin, ana) = (server.admin().await, server.person().await);
    let bad = json!({"eventId": "x", "state": "never", "previous": null, "privacy": "public",
        "version": 0, "extra": true});
    let refused = publish(&server, &admin.token, "interest.changed", &bad).send().await;
    let refused = refused.refused(422, "invalid");
    let mut told: Vec<(String, String)> = refused.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            let text = |name: &str| error[name].as_str().unwrap().to_owned();
            (text("pointer"), text("code"))
        })
        .collect();
    told.sort();
    let expected = [
        ("/data/eventId", "wrong_format"),
        ("/data/extra", "unknown_field"),
        ("/data/state", "unknown"),
        ("/data/userId", "required"),
        ("/data/version", "out_of_range"),
    ];
    assert_eq!(told, expected.map(|(at, code)| (at.to_owned(), code.to_owned())));

    let good = interest();
    let ask = |token: &str, kind: &str, data: &Value| publish(&server, token, kind, data).send();
    ask(&ana.token, "interest.changed", &good).await.refused(403, "forbidden");
    ask(&admin.token, "no.such", &good).await.refused(404, "unknown_type");
    let rated = json!({"eventId": Ids.uuid(), "userId": ana.id, "rating": 5, "version": 1});
    ask(&admin.token, "event.rated", &rated).await.refused(403, "publisher_not_allowed");
    let mut giant = good.clone();
    giant["extra"] = json!("x".repeat(1_000_000));
    ask(&admin.token, "interest.changed", &giant).await.refused(413, "message_too_large");
    giant["extra"] = json!("x".repeat(10_485_760));
    ask(&admin.token, "interest.changed", &giant).await.refused(413, "too_large");
    for shape in [json!([]), json!(null), json!("x"), json!({"eventId": null})] {
        ask(&admin.token, "interest.changed", &shape).await.refused(422, "invalid");
    }
    assert_eq!(server.count("SELECT count(*) FROM bus_outbox").await, 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_describe_themselves_as_asyncapi() {
    let server = TestServer::start().await;
    let document = server.root("GET", "/asyncapi.json").send().await.expect(200).body;
    assert_eq!(document["asyncapi"], "3.0.0");
    references(&document, &document);
    let addresses: Vec<&str> = document["channels"]
        .as_object()
        .unwrap()
        .values()
        .map(|channel| channel["address"].as_str().unwrap())
        .collect();
    for address in
        ["newEveInters", "events.interest.changed", "events:post_created", "events.vendor.deleted"]
    {
        assert!(addresses.contains(&address), "{address} is not in {addresses:?}");
    }
    for (name, operation) in document["operations"].as_object().unwrap() {
        // An operation's messages are its channel's, never the component's.
        let channel = operation["channel"]["$ref"].as_str().unwrap();
        let message = operation["messages"][0]["$ref"].as_str().unwrap();
        assert!(message.starts_with(&format!("{channel}/messages/")), "{name}");
        let sends = operation["action"] == "send";
        assert_eq!(sends, operation["x-publishers"].is_array(), "{name}");
    }
    let vendor = &document["components"]["schemas"]["vendor.created.v1"]["properties"];
    assert_eq!(vendor["email"]["x-sealed"], true);
    assert_eq!(vendor["name"]["x-sealed"], Value::Null);
    server.finish().await;
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
