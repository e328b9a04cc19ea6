//! Profiles, deletion, API keys and their scopes.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::harness::at_ten;
use crate::harness::people::{login, me, refresh, register};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_change() {
    let server = at_ten().await;
    let made = register(&server, "Ana").await;
    let token = made.str("access_token");
    register(&server, "Ben").await;
    let patch = |body: Value| server.call("PATCH", "/me").bearer(&token).json(body);
    let named =
        patch(json!({"name": "Ana Maria"})).header("if-match", "\"1\"").send().await.expect(200);
    assert_eq!(
        (named.body["name"].as_str(), named.headers["etag"].as_str()),
        (Some("Ana Maria"), "\"2\"")
    );
    assert_eq!(named.body["version"], 2);
    patch(json!({"name": "Nope"}))
        .header("if-match", "\"1\"")
        .send()
        .await
        .refused(412, "version_mismatch");
    patch(json!({"name": "Nope"}))
        .header("if-match", "nonsense")
        .send()
        .await
        .refused(412, "version_mismatch");
    let same = patch(json!({})).send().await.expect(200);
    assert_eq!(same.body, named.body);
    patch(json!({"name": null, "email": "ana@example.org"})).send().await.expect(200);
    patch(json!({"role": "admin"})).send().await.refused(422, "invalid");
    patch(json!({"name": ""})).send().await.refused(422, "invalid");
    for body in [
        json!({"email": "new@example.org"}),
        json!({"password": "new password"}),
        json!({"email": "new@example.org", "current_password": "no"}),
    ] {
        let refused = patch(body).send().await.refused(422, "invalid");
        assert_eq!(refused.body["errors"][0]["pointer"], "/current_password");
    }
    patch(json!({"email": "ben@example.org", "current_password": "correct horse"}))
        .send()
        .await
        .refused(409, "email_taken");
    let moved = patch(json!({"email": "New@example.org", "current_password": "correct horse"}))
        .send()
        .await
        .expect(200);
    assert_eq!(moved.body["email"], "new@example.org");
    refresh(&server, &made.str("refresh_token")).await.expect(200);
    let again = login(&server, "new@example.org", "correct horse").await.expect(200);
    patch(json!({"password": "new password", "current_password": "correct horse"}))
        .send()
        .await
        .expect(200);
    refresh(&server, &again.str("refresh_token")).await.refused(401, "bad_refresh_token");
    login(&server, "new@example.org", "correct horse").await.refused(401, "wrong_credentials");
    login(&server, "new@example.org", "new password").await.expect(200);
    let audit: i64 = server
        .sql("SELECT count(*) FROM audit_log WHERE action = 'account.credentials_changed'")
        .await[0]
        .get(0);
    assert_eq!(audit, 2);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_anonymises_and_voids_everything() {
    let mut server = at_ten().await;
    let (other, elsewhere) = server.another().await;
    let made = register(&server, "Ana").await;
    let token = made.str("access_token");
    let key = server
        .call("POST", "/me/api-keys")
        .bearer(&token)
        .json(json!({"name": "k", "scopes": ["profile:read", "profile:write"]}))
        .send()
        .await
        .expect(201)
        .str("key");
    me(&other, &token).await.expect(200);
    me(&other, &key).await.expect(200);
    server.call("DELETE", "/me").bearer(&key).send().await.refused(403, "forbidden");
    server.call("DELETE", "/me").bearer(&token).send().await.expect(204);
    me(&server, &token).await.refused(401, "unauthenticated");
    server.call("DELETE", "/me").bearer(&token).send().await.refused(401, "unauthenticated");
    // elsewhere: the profile is gone at once, the token when the sweeper has loaded
    happening::app::accounts::revocations::load(&elsewhere).await.unwrap();
    me(&other, &token).await.refused(401, "unauthenticated");
    other.call("GET", "/organizations").bearer(&token).send().await.refused(401, "unauthenticated");
    me(&other, &key).await.refused(401, "unauthenticated");
    refresh(&other, &made.str("refresh_token")).await.refused(401, "bad_refresh_token");
    let row = &server
        .sql("SELECT id::text, email, name, password_hash, deactivated_at IS NOT NULL FROM users")
        .await[0];
    let id: String = row.get(0);
    assert_eq!(row.get::<_, String>(1), format!("deleted-{id}@invalid"));
    assert_eq!(
        (row.get::<_, String>(2), row.get::<_, String>(3)),
        ("Deleted user".to_owned(), String::new())
    );
    assert!(row.get::<_, bool>(4));
    // the address is free again
    register(&server, "Ana").await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_keys_do_what_their_scopes_say() {
    let server = at_ten().await;
    let token = register(&server, "Ana").await.str("access_token");
    let create = |body: Value| server.call("POST", "/me/api-keys").bearer(&token).json(body);
    let ask = json!({"name": "ci", "scopes": ["profile:read", "profile:read"],
        "expires_at": "2026-03-01T12:30:00+01:00"});
    let made = create(ask).send().await.expect(201);
    assert!(made.headers["location"].starts_with("/api/v1/me/api-keys/"));
    assert_eq!(made.body["expires_at"], "2026-03-01T11:30:00.000Z");
    assert_eq!(made.body["scopes"], json!(["profile:read"]));
    let key = made.str("key");
    assert!(key.starts_with("hk_") && key.starts_with(&made.str("prefix")) && key.len() == 46);
    me(&server, &key).await.expect(200);
    server
        .call("PATCH", "/me")
        .bearer(&key)
        .json(json!({"name": "x"}))
        .send()
        .await
        .refused(403, "forbidden");
    server
        .call("POST", "/organizations")
        .bearer(&key)
        .json(json!({"name": "x"}))
        .send()
        .await
        .refused(403, "forbidden");
    let listed = server.call("GET", "/me/api-keys").bearer(&token).send().await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
    assert!(listed.body["items"][0].get("key").is_none());
    // keys cannot make keys, nor change what a sign-in rests on
    let wide = create(json!({"name": "w", "scopes": ["profile:write"]}))
        .send()
        .await
        .expect(201)
        .str("key");
    server
        .call("POST", "/me/api-keys")
        .bearer(&wide)
        .json(json!({"name": "y", "scopes": ["profile:read"]}))
        .send()
        .await
        .refused(403, "forbidden");
    server
        .call("PATCH", "/me")
        .bearer(&wide)
        .json(json!({"name": "Ana 2"}))
        .send()
        .await
        .expect(200);
    server
        .call("PATCH", "/me")
        .bearer(&wide)
        .json(json!({"password": "another one", "current_password": "correct horse"}))
        .send()
        .await
        .refused(403, "forbidden");
    server.call("GET", "/me").bearer(&wide).send().await.refused(403, "forbidden");
    for (body, pointer) in [
        (json!({"name": "x", "scopes": []}), "/scopes"),
        (json!({"name": "x", "scopes": ["profile:read", "nope"]}), "/scopes/1"),
        (json!({"name": "x", "scopes": "profile:read"}), "/scopes"),
        (json!({"name": "x", "scopes": [1]}), "/scopes/0"),
        (json!({"name": "x", "scopes": vec!["profile:read"; 8]}), "/scopes"),
        (json!({"name": "", "scopes": ["profile:read"]}), "/name"),
        (
            json!({"name": "x", "scopes": ["profile:read"], "expires_at": "2026-03-01T10:00:00Z"}),
            "/expires_at",
        ),
        (json!({"name": "x", "scopes": ["profile:read"], "expires_at": "tomorrow"}), "/expires_at"),
    ] {
        let refused = create(body.clone()).send().await.refused(422, "invalid");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{body}");
    }
    create(json!({"name": "x", "scopes": ["admin"]})).send().await.refused(403, "forbidden");
    server.clock().advance(SignedDuration::from_mins(10));
    let id = made.str("id");
    let other = register(&server, "Ben").await.str("access_token");
    server
        .call("DELETE", &format!("/me/api-keys/{id}"))
        .bearer(&other)
        .send()
        .await
        .refused(404, "not_found");
    server.call("DELETE", &format!("/me/api-keys/{id}")).bearer(&token).send().await.expect(204);
    server.call("DELETE", &format!("/me/api-keys/{id}")).bearer(&token).send().await.expect(204);
    me(&server, &key).await.refused(401, "unauthenticated");
    // expiry
    let brief = create(
        json!({"name": "b", "scopes": ["profile:read"], "expires_at": "2026-03-01T10:11:00Z"}),
    )
    .send()
    .await
    .expect(201)
    .str("key");
    me(&server, &brief).await.expect(200);
    server.clock().advance(SignedDuration::from_secs(60));
    me(&server, &brief).await.refused(401, "unauthenticated");
    let leaked =
        server.sql("SELECT 1 FROM api_keys WHERE prefix LIKE '%' AND length(prefix) > 10").await;
    assert!(leaked.is_empty());
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_keys_have_pages() {
    let server = at_ten().await;
    let token = register(&server, "Ana").await.str("access_token");
    let mut ids = vec![];
    for n in 0..5 {
        let made = server
            .call("POST", "/me/api-keys")
            .bearer(&token)
            .json(json!({"name": format!("k{n}"), "scopes": ["profile:read"]}))
            .send()
            .await
            .expect(201);
        ids.push(made.str("id"));
    }
    ids.reverse();
    let mut seen = vec![];
    let mut path = "/me/api-keys?limit=2".to_owned();
    loop {
        let page = server.call("GET", &path).bearer(&token).send().await.expect(200);
        seen.extend(
            page.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|k| k["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/me/api-keys?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ids);
    for bad in ["limit=0", "limit=101", "cursor=xyz", "limit=-1&cursor=@"] {
        server
            .call("GET", &format!("/me/api-keys?{bad}"))
            .bearer(&token)
            .send()
            .await
            .refused(422, "invalid");
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_can_provision_accounts() {
    use happening::app::accounts::{provision, register::NewUser};
    use happening::domain::account::UserRole;
    let server = at_ten().await;
    let new = || NewUser {
        email: "root@example.org".into(),
        name: "Root".into(),
        password: "correct horse".into(),
    };
    let made = provision::ensure(server.app(), new(), UserRole::Admin).await.unwrap();
    let again = provision::ensure(server.app(), new(), UserRole::Admin).await.unwrap();
    assert_eq!(made.id, again.id);
    let in_ = login(&server, "root@example.org", "correct horse").await.expect(200);
    assert_eq!(in_.body["user"]["role"], "admin");
    server
        .call("POST", "/me/api-keys")
        .bearer(&in_.str("access_token"))
        .json(json!({"name": "x", "scopes": ["admin"]}))
        .send()
        .await
        .expect(201);
    server.finish().await;
}
