//! Messages of the bus that die, and their second life: what could not be counted is sent again
//! once the cause is mended, what made no sense is parked at once and replaced by an edited copy,
//! and their neighbours flow.

use std::time::Duration;

use happening::clock::Ids;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::people::Person;
use crate::harness::{TestServer, Wishes};
use crate::support::client::Reply;
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(20);
/// A trigger stands for anything that breaks the counting.
const BREAK: &str = "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'cannot be counted'; END $$;
    CREATE TRIGGER broken BEFORE INSERT OR UPDATE ON event_stats FOR EACH ROW
        EXECUTE FUNCTION broken();";
const MEND: &str = "DROP TRIGGER broken ON event_stats; DROP FUNCTION broken()";
const SURE: &str = "SELECT coalesce(sum(sure), 0) FROM event_stats";

async fn say(server: &TestServer, by: &Person, event: Uuid, state: &str) {
    let ask = server.call("PUT", &format!("/events/{event}/interest")).bearer(&by.token);
    ask.json(json!({"state": state})).send().await.expect(200);
}

async fn counted(server: &TestServer, wanted: i64) {
    eventually(SOON, || async {
        let sure = server.count(SURE).await;
        if sure == wanted { Ok(()) } else { Err(format!("{sure} are sure")) }
    })
    .await;
}

/// The open letters, when there are so many.
async fn letters(server: &TestServer, admin: &Person, wanted: usize) -> Vec<Value> {
    eventually(SOON, || async {
        let list = server.call("GET", "/admin/dead-letters?limit=100").bearer(&admin.token);
        let list = list.send().await.expect(200).items().clone();
        if list.len() == wanted {
            Ok(list)
        } else {
            Err(format!("{} letters: {list:?}", list.len()))
        }
    })
    .await
}

async fn post(server: &TestServer, by: &Person, path: &str, body: Value) -> Reply {
    let path = format!("/admin/dead-letters{path}");
    server.call("POST", &path).bearer(&by.token).json(body).send().await
}

