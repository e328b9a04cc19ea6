//! The log of the bus: what its relay reads, in which order, and what becomes of what is not sent,
//! comes late, or is sent by somebody who was given up.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use happening::app::forget;
use happening::app::messages::bus_line::{Batch, BusLine, Look};
use happening::app::messages::relay::{Outbox, Published, Settled};
use happening::clock::{Clock, Ids};
use happening::postgres::{Conn, Db};
use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

use crate::harness::{TestServer, Wishes};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(20);

async fn house(clock: &Clock) -> TestServer {
    let wishes = Wishes::default().clock(clock).without_loops();
    wishes.set("HAPPENING__BUS__STREAM_LEASE_MS", "1000").start().await
}

fn clock() -> Clock {
    Clock::manual("2026-03-01T10:00:00Z".parse().unwrap())
}

fn line(server: &TestServer) -> BusLine {
    let app = server.app();
    let db = Db::by_key(&app.config.postgres, 2).unwrap();
    let outbox = Outbox::new(db, app.clock.clone(), app.ids, Arc::clone(&app.config));
    BusLine::new(outbox, app.ids.uuid())
}

/// Writes a message as a verb does.
async fn write(conn: &Conn, aggregate: Uuid, number: i64) {
    let id = Ids.uuid();
    let insert = format!(
        "INSERT INTO bus_outbox (id, aggregate_id, type, payload, correlation_id, created_at)
         VALUES ('{id}', '{aggregate}', 'interest.changed', '{number}', 'req', now())"
    );
    conn.batch_execute(&insert).await.unwrap();
}

async fn batch(line: &mut BusLine) -> Batch {
    match line.look(500).await.unwrap() {
        Look::Batch(batch) => batch,
        other => panic!("{other:?}"),
    }
}

fn numbers(batch: &Batch) -> Vec<i64> {
    batch.messages.iter().map(|message| message.payload.parse().unwrap()).collect()
}

fn sent(batch: &Batch) -> Vec<Published> {
    batch.messages.iter().map(|one| Published::Yes(Some(format!("at-{}", one.payload)))).collect()
}

