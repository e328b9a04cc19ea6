//! The load against a little server that keeps its promises, and the verdict against evidence
//! from which one promise at a time is broken.

mod box_office;
mod lies;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use self::box_office::BoxOffice;
use super::client::Target;
use super::load::{self, Run};
use super::person::Person;
use super::plan::{Limit, Plan};
use super::progress::Progress;
use super::verdict::{Ending, Evidence, Finding, judge};

fn plan(bookings: u64) -> Plan {
    Plan {
        run: "t".to_owned(),
        seed: 11,
        events: vec![Uuid::from_u128(1)],
        capacity: 100,
        people: 5,
        parties: 1..=3,
        cancel_percent: 0,
        duplicate_percent: 20,
        numbered: false,
        waitlist: true,
        keys: true,
        limit: Limit::Bookings(bookings),
    }
}

async fn drive(plan: &Plan, office: &BoxOffice) -> Run {
    let target = Arc::new(Target::parse(&office.url).unwrap());
    let people = (0..plan.people).map(|id| Person::of(id, "token")).collect();
    load::run(plan.clone(), people, &target, 8, 2, &Progress::silent()).await.unwrap()
}

fn findings(plan: &Plan, run: &Run, ending: &Ending) -> Vec<Finding> {
    let endings = std::slice::from_ref(ending);
    let expected = super::expected_notices(plan, run, endings);
    let notices = expected.into_iter().map(|(id, kind, least, _)| ((id, kind), least)).collect();
    judge(&Evidence { plan, run, endings, notices: Some(&notices) })
}

#[tokio::test]
async fn an_honest_server_keeps_every_promise() {
    let office = BoxOffice::open(100, 0).await;
    let plan = plan(300);
    let run = drive(&plan, &office).await;
    assert_eq!(run.seen.len(), 300);
    assert!(run.pairs > 30 && run.unequal.is_empty(), "{:?}", run.unequal);
    assert!(run.errors.is_empty(), "{:?}", run.errors);
    let report =
        super::Report::new(office.url.clone(), &run, findings(&plan, &run, &office.ending()));
    assert!(report.holds, "{}", report.text());
    assert_eq!(report.confirmed + report.waitlisted, 300);
    assert!(report.per_second > 0.0 && report.latency_ms.max >= report.latency_ms.p50);
}

#[tokio::test]
async fn lost_answers_are_asked_for_again_under_the_same_key() {
    // Every seventh connection is cut after the booking was made and before it was answered.
    let office = BoxOffice::open(100, 7).await;
    let plan = plan(200);
    let run = drive(&plan, &office).await;
    assert!(run.errors.get("connection broke").is_some_and(|count| *count > 20));
    assert_eq!(run.count(|outcome| *outcome == load::Outcome::Unknown), 0);
    let findings = findings(&plan, &run, &office.ending());
    assert!(findings.iter().all(|finding| finding.holds), "{findings:?}");
}

#[tokio::test]
async fn without_keys_a_lost_answer_stays_unknown_and_nothing_is_sent_twice() {
    let office = BoxOffice::open(1000, 7).await;
    let plan = Plan { keys: false, ..plan(200) };
    let run = drive(&plan, &office).await;
    let unknown = run.count(|outcome| *outcome == load::Outcome::Unknown);
    assert!(unknown > 10);
    assert_eq!(office.ending().bookings.len(), 200);
}

#[tokio::test]
async fn a_timed_run_ends_and_a_dead_server_is_given_up() {
    let office = BoxOffice::open(1_000_000, 0).await;
    let timed = Plan { limit: Limit::For(Duration::from_millis(200)), ..plan(0) };
    let run = drive(&timed, &office).await;
    assert!(run.elapsed >= Duration::from_millis(150) && run.elapsed < Duration::from_secs(5));

    let nobody = BoxOffice::closed();
    let plan = Plan { keys: false, ..plan(1_000_000) };
    let run = drive(&plan, &nobody).await;
    assert!(run.seen.len() <= 8 * 5 && run.per_second() == 0.0);
}
