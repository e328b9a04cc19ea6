//! Alarms: each begins once, is told once to everybody who runs the instance, and ends once,
//! however many processes watch; what comes and goes is one alarm; and nothing of it needs
//! PostgreSQL but the telling.

use std::time::Duration;

use happening::actors::watchman::Watchman;
use happening::actors::{Actor as _, Next};
use happening::app::App;
use happening::app::alarms::watch::Lookout;
use happening::clock::{Clock, Ids};
use happening::postgres::Db;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::harness::people::Person;
use crate::harness::{TestServer, Wishes};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(20);
const STEP: i64 = 20;

/// An instance of two processes that watch, by a clock that is set by hand.
struct Night {
    server: TestServer,
    apps: [App; 2],
    watchmen: [Watchman; 2],
    admins: Vec<Person>,
}

fn watchman(server: &TestServer, app: &App, name: &str) -> Watchman {
    let db = Db::by_key(&server.config().postgres, 1).unwrap();
    Watchman::new(Lookout::new(app.clone(), db, name.to_owned()))
}

impl Night {
    async fn begin() -> Self {
        let clock = Clock::manual("2026-03-01T03:00:00Z".parse().expect("a time"));
        let wishes = Wishes::default().without_loops().clock(&clock);
        let wishes = wishes.set("HAPPENING__ALARMS__ERRORS_MIN", "10");
        let mut server = wishes.set("HAPPENING__ALARMS__DEAD_LETTERS_MAX", "3").start().await;
        let (_, other) = server.another().await;
        let apps = [server.app().clone(), other];
        let watchmen = [watchman(&server, &apps[0], "one"), watchman(&server, &apps[1], "two")];
        let admins = vec![server.admin().await, server.admin().await];
        server.person().await;
        Self { server, apps, watchmen, admins }
    }

    /// Both look once.
    async fn look(&mut self) {
        for watchman in &mut self.watchmen {
            assert_eq!(watchman.step().await.unwrap(), Next::Rest);
        }
        // As the relay would: what it leaves is an alarm itself.
        let sent = "UPDATE outbox SET sent_at = created_at WHERE type LIKE 'alarm%'";
        self.server.pg().batch_execute(sent).await.unwrap();
    }

    /// Time goes by while `what` goes on, and both look now and then.
    async fn pass(&mut self, seconds: i64, every: i64, what: impl Fn(&[App; 2])) {
        for _ in 0..seconds / every {
            self.server.clock().advance(SignedDuration::from_secs(every));
            what(&self.apps);
            self.look().await;
        }
    }

    /// What is written for an administrator, in its order: the turn, and what it is about.
    async fn told(&self, admin: &Person) -> Vec<(String, Vec<String>)> {
        let rows = format!(
            "SELECT type, payload::text FROM outbox
             WHERE type LIKE 'alarm%' AND payload->>'userId' = '{}' ORDER BY seq",
            admin.id
        );
        let mut told = Vec::new();
        for row in self.server.sql(&rows).await {
            let payload: Value = serde_json::from_str(row.get(1)).unwrap();
            let alarms = payload["alarms"].as_array().unwrap();
            let what = |one: &Value| {
                format!("{} {}", one["kind"].as_str().unwrap(), one["subject"].as_str().unwrap())
            };
            told.push((row.get(0), alarms.iter().map(what).collect()));
        }
        told
    }

    /// The same for all of them; nobody else is told.
    async fn told_all(&self) -> Vec<(String, Vec<String>)> {
        let told = self.told(&self.admins[0]).await;
        assert_eq!(told, self.told(&self.admins[1]).await);
        let all = "SELECT count(*) FROM outbox WHERE type LIKE 'alarm%'";
        assert_eq!(self.server.count(all).await, i64::try_from(told.len() * 2).unwrap());
        told
    }

    async fn turns(&self) -> Vec<String> {
        self.told_all().await.into_iter().map(|(turn, _)| turn).collect()
    }

    /// Open alarms, and all that ever were.
    async fn rows(&self) -> (i64, i64) {
        let open = "SELECT count(*) FROM alarms WHERE closed_at IS NULL";
        (self.server.count(open).await, self.server.count("SELECT count(*) FROM alarms").await)
    }