/// Sends all there is and says what it was.
async fn drain(line: &mut BusLine) -> Vec<i64> {
    let mut all = Vec::new();
    while let Look::Batch(batch) = line.look(500).await.unwrap() {
        all.extend(numbers(&batch));
        let outcomes = sent(&batch);
        line.settle(batch, &outcomes, None).await.unwrap();
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_late_is_sent_late_and_what_never_comes_is_forgotten() {
    let server = house(&clock()).await;
    let db = &server.app().db;
    let mut line = line(&server);
    let slow = db.begin().await.unwrap();
    write(&slow, Ids.uuid(), 1).await;
    let never = db.begin().await.unwrap();
    write(&never, Ids.uuid(), 2).await;
    write(&db.get().await.unwrap(), Ids.uuid(), 3).await;
    write(&slow, Ids.uuid(), 4).await;
    write(&db.get().await.unwrap(), Ids.uuid(), 5).await;
    assert_eq!(drain(&mut line).await, [3, 5]);
    let gaps = "SELECT gap_firsts, gap_lasts FROM bus_relay";
    let places = async || {
        let row = &server.sql(gaps).await[0];
        (row.get::<_, Vec<i64>>(0), row.get::<_, Vec<i64>>(1))
    };
    assert_eq!(places().await, (vec![1, 4], vec![2, 4]));
    never.rollback().await.unwrap();
    // Whoever comes next knows of the gaps.
    let mut line = self::line(&server);
    assert!(drain(&mut line).await.is_empty());
    slow.commit().await.unwrap();
    write(&db.get().await.unwrap(), Ids.uuid(), 6).await;
    let next = batch(&mut line).await;
    assert_eq!(numbers(&next), [1, 4, 6], "what comes late goes first");
    let outcomes = sent(&next);
    assert_eq!(line.settle(next, &outcomes, None).await.unwrap().sent, 3);
    // Other databases of this PostgreSQL may have transactions that were alive then.
    eventually(SOON, || async {
        let mut line = self::line(&server);
        assert!(drain(&mut line).await.is_empty());
        let left = places().await;
        if left.0.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    let state = "SELECT payload::text, position FROM bus_messages ORDER BY seq";
    let rows = server.sql(state).await;
    let rows: Vec<(String, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (payload, position) in rows {
        assert_eq!(position, Some(format!("at-{payload}")));
    }
    server.finish().await;
}

/// A transaction may have drawn a higher id than all that are over, and go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_remembered_as_long_as_its_writer_lives() {
    let server = house(&clock()).await;
    let db = &server.app().db;
    let mut line = line(&server);
    write(&db.get().await.unwrap(), Ids.uuid(), 1).await;
    let Look::Batch(first) = line.look(1).await.unwrap() else { panic!("nothing to do") };
    let outcomes = sent(&first);
    line.settle(first, &outcomes, None).await.unwrap();
    let quick = db.begin().await.unwrap();
    quick.batch_execute("SELECT pg_current_xact_id()").await.unwrap();
    let slow = db.begin().await.unwrap();
    slow.batch_execute("SELECT pg_current_xact_id()").await.unwrap();
    write(&slow, Ids.uuid(), 2).await;
    write(&quick, Ids.uuid(), 3).await;
    quick.commit().await.unwrap();
    assert_eq!(drain(&mut line).await, [3]);
    assert!(drain(&mut line).await.is_empty());
    slow.commit().await.unwrap();
    assert_eq!(drain(&mut line).await, [2]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_comes_late_than_fits_one_batch_and_nothing_overtakes_it() {
    let server = house(&clock()).await;
    let db = &server.app().db;
    let mut line = line(&server);
    let key = Ids.uuid();
    let slow = db.begin().await.unwrap();
    for number in 1..=9 {
        write(&slow, key, number).await;
    }
    write(&db.get().await.unwrap(), Ids.uuid(), 10).await;
    assert_eq!(drain(&mut line).await, [10]);
    slow.commit().await.unwrap();
    write(&db.get().await.unwrap(), key, 11).await;
    let mut all = Vec::new();
    while let Look::Batch(batch) = line.look(4).await.unwrap() {
        all.extend(numbers(&batch));
        let outcomes = sent(&batch);
        line.settle(batch, &outcomes, None).await.unwrap();
    }
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 7, 8, 9, 11]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_keeps_back_its_own_and_nobody_else() {
    let clock = clock();
    let server = house(&clock).await;
    let conn = server.app().db.get().await.unwrap();
    let mut line = line(&server);
    let (one, two) = (Ids.uuid(), Ids.uuid());
    write(&conn, one, 1).await;
    write(&conn, two, 2).await;
    let first = batch(&mut line).await;
    let outcomes = [Published::Refused("no room".into()), Published::Yes(None)];
    let settled = line.settle(first, &outcomes, None).await.unwrap();
    assert_eq!(settled, Settled { sent: 1, failed: 1, dead: 0 });
    write(&conn, one, 3).await;
    write(&conn, two, 4).await;
    let second = batch(&mut line).await;
    assert_eq!(numbers(&second), [4]);
    let outcomes = sent(&second);
    line.settle(second, &outcomes, None).await.unwrap();
    write(&conn, one, 5).await;
    assert!(drain(&mut line).await.is_empty());
    let unsent = "SELECT count(*) FROM bus_unsent";
    assert_eq!(server.count(unsent).await, 3);
    clock.advance(SignedDuration::from_secs(10));
    assert_eq!(drain(&mut line).await, [1, 3, 5]);
    assert_eq!(server.count(unsent).await, 0);

    // What is refused each time is given up, and lets its own pass.
    write(&conn, one, 6).await;
    write(&conn, one, 7).await;
    let mut settled = Settled::default();
    let mut passed = Vec::new();
    while settled.dead == 0 {
        clock.advance(SignedDuration::from_mins(10));
        let next = batch(&mut line).await;
        let refuse = |number: &i64| match number {
            6 => Published::Refused("never".into()),
            _ => Published::Yes(None),
        };
        let outcomes: Vec<Published> = numbers(&next).iter().map(refuse).collect();
        passed.extend(numbers(&next).into_iter().filter(|number| *number != 6));
        settled = line.settle(next, &outcomes, None).await.unwrap();
    }
    passed.extend(drain(&mut line).await);
    assert_eq!(passed, [7]);
    let letters = "SELECT payload, attempts FROM dead_letters";
    let letter = &server.sql(letters).await[0];
    assert_eq!((letter.get::<_, &str>(0), letter.get::<_, i32>(1)), ("6", 3));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_takes_nothing_moves_nothing() {
    let clock = clock();
    let server = house(&clock).await;
    let conn = server.app().db.get().await.unwrap();
    let mut line = line(&server);
    for number in 1..=3 {
        write(&conn, Ids.uuid(), number).await;
    }
    let first = batch(&mut line).await;
    let nothing = vec![Published::Unknown; 3];
    assert_eq!(line.settle(first, &nothing, None).await.unwrap(), Settled::default());
    let state = "SELECT read_to + (SELECT count(*) FROM bus_stragglers) FROM bus_relay";
    assert_eq!(server.count(state).await, 0);
    // It took one: those behind it wait a moment, so that others may pass.
    let again = batch(&mut line).await;
    assert_eq!(numbers(&again), [1, 2, 3]);
    let some = [Published::Yes(None), Published::Unknown, Published::Unknown];
    assert_eq!(line.settle(again, &some, None).await.unwrap().sent, 1);
    assert!(drain(&mut line).await.is_empty());
    clock.advance(SignedDuration::from_secs(3));
    assert_eq!(drain(&mut line).await, [2, 3]);
    assert_eq!(server.count("SELECT sum(attempts) FROM bus_messages").await, 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_relay_at_a_time_and_who_slept_too_long_is_not_listened_to() {
    let clock = clock();
    let server = house(&clock).await;
    let conn = server.app().db.get().await.unwrap();
    let (mut one, mut two) = (line(&server), line(&server));
    write(&conn, Ids.uuid(), 1).await;
    let sleeping = batch(&mut one).await;
    assert!(matches!(two.look(500).await.unwrap(), Look::Busy));
    clock.advance(SignedDuration::from_secs(2));
    assert_eq!(drain(&mut two).await, [1]);
    write(&conn, Ids.uuid(), 2).await;
    let outcomes = sent(&sleeping);
    assert_eq!(one.settle(sleeping, &outcomes, None).await.unwrap(), Settled::default());
    assert_eq!(server.count("SELECT count(*) FROM bus_publications").await, 1);
    // Who has nothing left lets it go at once; who has, keeps it until it is stopped.
    assert_eq!(drain(&mut two).await, [2]);
    write(&conn, Ids.uuid(), 3).await;
    write(&conn, Ids.uuid(), 4).await;
    let Look::Batch(half) = one.look(1).await.unwrap() else { panic!("it was let go") };
    let outcomes = sent(&half);
    assert_eq!(one.settle(half, &outcomes, None).await.unwrap().sent, 1);
    assert!(matches!(two.look(500).await.unwrap(), Look::Busy));
    one.let_go().await;
    assert_eq!(drain(&mut two).await, [4]);
    assert!(matches!(one.look(500).await.unwrap(), Look::Idle));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_ones_are_read_ahead_unless_something_goes_aside() {
    let clock = clock();
    let server = house(&clock).await;
    let conn = server.app().db.get().await.unwrap();
    let mut line = line(&server);
    let key = Ids.uuid();
    for number in 1..=7 {
        write(&conn, key, number).await;
    }
    let look = async |line: &mut BusLine| match line.look(2).await.unwrap() {
        Look::Batch(batch) => batch,
        other => panic!("{other:?}"),
    };
    let first = look(&mut line).await;
    let ahead = line.look_ahead(&first, 2).await.unwrap();
    assert_eq!((numbers(&first), numbers(ahead.as_ref().unwrap())), (vec![1, 2], vec![3, 4]));
    let outcomes = sent(&first);
    line.settle(first, &outcomes, ahead).await.unwrap();
    let second = look(&mut line).await;
    assert_eq!(numbers(&second), [3, 4]);
    // The last of them is refused: what was read meanwhile must not pass it.
    let ahead = line.look_ahead(&second, 2).await.unwrap();
    assert_eq!(numbers(ahead.as_ref().unwrap()), [5, 6]);
    let outcomes = [Published::Yes(None), Published::Refused("no room".into())];
    line.settle(second, &outcomes, ahead).await.unwrap();
    assert!(drain(&mut line).await.is_empty());
    clock.advance(SignedDuration::from_mins(1));
    assert_eq!(drain(&mut line).await, [4, 5, 6, 7]);
    server.finish().await;
}

/// Batches and stragglers are the log of publications as long as the log of messages is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publications_are_told_and_forgotten_after_their_days() {
    let clock = clock();
    let server = house(&clock).await;
    let admin = server.admin().await;
    let conn = server.app().db.get().await.unwrap();
    let mut line = line(&server);
    for number in 1..=3 {
        write(&conn, Ids.uuid(), number).await;
    }
    let first = batch(&mut line).await;
    let some = [Published::Yes(Some("1-1".into())), Published::Unknown, Published::Yes(None)];
    line.settle(first, &some, None).await.unwrap();
    clock.advance(SignedDuration::from_secs(5));
    assert_eq!(drain(&mut line).await, [2]);
    let lines = async |query: &str| {
        let path = format!("/admin/audit?service=bus&{query}");
        let list = server.call("GET", &path).bearer(&admin.token).send().await.expect(200);
        list.items().clone()
    };
    let all = lines("action=message.published").await;
    let places: Vec<&str> = all.iter().map(|line| line["detail"].as_str().unwrap_or("")).collect();
    assert_eq!(places[0], "at-2", "what was sent last is told first");
    let mut rest = places[1..].to_vec();
    rest.sort_unstable();
    assert_eq!(rest, ["", "1-1"]);
    for line in &all {
        let subject = line["subject"].as_str().unwrap();
        assert_eq!(lines(&format!("subject={subject}")).await, [line.clone()]);
    }
    assert_eq!(lines("request_id=req").await, all);

    let forget = async || {
        let app = server.app();
        while forget::some(&app.db, &app.clock, &app.config).await.unwrap() {}
    };
    let left = async || {
        let rows =
            "SELECT (SELECT count(*) FROM bus_outbox), (SELECT count(*) FROM bus_stragglers),
            (SELECT count(*) FROM bus_publications)";
        let row = &server.sql(rows).await[0];
        [row.get::<_, i64>(0), row.get(1), row.get(2)]
    };
    // Of four, one is not sent when the days of the others are over.
    write(&conn, Ids.uuid(), 4).await;
    let last = batch(&mut line).await;
    line.settle(last, &[Published::Refused("no room".into())], None).await.unwrap();
    clock.advance(SignedDuration::from_hours(7 * 24 - 1));
    forget().await;
    assert_eq!(left().await, [4, 2, 1]);
    clock.advance(SignedDuration::from_hours(2));
    forget().await;
    assert_eq!(left().await, [1, 1, 0]);
    assert_eq!(drain(&mut line).await, [4]);
    server.finish().await;
}

/// The broker as consumers see it: each message where it first came.
#[derive(Default)]
struct Stream {
    seen: HashSet<i64>,
    first: Vec<(Uuid, i64)>,
}

/// Any number of writers that commit late, or never; relays that die, sleep, and are told nothing;
/// a broker that takes a part, or nothing. Then each message came, and each key's in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_overtaken_whoever_writes_and_whoever_dies() {
    const WRITERS: u64 = 6;
    const EACH: usize = 120;
    let clock = clock();
    let server = Arc::new(house(&clock).await);
    let stream: Arc<Mutex<Stream>> = Arc::default();
    let done = Arc::new(AtomicBool::new(false));
    let seed = u64::from_be_bytes(Ids.uuid().as_bytes()[8..].try_into().unwrap());
    println!("seed {seed}");
    let keys: Vec<Uuid> = (0..5).map(|_| Ids.uuid()).collect();

    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (db, keys) = (server.app().db.clone(), keys.clone());
        let mut dice = StdRng::seed_from_u64(seed.wrapping_add(writer));
        writers.spawn(async move {
            for _ in 0..EACH {
                let at = dice.random_range(0..keys.len());
                let tx = db.begin().await.unwrap();
                let lock = format!("SELECT pg_advisory_xact_lock(77, {at})");
                tx.batch_execute(&lock).await.unwrap();
                for _ in 0..dice.random_range(1..4) {
                    write(&tx, keys[at], 0).await;
                }
                tokio::time::sleep(Duration::from_millis(dice.random_range(0..6))).await;
                match dice.random_range(0..8) {
                    0 => tx.rollback().await.unwrap(),
                    _ => tx.commit().await.unwrap(),
                }
            }
        });
    }
    let mut relays = tokio::task::JoinSet::new();
    for relay in 0..3 {
        let (server, stream, clock) = (Arc::clone(&server), Arc::clone(&stream), clock.clone());
        let done = Arc::clone(&done);
        let mut dice = StdRng::seed_from_u64(seed.wrapping_add(100 + relay));
        relays.spawn(async move {
            let mut line = self::line(&server);
            while !done.load(Ordering::Relaxed) {
                let limit = dice.random_range(1..12);
                let Look::Batch(batch) = line.look(limit).await.unwrap() else {
                    clock.advance(SignedDuration::from_millis(100));
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                };
                if dice.random_range(0..20) == 0 {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
                let ahead = line.look_ahead(&batch, limit).await.unwrap();
                let most = match dice.random_range(0..6) {
                    0 => dice.random_range(0..=batch.messages.len()),
                    _ => batch.messages.len(),
                };
                let mut outcomes = vec![Published::Unknown; batch.messages.len()];
                {
                    let mut stream = stream.lock().unwrap();
                    for (message, outcome) in batch.messages.iter().zip(&mut outcomes).take(most) {
                        if stream.seen.insert(message.seq) {
                            stream.first.push((message.aggregate_id, message.seq));
                        }
                        *outcome = Published::Yes(Some("somewhere".to_owned()));
                    }
                }
                if dice.random_range(0..15) == 0 {
                    // It dies before it writes down what it did.
                    line = self::line(&server);
                    clock.advance(SignedDuration::from_millis(600));
                    continue;
                }
                line.settle(batch, &outcomes, ahead).await.unwrap();
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    let until = Instant::now() + SOON * 3;
    while server.count("SELECT count(*) FROM bus_unsent").await > 0 {
        assert!(Instant::now() < until, "not all of it leaves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    done.store(true, Ordering::Relaxed);
    while let Some(relayed) = relays.join_next().await {
        relayed.unwrap();
    }
    let mut came: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
    for (key, seq) in &stream.lock().unwrap().first {
        came.entry(*key).or_default().push(*seq);
    }
    let mut written: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
    for row in server.sql("SELECT aggregate_id, seq FROM bus_outbox ORDER BY seq").await {
        written.entry(row.get(0)).or_default().push(row.get(1));
    }
    assert_eq!(came, written);
    let unplaced = "SELECT count(*) FROM bus_messages WHERE sent_at IS NULL OR position IS NULL";
    assert_eq!(server.count(unplaced).await, 0);
    Arc::into_inner(server).unwrap().finish().await;
}
