//! Whatever is sent to whatever route: the right 4xx in the documented shape, nothing changed in
//! the database, and nothing logged as an error of ours (`finish` sees to that).

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::people::over;
use crate::harness::{TestServer, in_days};
use crate::support::client::Ask;

/// One operation of the API's document.
struct Operation {
    method: String,
    path: String,
    body: Option<bool>,
    parameters: Vec<Value>,
}

/// All operations of the API; `body` says whether one is required.
async fn operations(server: &TestServer) -> Vec<Operation> {
    let document = server.root("GET", "/openapi.json").send().await.expect(200).body;
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let body = operation.get("requestBody");
            let required = body.map(|body| body["required"].as_bool().unwrap_or(false));
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let (method, path) = (method.to_uppercase(), path.clone());
            all.push(Operation { method, path, body: required, parameters });
        }
    }
    assert!(all.len() > 30, "the document has {} operations", all.len());
    all.retain(|operation| operation.path.starts_with("/api/v1"));
    all
}

/// Somebody who may do everything, and things of each kind.
struct World {
    token: String,
    ids: Vec<(&'static str, Uuid)>,
}

impl World {
    async fn new(server: &TestServer) -> Self {
        let organizer = server.organizer().await;
        let event = server.event(&organizer, json!({})).await;
        let booked = server.book(&organizer.person, event, 1).await.expect(201);
        let admin = "UPDATE users SET role = 'admin' WHERE id = $1";
        server.pg().execute(admin, &[&organizer.person.id]).await.unwrap();
        let role = happening::domain::account::UserRole::Admin;
        let id = happening::domain::ids::UserId(organizer.person.id);
        let token = server.app().tokens.issue(id, role).unwrap();
        let ids = vec![
            ("/organizations/{id}", organizer.organization),
            ("/events/{id}", event),
            ("/bookings/{id}", booked.str("id").parse().unwrap()),
            ("{user_id}", organizer.person.id),
        ];
        Self { token, ids }
    }

    /// The path with ids of things that are there, as far as there are any.
    fn path(&self, template: &str) -> String {
        let mut path = template.to_owned();
        for (pattern, id) in &self.ids {
            let filled = pattern.replace("{id}", &id.to_string());
            path = path.replace(pattern, &filled.replace("{user_id}", &id.to_string()));
        }
        path.replace("{id}", &Uuid::from_u128(7).to_string())
    }

