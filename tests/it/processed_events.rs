//! The repository that any service can use to process each message once (S1.21 to S1.50).

use happening::app::messages::processed::{
    Key, ProcessingStatus, ServiceContext, cleanup_old_events, get_processing_stats,
    get_processing_stats_by_service, is_event_processed, mark_event_as_processing,
    update_event_status,
};
use happening::clock::Clock;
use jiff::SignedDuration;
use serde_json::json;

use crate::harness::{TestServer, Wishes};

const SLACK: ServiceContext = ServiceContext::SlackWorker;
const EMAIL: ServiceContext = ServiceContext::EmailService;

fn key(revision: &str) -> Key {
    Key { stream: "$et-slack.message.created.v1".to_owned(), revision: revision.to_owned() }
}

async fn quiet() -> TestServer {
    let clock = Clock::manual("2026-03-01T10:00:00Z".parse().expect("a time"));
    Wishes::default().without_loops().clock(&clock).start().await
}

/// The handler as documented: check, mark, work, mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_processed_once_by_each_service() {
    let server = quiet().await;
    let (db, settings) = (&server.app().db, &server.config().inbox);
    let (now, ids) = (server.clock().now(), server.app().ids);
    let key = key("184467440737095516150");
    for service in [SLACK, EMAIL, ServiceContext::TeamsService, ServiceContext::SmsService] {
        assert!(!is_event_processed(db, &key, service).await.unwrap());
        let claim = mark_event_as_processing(db, settings, &key, service, now).await.unwrap();
        let claim = claim.expect("nobody works on it");
        let second = mark_event_as_processing(db, settings, &key, service, now).await.unwrap();
        assert!(second.is_none(), "somebody works on it");
        assert!(!is_event_processed(db, &key, service).await.unwrap());
        let end = (ProcessingStatus::Processed, None);
        let ended = update_event_status(db, settings, &claim, service, end, (now, ids)).await;
        assert!(ended.unwrap());
        assert!(is_event_processed(db, &key, service).await.unwrap());
        let third = mark_event_as_processing(db, settings, &key, service, now).await.unwrap();
        assert!(third.is_none(), "it is done");
    }
    let rows = server
        .sql(
            "SELECT streamname, revision, servicecontext, processingstatus
        FROM processed_events ORDER BY servicecontext",
        )
        .await;
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0].get::<_, String>(0), key.stream);
    assert_eq!(rows[0].get::<_, String>(1), key.revision);
    assert_eq!(
        (rows[0].get::<_, String>(2), rows[0].get::<_, String>(3)),
        ("email-service".to_owned(), "processed".to_owned())
    );
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_claimers_one_wins() {
    let server = quiet().await;
    let (db, settings) = (&server.app().db, &server.config().inbox);
    let (now, key) = (server.clock().now(), key("7"));
    let claims = (0..50).map(|_| mark_event_as_processing(db, settings, &key, SLACK, now));
    let claims = futures_util::future::join_all(claims).await;
    assert_eq!(claims.iter().filter(|claim| claim.as_ref().unwrap().is_some()).count(), 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_claimer_is_succeeded_and_its_late_end_does_not_count() {
    let server = quiet().await;
    let (db, settings) = (&server.app().db, &server.config().inbox);
    let (ids, key, clock) = (server.app().ids, key("8"), server.clock());
    let mark =
        async || mark_event_as_processing(db, settings, &key, SLACK, clock.now()).await.unwrap();
    let first = mark().await.expect("the first");
    clock.advance(SignedDuration::from_millis(i64::try_from(settings.lease_ms).unwrap() - 1));
    assert!(mark().await.is_none(), "its lease is not over");
    clock.advance(SignedDuration::from_millis(1));
    let second = mark().await.expect("the lease is over");
    let end = (ProcessingStatus::Processed, None);
    let late = update_event_status(db, settings, &first, SLACK, end, (clock.now(), ids)).await;
    assert!(!late.unwrap(), "the fence keeps it out");
    assert!(!is_event_processed(db, &key, SLACK).await.unwrap());
    let ended = update_event_status(db, settings, &second, SLACK, end, (clock.now(), ids)).await;
    assert!(ended.unwrap());
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_due_again_with_growing_pauses_until_it_is_given_up() {
    let server = quiet().await;
    let (db, settings) = (&server.app().db, &server.config().inbox);
    let (ids, key, clock) = (server.app().ids, key("9"), server.clock());
    let mark =
        async || mark_event_as_processing(db, settings, &key, SLACK, clock.now()).await.unwrap();
    for attempt in 1..=settings.attempts_max {
        let claim = mark().await.unwrap_or_else(|| panic!("attempt {attempt} is due"));
        assert_eq!(u32::try_from(claim.attempts).unwrap(), attempt);
        let end = (ProcessingStatus::Failed, Some("provider is away"));
        let ended = update_event_status(db, settings, &claim, SLACK, end, (clock.now(), ids)).await;
        assert!(ended.unwrap());
        assert!(mark().await.is_none(), "not due at once");
        assert!(!is_event_processed(db, &key, SLACK).await.unwrap(), "failed is not done");
        clock.advance(SignedDuration::from_hours(2));
    }
    assert!(mark().await.is_none(), "given up");
    let row = &server.sql("SELECT last_error, dead_at IS NOT NULL FROM processed_events").await[0];
    assert_eq!(
        (row.get::<_, String>(0), row.get::<_, bool>(1)),
        ("provider is away".to_owned(), true)
    );
    let skipped = self::key("10");
    let claim = mark_event_as_processing(db, settings, &skipped, SLACK, clock.now()).await.unwrap();
    let end = (ProcessingStatus::Skipped, None);
    let moment = (clock.now(), ids);
    update_event_status(db, settings, &claim.unwrap(), SLACK, end, moment).await.unwrap();
    assert!(is_event_processed(db, &skipped, SLACK).await.unwrap(), "skipped is final");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_and_cleanup_by_function_and_by_route() {
    let server = quiet().await;
    let db = &server.app().db;
    let insert = "INSERT INTO processed_events
        (streamName, revision, serviceContext, processingStatus, processedAt, dead_at)
        SELECT 's', n::text, service, status, '2026-03-01T10:00:00Z'::timestamptz - age, dead
        FROM generate_series(1, 3) n, (VALUES
            ('slack-worker', 'processed', interval '40 days', NULL::timestamptz),
            ('email-service', 'processed', '40 days', NULL),
            ('sms-service', 'skipped', '1 day', NULL),
            ('teams-service', 'failed', '40 days', NULL),
            ('inbox-service', 'failed', '40 days', '2026-01-01T10:00:00Z'),
            ('inbox-service', 'processing', '40 days', NULL)) v (service, status, age, dead)
        ON CONFLICT DO NOTHING";
    server.pg().execute(insert, &[]).await.unwrap();
    let all = get_processing_stats(db, None).await.unwrap();
    assert_eq!((all.processed, all.skipped, all.failed, all.total()), (6, 3, 6, 15));
    assert_eq!(all.dead, 3);
    let slack = get_processing_stats(db, Some(SLACK)).await.unwrap();
    assert_eq!((slack.processed, slack.total()), (3, 3));
    let by_service = get_processing_stats_by_service(db).await.unwrap();
    let names: Vec<&str> = by_service.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["email-service", "inbox-service", "slack-worker", "sms-service", "teams-service"]
    );
    let admin = server.admin().await;
    let stats = |query: &str| {
        let path = format!("/admin/processed-events/stats{query}");
        server.call("GET", &path).bearer(&admin.token).send()
    };
    let shown = stats("").await.expect(200).body;
    assert_eq!((&shown["processed"], &shown["total"]), (&json!(6), &json!(15)));
    assert_eq!(shown["by_service"]["slack-worker"]["processed"], 3);
    let one = stats("?service=sms-service").await.expect(200).body;
    assert_eq!(
        (&one["service"], &one["skipped"], &one["total"]),
        (&json!("sms-service"), &json!(3), &json!(3))
    );
    stats("?service=nobody").await.invalid(&["/service"]);
    let now = server.clock().now();
    assert_eq!(cleanup_old_events(db, 30, Some(SLACK), now).await.unwrap(), 3);
    let cleanup = |body| {
        let ask = server.call("POST", "/admin/processed-events/cleanup").bearer(&admin.token);
        ask.json(body).send()
    };
    let email = json!({"older_than_days": 30, "service": "email-service"});
    assert_eq!(cleanup(email).await.expect(200).body, json!({"deleted": 3}));
    // What is still to be done is kept however old.
    let rest = cleanup(json!({"older_than_days": 30})).await.expect(200).body;
    assert_eq!(rest, json!({"deleted": 3}));
    let left = get_processing_stats(db, None).await.unwrap();
    assert_eq!((left.failed, left.skipped, left.dead, left.total()), (3, 3, 0, 6));
    cleanup(json!({"older_than_days": -1})).await.invalid(&["/older_than_days"]);
    cleanup(json!({"older_than_days": 1, "service": "x"})).await.invalid(&["/service"]);
    cleanup(json!({})).await.invalid(&["/older_than_days"]);
    server.finish().await;
}