    async fn letter(&self, source: &str, kind: &str) {
        let insert = format!(
            "INSERT INTO dead_letters (id, source, message_id, type, payload, reason, fingerprint,
                 attempts, died_at)
             VALUES ('{}', '{source}', gen_random_uuid()::text, '{kind}', '{{}}', 'too long', 'f',
                     3, '{}')",
            Ids.uuid(),
            self.server.clock().now()
        );
        self.server.pg().batch_execute(&insert).await.unwrap();
    }

    /// Something in the outbox that nobody takes.
    async fn stuck(&self) {
        let insert = format!(
            "INSERT INTO outbox (id, aggregate_id, type, payload, correlation_id, created_at)
             VALUES ('{}', '{}', 'event_updated', '{{}}', '', '{}')",
            Ids.uuid(),
            Ids.uuid(),
            self.server.clock().now() - SignedDuration::from_mins(10)
        );
        self.server.pg().batch_execute(&insert).await.unwrap();
    }

    async fn end(self) {
        self.server.forgive("alarm");
        self.server.finish().await;
    }
}

fn paused(app: &App) {
    app.signals.failed("user_interactions", "redis is away".to_owned(), app.clock.now());
}

fn behind(app: &App) {
    app.signals.waits("user_interactions", 600, app.clock.now());
}

fn served(app: &App) {
    app.signals.waits("user_interactions", 0, app.clock.now());
}

