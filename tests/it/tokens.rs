//! Credentials that are not good: each is 401, says nothing more, and opens nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::harness::{SECRET, TestServer};

fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(algorithm), claims, &key).expect("a token")
}

fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

/// Keys are looked up while the body arrives; what is wrong with it is nobody's business before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_that_and_not_what_is_wrong_with_the_body() {
    let server = TestServer::start().await;
    let ana = server.person().await;
    let wanted = json!({"name": "reads only", "scopes": ["bookings:read"]});
    let made = server.call("POST", "/me/api-keys").bearer(&ana.token).json(wanted).send().await;
    let key = made.expect(201).str("key");
    let unknown = format!("hk_{}", "A".repeat(43));
    for body in [json!({}), json!({"event_id": 7}), json!([])] {
        let book =
            |token: &str| server.call("POST", "/bookings").bearer(token).json(body.clone()).send();
        book(&key).await.refused(403, "forbidden");
        book(&unknown).await.refused(401, "unauthenticated");
        assert_eq!(book(&ana.token).await.status, 422, "{body}");
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_we_did_not_sign_open_nothing() {
    let server = TestServer::start().await;
    let ana = server.person().await;
    let now = server.clock().now().as_second();
    let good = json!({"iss": "happening", "aud": "happening-api", "sub": ana.id, "role": "user",
        "iat": now, "exp": now + 600, "typ": "access"});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let ours = |claims: &Value| signed(Algorithm::HS256, SECRET, claims);
    let me = |token: String| server.call("GET", "/me").bearer(&token).send();
    me(ours(&good)).await.expect(200);
    let public = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END";
    let (head, body) =
        ours(&good).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let table = [
        ("expired", ours(&with("exp", json!(now - 1)))),
        ("expires now", ours(&with("exp", json!(now)))),
        ("another key", signed(Algorithm::HS256, "another-secret-of-some-length-42", &good)),
        ("another length", signed(Algorithm::HS512, SECRET, &good)),
        ("signed with a public key", signed(Algorithm::HS256, public, &good)),
        ("none", unsigned(&json!({"alg": "none", "typ": "JWT"}), &good, "")),
        ("None", unsigned(&json!({"alg": "None"}), &good, "")),
        ("none, signed", unsigned(&json!({"alg": "none"}), &good, &body)),
        ("claims to be RS256", unsigned(&json!({"alg": "RS256"}), &good, &body)),
        ("key of its own", unsigned(&json!({"alg": "HS256", "jwk": {"k": "eA"}}), &good, &body)),
        ("no audience", ours(&without("aud"))),
        ("another audience", ours(&with("aud", json!("elsewhere")))),
        ("no issuer", ours(&without("iss"))),
        ("another issuer", ours(&with("iss", json!("elsewhere")))),
        ("no expiry", ours(&without("exp"))),
        ("no subject", ours(&without("sub"))),
        ("no type", ours(&without("typ"))),
        ("a refresh token", ours(&with("typ", json!("refresh")))),
        ("more rights", unsigned(&json!({"alg": "HS256"}), &with("role", json!("admin")), &body)),
        ("nobody", ours(&with("sub", json!("018f8f8f-0000-7000-8000-000000000000")))),
        ("cut off", head),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("an unknown key", format!("hk_{}", "A".repeat(43))),
        ("much too long", "x".repeat(20_000)),
    ];
    let mut said = Vec::new();
    for (what, token) in table {
        let reply = me(token).await;
        assert_eq!(
            (reply.status, reply.body["code"].as_str()),
            (401, Some("unauthenticated")),
            "{what}"
        );
        assert!(reply.header("www-authenticate").starts_with("Bearer"), "{what}");
        said.push(reply.body["detail"].clone());
    }
    said.dedup();
    assert_eq!(said.len(), 1, "no difference is told: {said:?}");
    for header in ["Basic YTpi", "bearer", "Token x", "Bearer  a b", "Bearer"] {
        let ask = server.call("GET", "/me").header("authorization", header);
        ask.send().await.refused(401, "unauthenticated");
    }
    server.finish().await;
}

/// What an answer must not depend on: a bad credential where none is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_credential_is_refused_even_where_none_is_needed() {
    let server = TestServer::start().await;
    server.call("GET", "/events").send().await.expect(200);
    let bad = server.call("GET", "/events").bearer("x.y.z").send().await;
    bad.refused(401, "unauthenticated");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_routes_are_for_operators() {
    let server = TestServer::start().await;
    let (ana, admin) = (server.person().await, server.admin().await);
    let document = server.root("GET", "/openapi.json").send().await.expect(200).body;
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/api/v1/admin/") {
            continue;
        }
        for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let path = path.replace("{id}", &ana.id.to_string());
            let ask = || server.root(&method, &path).raw("{}");
            ask().send().await.refused(401, "unauthenticated");
            ask().bearer(&ana.token).send().await.refused(403, "forbidden");
            let allowed = ask().bearer(&admin.token).send().await;
            assert!(matches!(allowed.status, 200 | 404 | 422), "{method} {path}: {}", allowed.text);
            tried += 1;
        }
    }
    assert!(tried >= 2, "{tried} routes were tried");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_does_what_its_scopes_say_on_every_route() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let token = &organizer.person.token;
    let made = json!({"name": "reader", "scopes": ["events:read", "bookings:read"]});
    let key = server.call("POST", "/me/api-keys").bearer(token).json(made);
    let key = key.send().await.expect(201).str("key");
    let bookings = format!("/events/{event}/bookings");
    for (method, path, wanted) in [
        ("GET", bookings.as_str(), 200),
        ("GET", "/me/bookings", 200),
        ("GET", "/events", 200),
        ("GET", "/me", 403),
        ("POST", "/bookings", 403),
        ("POST", &format!("/events/{event}/publish"), 403),
        ("GET", "/admin/integrity", 403),
    ] {
        let mut ask = server.call(method, path).bearer(&key);
        if path == "/bookings" {
            ask = ask.json(json!({"event_id": event, "seats": 1}));
        }
        let reply = ask.send().await;
        assert_eq!(reply.status, wanted, "{method} {path}: {}", reply.text);
    }
    server.finish().await;
}
