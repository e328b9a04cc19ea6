//! PostgreSQL, in which all the truth is.

use super::{Report, Status};
use crate::clock::Clock;
use crate::config::Config;
use crate::postgres::{Db, alarm, migrate, vitals};

/// Oldest version that has what the statements use.
const VERSION_MIN: i32 = 140_000;
/// Most open alarms that are told.
const ALARMS_MAX: i64 = 20;
/// Clocks this many milliseconds apart (besides the round trip) confuse people ...
const SKEW_WARN_MS: i64 = 500;
/// ... and these confuse deadlines.
const SKEW_FAIL_MS: i64 = 5000;

pub async fn examine(report: &mut Report, config: &Config) {
    let clock = Clock::default();
    let settings = async {
        let db = Db::new(&config.postgres, 2)?;
        let asked = clock.now();
        let settings = vitals::settings(&*db.get().await?).await?;
        anyhow::Ok((db, settings, asked, clock.now()))
    };
    let (db, settings, asked, answered) = match settings.await {
        Ok(found) => found,
        Err(error) => {
            let mend = "start PostgreSQL, or set DATABASE_URL; `./dev services start` has one";
            return report.fail("postgres.connect", format!("{error:#}"), mend);
        }
    };
    let round = answered.as_millisecond() - asked.as_millisecond();
    report.ok("postgres.connect", format!("as {} to {}", settings.user, settings.database));
    let recent = settings.version_number >= VERSION_MIN;
    let mend = "upgrade PostgreSQL to 14 or later";
    report.expect("postgres.version", recent, &settings.version, Status::Fail, mend);
    for (name, value) in [
        ("fsync", &settings.fsync),
        ("full_page_writes", &settings.full_page_writes),
        ("synchronous_commit", &settings.synchronous_commit),
    ] {
        let mend = "turn it on in postgresql.conf: without it a crash loses what was acknowledged";
        let safe = value != "off";
        report.expect(&format!("postgres.{name}"), safe, value, Status::Fail, mend);
    }
    let mend = "create the database with ENCODING 'UTF8'";
    let utf8 = settings.encoding == "UTF8";
    report.expect("postgres.encoding", utf8, &settings.encoding, Status::Fail, mend);
    let mend = "GRANT CREATE ON SCHEMA public, or run `happening migrate` as the owner";
    let found = if settings.may_create { "may create tables" } else { "may not create tables" };
    report.expect("postgres.permission", settings.may_create, found, Status::Warn, mend);
    connections(report, config, settings.max_connections);
    let skew = settings.now.as_millisecond() - asked.as_millisecond() - round / 2;
    let found = format!("{skew} ms (round trip {round} ms)");
    let status = if skew.abs() > SKEW_FAIL_MS { Status::Fail } else { Status::Warn };
    let mend = "run NTP on both machines";
    let close = skew.abs() <= SKEW_WARN_MS + round;
    report.expect("postgres.clock_skew", close, found, status, mend);
    match migrate::pending(&db).await {
        Ok(pending) => {
            let found = match pending.as_slice() {
                [] => "up to date".to_owned(),
                some => format!("pending: {}", some.join(", ")),
            };
            let done = pending.is_empty();
            report.expect("postgres.schema", done, found, Status::Fail, "run `happening migrate`");
            if done {
                alarms(report, &db).await;
            }
        }
        Err(error) => {
            report.fail("postgres.schema", format!("{error:#}"), "look at PostgreSQL's log");
        }
    }
}

/// What the processes themselves say is wrong.
async fn alarms(report: &mut Report, db: &Db) {
    let open = async { alarm::list(&*db.get().await?, Some(true), None, None, ALARMS_MAX).await };
    match open.await {
        Ok(open) if open.is_empty() => report.ok("alarms", "none is open"),
        Ok(open) => {
            for one in open {
                let name = format!("alarms.{}", one.kind.name());
                let found = format!("{} Since {:.0}.", one.sentence(), one.opened_at);
                report.warn(&name, found, one.kind.advice());
            }
        }
        Err(error) => report.fail("alarms", error.to_string(), "look at PostgreSQL's log"),
    }
}

/// Requests, lanes and workers have connections of their own; some are left for people.
fn connections(report: &mut Report, config: &Config, max: i32) {
    let lanes = config.booking.lanes;
    let needed = config.postgres.pool_size + lanes + 8;
    let enough = usize::try_from(max).is_ok_and(|max| max >= needed);
    let found = format!("{max} allowed, one process needs up to {needed}");
    let mend = "raise max_connections, or lower postgres.pool_size";
    report.expect("postgres.max_connections", enough, found, Status::Warn, mend);
}