    fn ask(&self, server: &TestServer, operation: &Operation) -> Ask {
        server.root(&operation.method, &self.path(&operation.path)).bearer(&self.token)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_body_is_checked_before_anything_else_is_done() {
    let server = TestServer::start().await;
    let world = World::new(&server).await;
    let state = server.state().await;
    let big = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000));
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(5_000_000));
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    let (arrays, objects) = ("[".repeat(30_000), "{\"a\":".repeat(10_000));
    let mut tried = 0;
    for operation in operations(&server).await {
        let Some(required) = operation.body else { continue };
        let what = format!("{} {}", operation.method, operation.path);
        let send =
            async |body: &str| world.ask(&server, &operation).raw(body.to_owned()).send().await;
        for malformed in [
            "{",
            "{]",
            "{\"a\": NaN}",
            "{'a': 1}",
            "{\"a\": 1,}",
            "nul",
            "{} {}",
            "{\"a\": 01}",
            "\u{feff}{}",
            "{\"a\": \"\u{1}\"}",
            arrays.as_str(),
            objects.as_str(),
        ] {
            let reply = send(malformed).await;
            let short: String = malformed.chars().take(20).collect();
            assert_eq!(reply.status, 400, "{what} {short}: {}", reply.text);
            assert_eq!(reply.body["code"], "malformed");
        }
        // Deep, but JSON: told what it is not, or that it is too deep.
        let reply = send(&deep).await;
        assert!(matches!(reply.status, 400 | 422), "{what}: {}", reply.text);
        for wrong in ["[]", "\"text\"", "7", "true"] {
            let reply = send(wrong).await;
            assert_eq!(reply.status, 422, "{what} {wrong}: {}", reply.text);
        }
        let unknown = send("{\"surprise\": 1}").await.refused(422, "invalid");
        let error = &unknown.body["errors"][0];
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!("/surprise"), &json!("unknown_field")),
            "{what}: {}",
            unknown.text
        );
        // Events may come with a seat map, and messages are large.
        let large = ["/events", "/events/{id}", "/messages"];
        let large = large.iter().any(|end| operation.path.ends_with(end));
        let big = if large { &huge } else { &big };
        send(big).await.refused(413, "too_large");
        for media in ["text/plain", "application/xml", "multipart/form-data; boundary=x", ""] {
            let ask =
                world.ask(&server, &operation).header("content-type", media).body("{\"a\": 1}");
            let reply = ask.send().await;
            assert_eq!(reply.status, 415, "{what} as {media:?}: {}", reply.text);
        }
        let bare = world.ask(&server, &operation).body("{\"a\": 1}").send().await;
        assert_eq!(bare.status, 415, "{what} without a type: {}", bare.text);
        if required {
            let nothing = send("").await;
            assert_eq!(nothing.status, 400, "{what}: {}", nothing.text);
        }
        tried += 1;
    }
    assert!(tried >= 14, "{tried} operations have bodies");
    assert_eq!(server.state().await, state);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_nothing_and_of_others_things_name_nothing() {
    let server = TestServer::start().await;
    let world = World::new(&server).await;
    let stranger = server.person().await;
    let draft = server.organizer().await;
    let draft = server.draft(&draft, json!({})).await;
    let state = server.state().await;
    let body = |path: &str| match path {
        path if path.ends_with("/invitations") => json!({"email": "a@b.co", "role": "member"}),
        path if path.ends_with("/events") => server.usual_event(),
        path if path.contains("/members/") => json!({"role": "member"}),
        path if path.ends_with("/interest") => json!({"state": "sure"}),
        path if path.ends_with("/rating") => json!({"rating": 5}),
        path if path.ends_with("/copy") || path.ends_with("/messages") => json!({"data": {}}),
        _ => json!({}),
    };
    let unknown = Uuid::from_u128(u128::MAX).to_string();
    for operation in operations(&server).await {
        if !operation.path.contains('{') {
            continue;
        }
        let admin = operation.path.starts_with("/api/v1/admin");
        let token = if admin { &world.token } else { &stranger.token };
        for id in ["x", "0", "-1", "%00", "%2e%2e", "018f8f8f-0000-7000-8000", &unknown] {
            // Deleting a key that is not there is deleting it.
            let path = operation.path.replace("{id}", id).replace("{user_id}", id);
            let mut ask = server.root(&operation.method, &path).bearer(token);
            if operation.body.is_some() {
                ask = ask.json(body(&operation.path));
            }
            let reply = ask.send().await;
            let fine = reply.status == 404
                && ["not_found", "unknown_type"].iter().any(|code| reply.body["code"] == *code);
            assert!(fine, "{} {path}: {} {}", operation.method, reply.status, reply.text);
        }
        // Things of others: what a stranger may not know of is 404, what they may see 403.
        if operation.path.contains("/events/") && operation.method != "GET" {
            let path = operation.path.replace("{id}", &draft.to_string());
            let ask = server.root(&operation.method, &path).bearer(&stranger.token);
            ask.json(body(&operation.path)).send().await.refused(404, "not_found");
        }
    }
    assert_eq!(server.state().await, state);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_bounds_its_pages() {
    let server = TestServer::start().await;
    let world = World::new(&server).await;
    let mut tried = 0;
    for operation in operations(&server).await {
        if !operation.parameters.iter().any(|parameter| parameter["name"] == "limit") {
            continue;
        }
        let path = world.path(&operation.path);
        let get = async |query: &str| {
            server.root("GET", &format!("{path}?{query}")).bearer(&world.token).send().await
        };
        for bad in [
            "limit=0",
            "limit=-1",
            "limit=101",
            "limit=9223372036854775808",
            "limit=x",
            "limit=1.5",
            "limit=",
            "limit=NaN",
        ] {
            let reply = get(bad).await;
            let named = reply.status == 422 && reply.body["errors"][0]["pointer"] == "/limit";
            assert!(named, "{path}?{bad}: {}", reply.text);
        }
        for bad in
            ["cursor=x", "cursor=%00", "cursor=////", "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk"]
        {
            let reply = get(bad).await;
            let named = reply.status == 422 && reply.body["errors"][0]["pointer"] == "/cursor";
            assert!(named, "{path}?{bad}: {}", reply.text);
        }
        get("limit=1&limit=2").await.refused(422, "invalid");
        let page = get("limit=1").await.expect(200);
        assert!(page.items().len() <= 1);
        get("limit=100").await.expect(200);
        tried += 1;
    }
    assert!(tried >= 7, "{tried} lists");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_are_told_which_there_are() {
    let server = TestServer::start().await;
    let world = World::new(&server).await;
    let all = operations(&server).await;
    for operation in &all {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"] {
            let path = &operation.path;
            if all.iter().any(|other| other.method == method && fits(&other.path, path)) {
                continue;
            }
            let ask = server.root(method, &world.path(path)).bearer(&world.token);
            let reply = ask.send().await.refused(405, "method_not_allowed");
            assert!(reply.header("allow").contains(&operation.method), "{method} {path}");
        }
    }
    server.finish().await;
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template
            .iter()
            .zip(&path)
            .all(|(a, b)| a == b || a.starts_with('{') || b.starts_with('{'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_seats_have_bounds() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let general = server.event(&organizer, json!({})).await;
    let numbered = server.event(&organizer, json!({"seating": "numbered"})).await;
    let ana = server.person().await;
    let mine = server.book(&ana, general, 2).await.expect(201);
    server.check().await;
    let state = server.state().await;
    let nothing = Value::Null;
    for seats in [
        "0",
        "-1",
        "11",
        "1001",
        "2147483647",
        "2147483648",
        "4294967297",
        "9223372036854775807",
        "18446744073709551616",
        "1e400",
        "1.5",
        "\"1\"",
        "[]",
        "true",
        "{}",
    ] {
        let bodies = [
            (
                "/bookings".to_owned(),
                format!("{{\"event_id\": \"{general}\", \"seats\": {seats}}}"),
            ),
            (format!("/bookings/{}/cancel", mine.str("id")), format!("{{\"seats\": {seats}}}")),
        ];
        for (path, body) in bodies {
            let reply = server.call("POST", &path).bearer(&ana.token).raw(body).send().await;
            // A number that no f64 can hold is not JSON to anybody.
            let unreadable = seats == "1e400" && reply.status == 400;
            assert!(unreadable || reply.status == 422, "{path} {seats}: {}", reply.text);
            if !unreadable {
                assert_eq!(reply.body["errors"][0]["pointer"], "/seats", "{}", reply.text);
            }
        }
    }
    for numbers in [
        "[]",
        "[0]",
        "[-1]",
        "[11]",
        "[1, 1]",
        "[2147483648]",
        "[1.5]",
        "[\"1\"]",
        "7",
        "[null]",
        "[[1]]",
        "\"1\"",
    ] {
        let body = format!("{{\"event_id\": \"{numbered}\", \"seat_numbers\": {numbers}}}");
        let reply = server.call("POST", "/bookings").bearer(&ana.token).raw(body).send().await;
        let pointer = reply.body["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert!(
            reply.status == 422 && pointer.starts_with("/seat_numbers"),
            "{numbers}: {}",
            reply.text
        );
    }
    let many: Vec<u32> = (1..=1001).collect();
    server.take(&ana, numbered, &many).await.invalid(&["/seat_numbers"]);
    for (body, pointers) in [
        (json!({}), vec!["/event_id"]),
        (json!({"event_id": general}), vec!["/seats"]),
        (json!({"event_id": nothing, "seats": 1}), vec!["/event_id"]),
        (json!({"event_id": "x", "seats": 1}), vec!["/event_id"]),
        (json!({"event_id": general, "seats": 1, "seat_numbers": [1]}), vec!["/seat_numbers"]),
        (json!({"event_id": general, "seats": 1, "waitlist": "yes"}), vec!["/waitlist"]),
        (json!({"event_id": general, "seats": 1, "user_id": ana.id}), vec!["/user_id"]),
        (json!({"event_id": numbered, "seat_numbers": [1], "hold_token": ""}), vec!["/hold_token"]),
        (json!({"event_id": general, "seats": 1, "hold_token": "x"}), vec!["/hold_token"]),
    ] {
        server.booking(&ana, body).send().await.invalid(&pointers);
    }
    assert_eq!(server.state().await, state);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_wrong_with_an_event_is_told_at_once() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    server.check().await;
    let state = server.state().await;
    let make = format!("/organizations/{}/events", organizer.organization);
    let token = &organizer.person.token;
    let post = |body: Value| server.call("POST", &make).bearer(token).json(body).send();
    let all = json!({"title": " ", "description": "x".repeat(20_001), "category": "x".repeat(201),
        "venue": "a\u{0}b", "starts_at": "tomorrow", "ends_at": 7.to_string(), "capacity": 0,
        "seating": "standing", "max_seats_per_booking": 0, "sales_open_at": "",
        "sales_close_at": "x", "waitlist": {"policy": "fifo"}});
    let pointers = [
        "/title",
        "/description",
        "/category",
        "/venue",
        "/starts_at",
        "/ends_at",
        "/capacity",
        "/seating",
        "/max_seats_per_booking",
        "/sales_open_at",
        "/sales_close_at",
        "/waitlist/policy",
    ];
    post(all).await.invalid(&pointers);
    post(json!({})).await.invalid(&["/title", "/starts_at", "/capacity", "/seating"]);
    let (soon, later) = (in_days(server.clock(), 1), in_days(server.clock(), 2));
    let table = [
        (json!({"capacity": -1}), "/capacity"),
        (json!({"capacity": 1_000_001}), "/capacity"),
        (json!({"capacity": 2_147_483_648_i64}), "/capacity"),
        (json!({"capacity": 1.5}), "/capacity"),
        (json!({"capacity": "10"}), "/capacity"),
        (json!({"max_seats_per_booking": 1001}), "/max_seats_per_booking"),
        (json!({"waitlist": {"policy": "bypass", "max_bypass": -1}}), "/waitlist/max_bypass"),
        (json!({"waitlist": {"policy": "bypass", "max_bypass": 1001}}), "/waitlist/max_bypass"),
        (json!({"waitlist": {"policy": "strict", "more": 1}}), "/waitlist/more"),
        (json!({"waitlist": "strict"}), "/waitlist"),
        (json!({"starts_at": later, "ends_at": soon}), "/ends_at"),
        (json!({"starts_at": "2026-13-01T00:00:00Z"}), "/starts_at"),
        (json!({"starts_at": "2026-01-01T00:00:00"}), "/starts_at"),
        (json!({"starts_at": "99999-01-01T00:00:00Z"}), "/starts_at"),
        (json!({"starts_at": 1_700_000_000}), "/starts_at"),
        (json!({"sales_open_at": later, "sales_close_at": soon}), "/sales_open_at"),
        (json!({"title": "x".repeat(201)}), "/title"),
        (json!({"title": "two\nlines"}), "/title"),
        (json!({"status": "published"}), "/status"),
        (json!({"organization_id": organizer.organization}), "/organization_id"),
    ];
    let patch = format!("/events/{event}");
    for (wrong, pointer) in table {
        let reply = post(over(server.usual_event(), wrong.clone())).await;
        let reply = reply.refused(422, "invalid");
        assert_eq!(reply.body["errors"][0]["pointer"], pointer, "{wrong}: {}", reply.text);
        let changed = server.call("PATCH", &patch).bearer(token).json(wrong.clone()).send().await;
        let changed = changed.refused(422, "invalid");
        assert_eq!(changed.body["errors"][0]["pointer"], pointer, "{wrong}: {}", changed.text);
    }
    // What can only be said at the beginning cannot be changed.
    let seating = server.patch(&organizer, event, json!({"seating": "numbered"})).await;
    seating.invalid(&["/seating"]);
    assert_eq!(server.state().await, state);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_kept_as_it_was_sent() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let title = "Zażółć 🎻 <script>alert(1)</script> '; DROP TABLE events; -- \u{202e}abc";
    let event = server.event(&organizer, json!({"title": title})).await;
    let seen = server.seen(&organizer.person, event).await;
    assert!(seen["title"] == title || seen["title"] == title.replace('\u{202e}', ""), "{seen}");
    server.finish().await;
}
