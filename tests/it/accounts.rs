//! Sign-up, sign-in, refresh, sign-out: what is equal, what rotates, what ends.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::harness::people::{login, me, refresh, register};
use crate::harness::{Wishes, at_ten};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_up_and_in() {
    let server = at_ten().await;
    let made = register(&server, "Ana").await;
    assert_eq!(made.headers["location"], "/api/v1/me");
    assert_eq!(made.body["expires_in"], 900);
    assert_eq!(made.body["user"]["email"], "ana@example.org");
    assert_eq!(made.body["user"]["role"], "user");
    assert_eq!(made.body["user"]["created_at"], "2026-03-01T10:00:00.000Z");
    let seen = me(&server, &made.str("access_token")).await.expect(200);
    assert_eq!(seen.body, made.body["user"]);
    assert_eq!(seen.headers["etag"], "\"1\"");
    let in_ = login(&server, " ANA@example.org", "correct horse").await.expect(200);
    assert_eq!(in_.body["user"], made.body["user"]);
    server
        .call("POST", "/auth/register")
        .json(json!({"email": "ana@EXAMPLE.org", "password": "correct horse", "name": "Other"}))
        .send()
        .await
        .refused(409, "email_taken");
    let stored: String = server.sql("SELECT password_hash FROM users").await[0].get(0);
    assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_all_look_alike() {
    let server = at_ten().await;
    let made = register(&server, "Ana").await;
    let mut wrong = login(&server, "ana@example.org", "wrong horse")
        .await
        .refused(401, "wrong_credentials")
        .body;
    let mut unknown = login(&server, "ben@example.org", "wrong horse")
        .await
        .refused(401, "wrong_credentials")
        .body;
    server.call("DELETE", "/me").bearer(&made.str("access_token")).send().await.expect(204);
    let mut gone = login(&server, "ana@example.org", "correct horse")
        .await
        .refused(401, "wrong_credentials")
        .body;
    for body in [&mut wrong, &mut unknown, &mut gone] {
        body["request_id"] = Value::Null;
    }
    assert_eq!((&wrong, &wrong), (&unknown, &gone));
    login(&server, "nonsense", "x").await.refused(422, "invalid");
    login(&server, &format!("deleted-{}@invalid", made.body["user"]["id"].as_str().unwrap()), "")
        .await
        .refused(422, "invalid");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_password_is_for_the_demo() {
    let server = at_ten().await;
    let ask = json!({"email": "a@example.org", "password": "happening-demo", "name": "A"});
    let refused = server
        .call("POST", "/auth/register")
        .json(ask.clone())
        .send()
        .await
        .refused(422, "invalid");
    assert_eq!(refused.body["errors"][0]["pointer"], "/password");
    let demo = Wishes::default().set("HAPPENING__DEMO", "true").start().await;
    demo.call("POST", "/auth/register").json(ask).send().await.expect(201);
    login(&demo, "a@example.org", "happening-demo").await.expect(200);
    // The same database outside the demo.
    let mut real = demo.app().clone();
    let mut config = (*real.config).clone();
    config.demo = false;
    real.config = std::sync::Arc::new(config);
    let (email, password) = ("a@example.org", "happening-demo".to_owned());
    let refused = happening::app::accounts::login::login(&real, email, password).await;
    demo.finish().await;
    assert!(refused.is_err());
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_sign_ups_are_told_everything_at_once() {
    let server = at_ten().await;
    let bad = server
        .call("POST", "/auth/register")
        .json(json!({"email": "ana", "password": "short", "name": " "}))
        .send()
        .await
        .refused(422, "invalid");
    let pointers: Vec<_> = bad.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pointers, ["/email", "/name", "/password"]);
    for (body, status) in [
        ("{", 400),
        ("", 400),
        ("[]", 422),
        ("null", 422),
        ("{}", 422),
        (r#"{"email": 1, "password": "correct horse", "name": "A"}"#, 422),
        (r#"{"email": "a@b.co", "password": "correct horse", "name": "A", "role": "admin"}"#, 422),
        (r#"{"email": "a@b.co\u0000", "password": "correct horse", "name": "A"}"#, 422),
        (r#"{"email": "a@b.co", "password": "correct horse", "name": "A\u0000"}"#, 422),
        (r#"{"email": "a@b.co", "password": NaN, "name": "A"}"#, 400),
    ] {
        let reply = server.call("POST", "/auth/register").raw(body).send().await;
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
    }
    let long = "x".repeat(129);
    for password in [long.as_str(), "1234567"] {
        server
            .call("POST", "/auth/register")
            .json(json!({"email": "a@b.co", "password": password, "name": "A"}))
            .send()
            .await
            .refused(422, "invalid");
    }
    // 8 and 128 characters, not bytes; NUL in a password is its owner's affair
    for (n, password) in ["ünïcødé!", &"ü".repeat(128), "a\0b\0c\0d\0"].iter().enumerate() {
        server
            .call("POST", "/auth/register")
            .json(json!({"email": format!("a{n}@b.co"), "password": password, "name": "A"}))
            .send()
            .await
            .expect(201);
        login(&server, &format!("a{n}@b.co"), password).await.expect(200);
    }
    assert_eq!(server.sql("SELECT 1 FROM users").await.len(), 3);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_tokens_rotate_and_reuse_ends_the_sign_in() {
    let server = at_ten().await;
    let first = register(&server, "Ana").await;
    let other = login(&server, "ana@example.org", "correct horse").await.expect(200);
    let second = refresh(&server, &first.str("refresh_token")).await.expect(200);
    assert_eq!(second.body["user"], first.body["user"]);
    let third = refresh(&server, &second.str("refresh_token")).await.expect(200);
    refresh(&server, &first.str("refresh_token")).await.refused(401, "bad_refresh_token");
    refresh(&server, &third.str("refresh_token")).await.refused(401, "bad_refresh_token");
    // the other sign-in goes on
    let other = refresh(&server, &other.str("refresh_token")).await.expect(200);
    server.clock().advance(SignedDuration::from_hours(24 * 30));
    refresh(&server, &other.str("refresh_token")).await.refused(401, "bad_refresh_token");
    for junk in ["", "x", &"y".repeat(5000)] {
        refresh(&server, junk).await.refused(401, "bad_refresh_token");
    }
    let stored: i64 = server.sql("SELECT count(*) FROM refresh_tokens").await[0].get(0);
    assert_eq!(stored, 5);
    server.clock().advance(SignedDuration::from_hours(48));
    assert_eq!(happening::app::accounts::prune::prune(server.app()).await.unwrap(), 5);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_refreshes_one_wins_and_the_sign_in_ends() {
    let server = at_ten().await;
    let first = register(&server, "Ana").await;
    let token = first.str("refresh_token");
    let all = futures_util::future::join_all((0..12).map(|_| refresh(&server, &token))).await;
    let won: Vec<_> = all.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(won.len(), 1);
    assert!(all.iter().all(|reply| matches!(reply.status, 200 | 401)));
    refresh(&server, &won[0].str("refresh_token")).await.refused(401, "bad_refresh_token");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_out_ends_the_sign_in() {
    let server = at_ten().await;
    let first = register(&server, "Ana").await;
    let out = |token: String| async move { token };
    for token in [first.str("refresh_token"), first.str("refresh_token"), "unknown".to_owned()] {
        let token = out(token).await;
        server
            .call("POST", "/auth/logout")
            .json(json!({"refresh_token": token}))
            .send()
            .await
            .expect(204);
    }
    refresh(&server, &first.str("refresh_token")).await.refused(401, "bad_refresh_token");
    server.call("POST", "/auth/logout").json(json!({})).send().await.refused(422, "invalid");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_tokens_expire_and_are_checked() {
    let server = at_ten().await;
    let token = register(&server, "Ana").await.str("access_token");
    me(&server, &token).await.expect(200);
    server.clock().advance(SignedDuration::from_secs(900));
    let refused = me(&server, &token).await.refused(401, "unauthenticated");
    assert_eq!(refused.body["type"], "/problems/unauthenticated");
    server.call("GET", "/me").send().await.refused(401, "unauthenticated");
    for value in
        ["", "Bearer", "Bearer ", "Basic abc", "Bearer a.b.c", "Bearer hk_x", "bearer\u{a0}x"]
    {
        server
            .call("GET", "/me")
            .header("authorization", value)
            .send()
            .await
            .refused(401, "unauthenticated");
    }
    let key = format!("hk_{}", "A".repeat(43));
    me(&server, &key).await.refused(401, "unauthenticated");
    server.finish().await;
}
