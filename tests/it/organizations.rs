//! Organizations, members, invitations.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::harness::people::register;
use crate::harness::{TestServer, Wishes, at_ten};
use crate::support::client::Reply;

struct Somebody {
    id: String,
    token: String,
    email: String,
}

async fn person(server: &TestServer, name: &str) -> Somebody {
    let made = register(server, name).await;
    Somebody {
        id: made.body["user"]["id"].as_str().unwrap().to_owned(),
        email: made.body["user"]["email"].as_str().unwrap().to_owned(),
        token: made.str("access_token"),
    }
}

async fn found(server: &TestServer, by: &Somebody, name: &str) -> String {
    server
        .call("POST", "/organizations")
        .bearer(&by.token)
        .json(json!({"name": name}))
        .send()
        .await
        .expect(201)
        .str("id")
}

async fn invite(server: &TestServer, by: &Somebody, org: &str, email: &str, role: &str) -> Reply {
    server
        .call("POST", &format!("/organizations/{org}/invitations"))
        .bearer(&by.token)
        .json(json!({"email": email, "role": role}))
        .send()
        .await
}

async fn join(server: &TestServer, by: &Somebody, org: &str, who: &Somebody, role: &str) {
    let id = invite(server, by, org, &who.email, role).await.expect(201).str("id");
    server
        .call("POST", &format!("/invitations/{id}/accept"))
        .bearer(&who.token)
        .send()
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founders_own_what_they_found() {
    let server = at_ten().await;
    let (ana, ben) = (person(&server, "Ana").await, person(&server, "Ben").await);
    let ask = |body: Value| server.call("POST", "/organizations").bearer(&ana.token).json(body);
    let made = ask(json!({"name": "Übung & Co", "slug": "uebung"}))
        .header("idempotency-key", "k1")
        .send()
        .await
        .expect(201);
    let id = made.str("id");
    assert_eq!(made.headers["location"], format!("/api/v1/organizations/{id}"));
    assert_eq!(
        (made.body["slug"].as_str(), made.body["role"].as_str()),
        (Some("uebung"), Some("owner"))
    );
    let replay = ask(json!({"name": "Übung & Co", "slug": "uebung"}))
        .header("idempotency-key", "k1")
        .send()
        .await
        .expect(201);
    assert_eq!(replay.body, made.body);
    assert_eq!(replay.headers["idempotency-replayed"], "true");
    assert_eq!(replay.headers["location"], made.headers["location"]);
    ask(json!({"name": "Other"}))
        .header("idempotency-key", "k1")
        .send()
        .await
        .refused(422, "idempotency_mismatch");
    ask(json!({"name": "Again", "slug": "uebung"}))
        .header("idempotency-key", "k2")
        .send()
        .await
        .refused(409, "slug_taken");
    ask(json!({"name": "Again", "slug": "uebung"}))
        .header("idempotency-key", "k2")
        .send()
        .await
        .refused(409, "slug_taken");
    for slug in ["", "A", "a--b", "-a", "a-", "a b", &"x".repeat(64)] {
        ask(json!({"name": "X", "slug": slug})).send().await.refused(422, "invalid");
    }
    let generated = ask(json!({"name": "Hall of Fame!"})).send().await.expect(201);
    assert!(generated.str("slug").starts_with("hall-of-fame-"), "{}", generated.body);
    let listed = server.call("GET", "/organizations").bearer(&ana.token).send().await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 2);
    assert_eq!(listed.body["items"][0], made.body);
    let empty = server.call("GET", "/organizations").bearer(&ben.token).send().await.expect(200);
    assert_eq!(empty.body, json!({"items": [], "next_cursor": null}));
    let one = server
        .call("GET", &format!("/organizations/{id}"))
        .bearer(&ana.token)
        .send()
        .await
        .expect(200);
    assert_eq!((one.body, one.headers["etag"].as_str()), (made.body.clone(), "\"1\""));
    server
        .call("GET", &format!("/organizations/{id}"))
        .bearer(&ben.token)
        .send()
        .await
        .refused(404, "not_found");
    server
        .call("GET", &format!("/organizations/{id}/members"))
        .bearer(&ben.token)
        .send()
        .await
        .refused(404, "not_found");
    server
        .call("GET", &format!("/organizations/{}", ana.id))
        .bearer(&ana.token)
        .send()
        .await
        .refused(404, "not_found");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_admins_see_all_and_change_nothing() {
    use happening::app::accounts::{provision, register::NewUser};
    let server = at_ten().await;
    let ana = person(&server, "Ana").await;
    let id = found(&server, &ana, "Hall").await;
    let new = NewUser {
        email: "root@example.org".into(),
        name: "Root".into(),
        password: "correct horse".into(),
    };
    provision::ensure(server.app(), new, happening::domain::account::UserRole::Admin)
        .await
        .unwrap();
    let root = server
        .call("POST", "/auth/login")
        .json(json!({"email": "root@example.org", "password": "correct horse"}))
        .send()
        .await
        .expect(200)
        .str("access_token");
    let seen =
        server.call("GET", &format!("/organizations/{id}")).bearer(&root).send().await.expect(200);
    assert_eq!(seen.body["role"], Value::Null);
    server
        .call("GET", &format!("/organizations/{id}/members"))
        .bearer(&root)
        .send()
        .await
        .expect(200);
    server
        .call("GET", &format!("/organizations/{}/members", ana.id))
        .bearer(&root)
        .send()
        .await
        .refused(404, "not_found");
    server
        .call("DELETE", &format!("/organizations/{id}/members/{}", ana.id))
        .bearer(&root)
        .send()
        .await
        .refused(403, "forbidden");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invitations_are_given_told_and_answered() {
    let server = at_ten().await;
    let (ana, ben, eve) =
        (person(&server, "Ana").await, person(&server, "Ben").await, person(&server, "Eve").await);
    let org = found(&server, &ana, "Hall").await;
    let made = invite(&server, &ana, &org, "BEN@example.org", "organizer").await.expect(201);
    let id = made.str("id");
    assert_eq!(
        made.body,
        json!({"id": id, "organization_id": org, "email": "ben@example.org", "role": "organizer",
        "status": "pending", "created_at": "2026-03-01T10:00:00.000Z",
        "expires_at": "2026-03-15T10:00:00.000Z"})
    );
    let outbox = "SELECT type, payload::text, aggregate_id::text, correlation_id FROM outbox";
    let outbox = server.sql(outbox).await;
    assert_eq!(outbox.len(), 1);
    let payload: Value = serde_json::from_str(outbox[0].get(1)).unwrap();
    assert_eq!(
        (payload["type"].as_str(), payload["userId"].as_str()),
        (Some("invitation_received"), Some(ben.id.as_str()))
    );
    assert_eq!(payload["invitationId"], json!(id));
    assert_eq!(outbox[0].get::<_, String>(3), made.headers["x-request-id"]);
    invite(&server, &ana, &org, "ben@example.org", "member").await.refused(409, "already_invited");
    assert_eq!(server.sql("SELECT 1 FROM outbox").await.len(), 1);
    // somebody without an account
    invite(&server, &ana, &org, "new@example.org", "member").await.expect(201);
    let payload: Value = serde_json::from_str(
        server.sql("SELECT payload::text FROM outbox ORDER BY seq DESC").await[0].get(0),
    )
    .unwrap();
    assert_eq!(payload["userId"], Value::Null);
    // answered by whom it is for
    let list = server.call("GET", "/me/invitations").bearer(&ben.token).send().await.expect(200);
    assert_eq!(list.body["items"], json!([made.body]));
    server
        .call("POST", &format!("/invitations/{id}/accept"))
        .bearer(&eve.token)
        .send()
        .await
        .refused(404, "not_found");
    let first = server
        .call("POST", &format!("/invitations/{id}/accept"))
        .bearer(&ben.token)
        .header("idempotency-key", "a")
        .send()
        .await
        .expect(200);
    assert_eq!(first.body["status"], "accepted");
    let again = server
        .call("POST", &format!("/invitations/{id}/accept"))
        .bearer(&ben.token)
        .send()
        .await
        .expect(200);
    assert_eq!(again.body, first.body);
    let replay = server
        .call("POST", &format!("/invitations/{id}/accept"))
        .bearer(&ben.token)
        .header("idempotency-key", "a")
        .send()
        .await
        .expect(200);
    assert_eq!(
        (replay.headers["idempotency-replayed"].as_str(), replay.body),
        ("true", first.body)
    );
    server
        .call("POST", &format!("/invitations/{id}/decline"))
        .bearer(&ben.token)
        .send()
        .await
        .refused(409, "invitation_closed");
    invite(&server, &ana, &org, "ben@example.org", "member").await.refused(409, "already_member");
    // an organizer invites, but no owners; a stranger not at all
    invite(&server, &ben, &org, "eve@example.org", "owner").await.refused(403, "forbidden");
    let to_eve =
        invite(&server, &ben, &org, "eve@example.org", "member").await.expect(201).str("id");
    invite(&server, &eve, &org, "x@example.org", "member").await.refused(404, "not_found");
    server
        .call("POST", &format!("/invitations/{to_eve}/decline"))
        .bearer(&eve.token)
        .send()
        .await
        .expect(200);
    server
        .call("POST", &format!("/invitations/{to_eve}/decline"))
        .bearer(&eve.token)
        .send()
        .await
        .expect(200);
    server
        .call("POST", &format!("/invitations/{to_eve}/accept"))
        .bearer(&eve.token)
        .send()
        .await
        .refused(409, "invitation_closed");
    // declined makes room; expired too
    let second =
        invite(&server, &ana, &org, "eve@example.org", "member").await.expect(201).str("id");
    server.clock().advance(SignedDuration::from_hours(24 * 14));
    let login = |email: String| {
        server
            .call("POST", "/auth/login")
            .json(json!({"email": email, "password": "correct horse"}))
            .send()
    };
    let (ana, eve) = (
        Somebody { token: login(ana.email.clone()).await.str("access_token"), ..ana },
        Somebody { token: login(eve.email.clone()).await.str("access_token"), ..eve },
    );
    let list = server.call("GET", "/me/invitations").bearer(&eve.token).send().await.expect(200);
    assert_eq!(
        (list.body["items"][0]["status"].as_str(), list.body["items"][1]["status"].as_str()),
        (Some("expired"), Some("declined"))
    );
    server
        .call("POST", &format!("/invitations/{second}/accept"))
        .bearer(&eve.token)
        .send()
        .await
        .refused(409, "invitation_closed");
    invite(&server, &ana, &org, "eve@example.org", "owner").await.expect(201);
    for (email, role) in [("nope", "member"), ("a@b.co", "king")] {
        invite(&server, &ana, &org, email, role).await.refused(422, "invalid");
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_owner_always_stays() {
    let server = at_ten().await;
    let (ana, ben, cid) =
        (person(&server, "Ana").await, person(&server, "Ben").await, person(&server, "Cid").await);
    let org = found(&server, &ana, "Hall").await;
    join(&server, &ana, &org, &ben, "organizer").await;
    join(&server, &ana, &org, &cid, "member").await;
    let members = server
        .call("GET", &format!("/organizations/{org}/members?limit=2"))
        .bearer(&cid.token)
        .send()
        .await
        .expect(200);
    assert_eq!(members.body["items"].as_array().unwrap().len(), 2);
    assert!(members.body["next_cursor"].is_string());
    assert_eq!(
        members.body["items"][0],
        json!({"user_id": ana.id, "name": "Ana", "role": "owner",
            "created_at": "2026-03-01T10:00:00.000Z"})
    );
    let set = |by: &Somebody, who: &Somebody, role: &str| {
        server
            .call("PATCH", &format!("/organizations/{org}/members/{}", who.id))
            .bearer(&by.token)
            .json(json!({"role": role}))
    };
    let remove = |by: &Somebody, who: &Somebody| {
        server.call("DELETE", &format!("/organizations/{org}/members/{}", who.id)).bearer(&by.token)
    };
    set(&ben, &cid, "organizer").send().await.refused(403, "forbidden");
    set(&ana, &ana, "member").send().await.refused(409, "last_owner");
    remove(&ana, &ana).send().await.refused(409, "last_owner");
    server.call("DELETE", "/me").bearer(&ana.token).send().await.refused(409, "last_owner");
    server.call("GET", "/me").bearer(&ana.token).send().await.expect(200);
    remove(&ben, &cid).send().await.refused(403, "forbidden");
    set(&ana, &cid, "king").send().await.refused(422, "invalid");
    let raised = set(&ana, &ben, "owner").send().await.expect(200);
    assert_eq!(
        (raised.body["user_id"].as_str(), raised.body["role"].as_str()),
        (Some(ben.id.as_str()), Some("owner"))
    );
    // both step down at once: one of them stays
    let (a, b) =
        futures_util::join!(set(&ana, &ana, "member").send(), set(&ben, &ben, "member").send());
    let mut both = [a.status, b.status];
    both.sort_unstable();
    assert_eq!(both, [200, 409]);
    let owners =
        server.sql("SELECT user_id::text FROM organization_members WHERE role = 'owner'").await;
    assert_eq!(owners.len(), 1);
    let (owner, other) =
        if owners[0].get::<_, String>(0) == ana.id { (&ana, &ben) } else { (&ben, &ana) };
    remove(owner, &cid).send().await.expect(204);
    remove(owner, &cid).send().await.refused(404, "not_found");
    remove(other, other).send().await.expect(204);
    set(owner, other, "owner").send().await.refused(404, "not_found");
    server
        .call("GET", &format!("/organizations/{org}"))
        .bearer(&other.token)
        .send()
        .await
        .refused(404, "not_found");
    server.call("DELETE", "/me").bearer(&other.token).send().await.expect(204);
    let audit: i64 =
        server.sql("SELECT count(*) FROM audit_log WHERE action LIKE 'member.%'").await[0].get(0);
    assert_eq!(audit, 2 + 2 + 2 + 2, "invited, joined, role_changed, removed");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners_who_delete_their_accounts_at_once_leave_one() {
    let server = at_ten().await;
    let (ana, ben) = (person(&server, "Ana").await, person(&server, "Ben").await);
    let org = found(&server, &ana, "Hall").await;
    join(&server, &ana, &org, &ben, "owner").await;
    let delete = |who: &Somebody| server.call("DELETE", "/me").bearer(&who.token).send();
    let (a, b) = futures_util::join!(delete(&ana), delete(&ben));
    let mut both = [a.status, b.status];
    both.sort_unstable();
    assert_eq!(both, [204, 409]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_are_none_are_unknown() {
    let server = at_ten().await;
    let ana = person(&server, "Ana").await;
    for (method, path) in [
        ("GET", "/organizations/x"),
        ("GET", "/organizations/x/members"),
        ("DELETE", "/me/api-keys/x"),
        ("POST", "/invitations/x/accept"),
        ("POST", "/invitations/x/decline"),
        ("DELETE", "/organizations/x/members/y"),
    ] {
        let reply = server.call(method, path).bearer(&ana.token).send().await;
        assert_eq!(reply.status, 404, "{method} {path}: {}", reply.body);
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
    for path in ["/organizations?limit=x", "/me/invitations?limit=1e9"] {
        let reply = server.call("GET", path).bearer(&ana.token).send().await;
        assert!(matches!(reply.status, 400 | 422), "{}", reply.body);
    }
    server.call("PUT", "/me").bearer(&ana.token).send().await.expect(405);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_passwords_is_limited_per_address_of_mail() {
    let server = Wishes::default().set("HAPPENING__LIMITS__SIGN_IN_PER_MINUTE", "3").start().await;
    let ana = person(&server, "Ana").await;
    let guess = || {
        server
            .call("POST", "/auth/login")
            .json(json!({"email": "ana@example.org", "password": "x"}))
            .send()
    };
    guess().await.expect(401);
    guess().await.expect(401);
    let slow = guess().await.refused(429, "too_many_requests");
    assert!(slow.headers.contains_key("retry-after"));
    let patch = || {
        server
            .call("PATCH", "/me")
            .bearer(&ana.token)
            .json(json!({"password": "new password", "current_password": "x"}))
            .send()
    };
    for _ in 0..3 {
        patch().await.expect(422);
    }
    patch().await.refused(429, "too_many_requests");
    server.finish().await;
}