fn named(told: &[&str]) -> Vec<String> {
    told.iter().map(|one| (*one).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_begins_once_and_ends_once_though_two_watch() {
    let mut night = Night::begin().await;
    night.look().await;
    assert_eq!(night.rows().await, (0, 0));
    // What is critical does not wait; what is not might pass.
    night.letter("relay", "interest.changed").await;
    night.letter("relay", "vendor.approved").await;
    for _ in 0..3 {
        night.letter("inbox-service", "booking_confirmed").await;
    }
    night.stuck().await;
    let bad = |apps: &[App; 2]| {
        // Breakers and rates are each process's own.
        paused(&apps[1]);
        apps[0].signals.took("inbox-service", 10, 5);
        apps.iter().for_each(behind);
    };
    bad(&night.apps);
    night.look().await;
    let opened = |what: &[&str]| ("alarm_opened".to_owned(), named(what));
    let first = opened(&["publication_failed interest.changed"]);
    assert_eq!(night.told_all().await, std::slice::from_ref(&first));
    night.pass(60, STEP, bad).await;
    let told = night.told_all().await;
    // The two processes have each something of their own, and the rest in common.
    let mut rest: Vec<String> = told[1..].iter().flat_map(|(_, what)| what.clone()).collect();
    rest.sort();
    let mut all = named(&[
        "publication_failed vendor.approved",
        "backlog_old outbox.mail",
        "backlog_old user_interactions",
        "breaker_open user_interactions",
        "dead_letters inbox-service",
    ]);
    all.sort();
    assert_eq!((&told[0], rest), (&first, all));
    night.pass(120, STEP, bad).await;
    let rate = opened(&["error_rate inbox-service"]);
    let told = night.told_all().await;
    assert_eq!(told.last(), Some(&rate), "it needs enough failures, and then a while");
    let (began, count) = (told.len(), night.rows().await);
    assert_eq!(count, (7, 7));
    night.pass(600, STEP, bad).await;
    assert_eq!((night.told_all().await.len(), night.rows().await), (began, (7, 7)));

    // One process is well, the other is not: still the same alarm.
    let mend = "UPDATE dead_letters SET resolved_at = died_at, resolution = 'discarded';
        UPDATE outbox SET sent_at = created_at WHERE type = 'event_updated'";
    night.server.pg().batch_execute(mend).await.unwrap();
    night.apps.iter().for_each(|app| app.signals.recovered("user_interactions"));
    let well = |apps: &[App; 2]| {
        apps.iter().for_each(served);
        apps[0].signals.took("inbox-service", 1000, 0);
    };
    let half = |apps: &[App; 2]| {
        well(apps);
        paused(&apps[1]);
    };
    night.pass(900, STEP, half).await;
    assert_eq!(night.rows().await, (1, 7));
    let process = "SELECT process FROM alarms WHERE closed_at IS NULL";
    assert_eq!(night.server.sql(process).await[0].get::<_, String>(0), "two");
    night.apps[1].signals.recovered("user_interactions");
    night.pass(280, STEP, well).await;
    assert_eq!(night.rows().await, (1, 7));
    night.pass(40, STEP, well).await;
    assert_eq!(night.rows().await, (0, 7));
    night.pass(1200, STEP, well).await;
    let mut closed: Vec<String> = Vec::new();
    for (turn, what) in &night.told_all().await[began..] {
        assert_eq!(turn, "alarm_closed");
        closed.extend(what.clone());
    }
    assert_eq!(closed.len(), 7, "each once: {closed:?}");
    closed.sort();
    closed.dedup();
    assert_eq!(closed.len(), 7, "{closed:?}");
    night.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reminders_are_few_and_of_all_at_once() {
    let mut night = Night::begin().await;
    let ten_minutes = 600;
    night.pass(2 * ten_minutes, ten_minutes, |apps| apps.iter().for_each(behind)).await;
    assert_eq!(night.turns().await, ["alarm_opened"]);
    let both = |apps: &[App; 2]| {
        apps.iter().for_each(behind);
        paused(&apps[0]);
    };
    night.pass(3 * 3600, ten_minutes, both).await;
    assert_eq!(night.turns().await, ["alarm_opened", "alarm_opened"]);
    night.pass(3 * 3600, ten_minutes, both).await;
    let told = night.told_all().await;
    assert_eq!(told.len(), 3);
    assert_eq!((told[2].0.as_str(), told[2].1.len()), ("alarm_reminder", 2));
    night.pass(5 * 3600, ten_minutes, both).await;
    assert_eq!(night.turns().await.len(), 3);
    night.pass(3600, ten_minutes, both).await;
    assert_eq!(night.turns().await[3..], ["alarm_reminder"]);
    night.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_and_goes_is_one_alarm_and_a_restart_is_no_all_clear() {
    let mut night = Night::begin().await;
    let bad = |apps: &[App; 2]| apps.iter().for_each(behind);
    let well = |apps: &[App; 2]| {
        apps.iter().for_each(served);
    };
    for _ in 0..10 {
        night.pass(40, STEP, bad).await;
        night.pass(20, STEP, well).await;
    }
    assert_eq!(night.rows().await, (0, 0), "it was never there for long enough");
    night.pass(80, STEP, bad).await;
    for _ in 0..10 {
        night.pass(200, STEP, well).await;
        night.pass(40, STEP, bad).await;
    }
    assert_eq!((night.rows().await, night.turns().await.len()), ((1, 1), 1));
    // Both are started again, and it takes long.
    night.server.clock().advance(SignedDuration::from_mins(20));
    let [one, two] = &night.apps;
    night.watchmen = [watchman(&night.server, one, "three"), watchman(&night.server, two, "four")];
    night.pass(120, STEP, bad).await;
    assert_eq!((night.rows().await, night.turns().await.len()), ((1, 1), 1));
    // After an outage of PostgreSQL whoever sees nothing waits for those who do.
    night.server.clock().advance(SignedDuration::from_mins(20));
    night.watchmen.swap(0, 1);
    night.pass(20, STEP, bad).await;
    night.pass(340, STEP, well).await;
    assert_eq!((night.rows().await, night.turns().await.len()), ((0, 1), 2));
    // Forgotten when it has been over for long.
    let forget = async |night: &Night| {
        let server = &night.server;
        happening::app::forget::some(&night.apps[0].db, server.clock(), server.config())
            .await
            .unwrap();
    };
    night.server.clock().advance(SignedDuration::from_hours(24 * 89));
    forget(&night).await;
    assert_eq!(night.rows().await, (0, 1));
    night.server.clock().advance(SignedDuration::from_hours(48));
    forget(&night).await;
    assert_eq!(night.rows().await, (0, 0));
    night.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_it_is_still_logged_and_measured() {
    let night = Night::begin().await;
    let mut config = night.server.config().clone();
    config.postgres.url = "postgres://happening@127.0.0.1:1/nowhere".into();
    let db = Db::by_key(&config.postgres, 1).unwrap();
    let app = &night.apps[0];
    let mut watchman = Watchman::new(Lookout::new(app.clone(), db, "cut off".to_owned()));
    let measured = async || {
        let text = night.server.root("GET", "/metrics").send().await.expect(200).text;
        let line = text.lines().find(|line| line.starts_with("alarms_open{kind=\"breaker_open\"}"));
        line.and_then(|line| line.split(' ').next_back()?.parse::<f64>().ok())
    };
    for expected in [0.0, 0.0, 0.0, 1.0, 1.0] {
        paused(app);
        watchman.step().await.unwrap();
        assert_eq!(measured().await, Some(expected));
        app.clock.advance(SignedDuration::from_secs(STEP));
    }
    assert_eq!(night.rows().await, (0, 0));
    night.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_relay_gives_up_reaches_an_administrator() {
    let wishes = Wishes::default()
        .set("HAPPENING__BUS__MESSAGE_LIMIT_BYTES", "1024")
        .set("HAPPENING__ALARMS__TICK_MS", "100")
        .set("HAPPENING__ALARMS__CLOSE_AFTER_SECONDS", "1");
    let server = wishes.start().await;
    let (admin, person) = (server.admin().await, server.person().await);
    let long = json!({"eventId": Ids.uuid(), "long": "x".repeat(2000)});
    let insert = format!(
        "INSERT INTO outbox (id, aggregate_id, type, payload, correlation_id, created_at, lane)
         VALUES ('{}', '{}', 'interest.changed', '{long}', 'req-7', now(), 'bus')",
        Ids.uuid(),
        Ids.uuid()
    );
    server.pg().batch_execute(&insert).await.unwrap();
    let turn = async |turn: &str| {
        eventually(SOON, || async {
            let inbox = server.call("GET", "/me/notifications").bearer(&admin.token);
            let inbox = inbox.send().await.expect(200);
            let found = inbox.items().iter().find(|one| one["type"] == turn);
            found.cloned().ok_or_else(|| inbox.text.clone())
        })
        .await
    };
    let news = turn("alarm_opened").await;
    assert_eq!(news["title"], "Alarm: messages were given up (interest.changed)");
    let body = news["body"].as_str().unwrap();
    for part in ["1 message of type interest.changed", "1024", "Since 20", "dead-letters list"] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert_eq!(news["data"]["alarms"][0]["kind"], "publication_failed");

    let get = async |query: &str| {
        server.call("GET", &format!("/admin/alarms{query}")).bearer(&admin.token).send().await
    };
    let open = get("?state=open&kind=publication_failed").await.expect(200);
    let [one] = open.items().as_slice() else { panic!("{}", open.text) };
    assert_eq!(
        (&one["subject"], &one["state"], &one["unit"], &one["value"]),
        (&json!("interest.changed"), &json!("open"), &json!("messages"), &json!(1))
    );
    assert_eq!(one["id"], news["data"]["alarms"][0]["id"]);
    assert!(one["summary"].as_str().is_some_and(|text| body.starts_with(text)), "{one}");
    assert!(get("?state=closed").await.expect(200).items().is_empty());
    assert!(get("?kind=error_rate").await.expect(200).items().is_empty());
    get("?state=ajar").await.invalid(&["/state"]);
    get("?kind=fire").await.invalid(&["/kind"]);
    let theirs = server.call("GET", "/admin/alarms").bearer(&person.token);
    theirs.send().await.refused(403, "forbidden");

    let letters = server.call("GET", "/admin/dead-letters").bearer(&admin.token);
    let letter = letters.send().await.expect(200).items()[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/admin/dead-letters/{letter}");
    server.call("DELETE", &path).bearer(&admin.token).send().await.expect(204);
    let over = turn("alarm_closed").await;
    assert!(over["title"].as_str().unwrap().starts_with("All clear: "), "{over}");
    assert_eq!(get("?state=closed").await.expect(200).items().len(), 1);
    assert_eq!(server.inbox(&person).await.len(), 0);
    // How long messages wait is measured for all who take any.
    eventually(SOON, || async {
        let waits = server.app().signals.backlogs(server.clock().now());
        let who: Vec<&str> = waits.iter().map(|(service, _)| service.as_str()).collect();
        let all = who == ["inbox-service", "user_interactions"];
        if all { Ok(()) } else { Err(format!("{waits:?}")) }
    })
    .await;
    let taken = server.app().signals.taken();
    let inbox = taken.iter().find(|(service, _)| *service == "inbox-service").expect("it took");
    assert!(inbox.1.fine >= 2 && inbox.1.failed == 0, "{taken:?}");
    server.forgive("alarm");
    server.forgive("not published");
    server.finish().await;
}
