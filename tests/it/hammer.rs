//! `happening hammer` tells the truth about a server: what is kept, and what is broken, by its exit
//! status too. Triggers stand for a server that lies.

use serde_json::Value;

use crate::harness::TestServer;
use crate::harness::cli::Ended;

/// What it asks for, over what is asked by all runs.
const USUAL: &[&str] = &["--accounts-from", "database", "--accounts", "40", "--buyers", "120"];
/// Everything that it left, for the next run or the end of the test.
const FORGET: &str = "TRUNCATE events, bookings, booking_seats, waitlist_ledger, outbox,
    notifications, processed_events, idempotency_keys CASCADE";

async fn hammer(server: &TestServer, more: &[&str]) -> Ended {
    let url = format!("http://{}", server.client().address());
    let mut args = vec!["hammer", "--json", "--connections", "8", "--url", &url];
    args.extend(USUAL.iter().chain(more));
    server.command(&args, &[]).await
}

/// The promises that a report says are broken.
fn broken(said: &str) -> Vec<String> {
    let report: Value = serde_json::from_str(said).expect("JSON");
    let verdict = report["verdict"].as_array().expect("a verdict");
    assert!(verdict.len() >= 8, "{verdict:?}");
    let broken: Vec<String> = verdict
        .iter()
        .filter(|one| one["holds"] == false)
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(report["holds"], broken.is_empty());
    broken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_server_is_told_so() {
    let server = TestServer::start().await;
    let mixed = ["--parties", "1..3", "--seats", "60", "--cancel", "20", "--duplicates", "20"];
    let ended = hammer(&server, &[&mixed[..], &["--numbered"]].concat()).await;
    assert_eq!(broken(&ended.well()), [""; 0]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_is_found_out() {
    let server = TestServer::start().await;
    // (what goes wrong, where, what has to be among the findings)
    let lies = [
        ("lost", "BEFORE INSERT ON bookings", "NEW.seats = 3", "RETURN NULL;", "acknowledged"),
        ("mute", "BEFORE INSERT ON notifications", "true", "RETURN NULL;", "notified"),
        (
            "generous",
            "BEFORE UPDATE ON events",
            "NEW.confirmed_seats > 50",
            "NEW.available_slots := NEW.available_slots + 30; NEW.capacity := NEW.capacity + 30;
             RETURN NEW;",
            "oversold",
        ),
    ];
    for (name, on, when, does, finding) in lies {
        let trigger = format!(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN {does} END $$;
             CREATE TRIGGER {name} {on} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {name}()"
        );
        server.pg().batch_execute(&trigger).await.expect("a trigger");
        let usual = ["--parties", "1..3", "--seats", "60", "--settle", "1"];
        let ended = hammer(&server, &usual).await;
        assert_eq!(ended.status, 1, "{name}: {ended:?}");
        let found = broken(&ended.said);
        assert!(found.iter().any(|one| one.contains(finding)), "{name}: {found:?}");
        let table = on.rsplit(' ').next().unwrap();
        let mend = format!("DROP TRIGGER {name} ON {table}; DROP FUNCTION {name}(); {FORGET}");
        server.pg().batch_execute(&mend).await.expect("it is mended");
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_no_broken_promise() {
    let server = TestServer::start().await;
    let nowhere = ["hammer", "--url", "http://127.0.0.1:9", "--buyers", "1"];
    assert_eq!(server.command(&nowhere, &[]).await.status, 2);
    server.finish().await;
}