async fn audit(server: &TestServer, by: &Person, query: &str) -> Vec<Value> {
    let list = server.call("GET", &format!("/admin/audit?{query}")).bearer(&by.token);
    list.send().await.expect(200).items().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_counted_is_counted_once_the_cause_is_mended() {
    let wishes = Wishes::default().set("HAPPENING__BUS__ATTEMPTS_MAX", "2");
    let server = wishes.set("HAPPENING__BUS__RETRY_DELAY_MS", "50").start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (people, admin) = (server.people(3).await, server.admin().await);
    server.pg().batch_execute(BREAK).await.unwrap();
    for person in &people {
        say(&server, person, event, "sure").await;
    }
    let dead = letters(&server, &admin, 3).await;
    for letter in &dead {
        assert_eq!(
            (&letter["source"], &letter["type"], &letter["attempts"]),
            (&json!("user_interactions"), &json!("interest.changed"), &json!(2))
        );
        assert!(letter["reason"].as_str().unwrap().contains("cannot be counted"), "{letter}");
    }
    let fingerprints: Vec<_> = dead.iter().map(|letter| &letter["fingerprint"]).collect();
    assert!(fingerprints.iter().all(|one| *one == fingerprints[0]), "{fingerprints:?}");
    let failed = audit(&server, &admin, "action=message.failed&service=user_interactions").await;
    assert!(failed.len() >= 3, "{failed:?}");
    // One as a sample while it is still broken: it dies again, and its letter opens again.
    let sample = dead[0]["id"].as_str().unwrap();
    post(&server, &admin, &format!("/{sample}/redrive"), json!({})).await.expect(200);
    eventually(SOON, || async {
        let path = format!("/admin/dead-letters/{sample}");
        let one = server.call("GET", &path).bearer(&admin.token).send().await.expect(200).body;
        let again = one["state"] == "open" && one["redrives"] == 1;
        if again { Ok(()) } else { Err(one.to_string()) }
    })
    .await;
    server.pg().batch_execute(MEND).await.unwrap();
    let filter = json!({"fingerprint": fingerprints[0]});
    let done = post(&server, &admin, "/redrive", json!({"filter": filter})).await.expect(200).body;
    assert_eq!((&done["matched"], &done["redriven"]), (&json!(3), &json!(3)));
    counted(&server, 3).await;
    letters(&server, &admin, 0).await;
    // What was sent again comes under its own id, so that nothing is counted twice.
    let again = "SELECT count(*) FROM bus_outbox WHERE type = 'interest.changed'";
    assert_eq!(server.count(again).await, 7);
    server.finish().await;
}

/// What another client puts straight onto the stream.
async fn put(server: &TestServer, body: &[u8]) {
    let mut redis = server.redis();
    let mut add = redis::cmd("XADD");
    add.arg("newEveInters").arg("*").arg("data").arg(body);
    let _: String = add.query_async(&mut redis).await.expect("an entry");
}

fn envelope(kind: &str, data: &Value) -> Vec<u8> {
    let event = data["eventId"].as_str().unwrap_or("x");
    json!({
        "specversion": "1.0", "id": Ids.uuid(), "source": "/happening", "type": kind,
        "subject": event, "time": "2026-11-21T10:00:00Z", "datacontenttype": "application/json",
        "dataschema": format!("/schemas/{kind}/1"), "correlationid": "another-client",
        "partitionkey": event, "data": data,
    })
    .to_string()
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_parked_at_once_and_replaced_by_a_copy() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({})).await;
    let (ana, ben, admin) = (server.person().await, server.person().await, server.admin().await);
    say(&server, &ana, event, "sure").await;
    counted(&server, 1).await;
    let data = json!({"eventId": event, "userId": ana.id, "state": "perhaps", "previous": null,
        "privacy": "public", "version": 7});
    put(&server, &envelope("interest.changed", &data)).await;
    put(&server, &envelope("no.such", &data)).await;
    put(&server, b"not JSON").await;
    put(&server, b"\xff\xfe{}").await;
    put(&server, b"").await;
    put(&server, &vec![b'x'; 2_000_000]).await;
    say(&server, &ben, event, "sure").await;
    counted(&server, 2).await;
    let dead = letters(&server, &admin, 6).await;
    assert!(dead.iter().all(|letter| letter["source"] == "user_interactions"), "{dead:?}");
    assert!(dead.iter().all(|letter| letter["attempts"] == 1), "{dead:?}");
    assert!(dead.iter().all(|letter| letter["reason"] != ""), "{dead:?}");
    // All of them would only die again.
    let all = post(&server, &admin, "/redrive", json!({"dry_run": true})).await.expect(200).body;
    assert_eq!((&all["matched"], &all["redriven"]), (&json!(6), &json!(0)));
    assert_eq!(all["refused"].as_object().unwrap().len(), 6);
    let reason = |letter: &&Value| letter["reason"].as_str().unwrap().contains("/state");
    let unfit = dead.iter().find(reason).expect("the one whose state makes no sense");
    assert_eq!(unfit["correlation_id"], "another-client");
    let path = format!("/{}", unfit["id"].as_str().unwrap());
    let refused = post(&server, &admin, &format!("{path}/redrive"), json!({})).await;
    assert_eq!(refused.refused(422, "invalid").body["errors"][0]["code"], "does_not_fit");
    let mut mended: Value = serde_json::from_str(unfit["payload"].as_str().unwrap()).unwrap();
    assert_eq!(mended, data);
    mended["state"] = json!("maybe");
    let copy = post(&server, &admin, &format!("{path}/copy"), json!({"data": mended})).await;
    let copy = copy.expect(201).body["replaced_by"].clone();
    let copy = copy.as_str().unwrap();
    eventually(SOON, || async {
        let life = audit(&server, &admin, &format!("subject={copy}")).await;
        let consumed = life.iter().any(|line| line["service"] == "user_interactions");
        if consumed { Ok(()) } else { Err(format!("{life:?}")) }
    })
    .await;
    let rest = letters(&server, &admin, 5).await;
    for letter in rest {
        let path = format!("/admin/dead-letters/{}", letter["id"].as_str().unwrap());
        let gone = server.call("DELETE", &format!("{path}?reason=junk")).bearer(&admin.token);
        gone.send().await.expect(204);
    }
    letters(&server, &admin, 0).await;
    server.finish().await;
}
