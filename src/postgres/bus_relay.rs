//! How far the log of the bus was read, and by whom: one relay at a time has it, by lease and
//! fence. Nothing is written of a message that was sent in its turn but its place in a batch's row.

use jiff::Timestamp;
use uuid::Uuid;

use super::outbox::{LAZILY, Stored};
use super::{Conn, Db, DbError, Statements as _, Tx};
use crate::domain::gaps::{Gap, Gaps};

/// Takes the log if it is free and there is something to do; otherwise says whether somebody else
/// has it while something waits.
///
/// What is there of stragglers is of the moment when the statement began. Whoever had the log then
/// may have written some while it waited for the row: so the answer is yes unless it was free.
const TAKE: &str = "WITH work AS MATERIALIZED (
        SELECT (SELECT o.seq FROM bus_outbox o WHERE o.seq > r.read_to ORDER BY o.seq LIMIT 1)
                    IS NOT NULL
                OR cardinality(r.gap_firsts) > 0
                OR EXISTS (SELECT FROM bus_stragglers s WHERE s.sent_at IS NULL
                    AND s.dead_at IS NULL AND (s.due_at IS NULL OR s.due_at <= $2)) AS waits,
               r.holder <> $1 AND r.lease_until > $2 AS taken,
               CASE WHEN r.holder IS NULL THEN r.fence END AS free
        FROM bus_relay r),
    mine AS (
        UPDATE bus_relay SET holder = $1, lease_until = $3, fence = fence + 1
        WHERE (SELECT waits FROM work)
          AND (holder IS NULL OR holder = $1 OR lease_until <= $2)
        RETURNING fence, read_to, gap_firsts, gap_lasts, gap_horizons)
    SELECT mine.*, work.waits AND work.taken AS busy,
           work.free IS NULL OR mine.fence <> work.free + 1
               OR EXISTS (SELECT FROM bus_stragglers s
                   WHERE s.sent_at IS NULL AND s.dead_at IS NULL) AS stragglers
    FROM work LEFT JOIN mine ON true";
const KEEP: &str = "UPDATE bus_relay SET lease_until = $3 WHERE holder = $1 AND fence = $2";
const LET_GO: &str = "UPDATE bus_relay SET holder = NULL, lease_until = NULL
    WHERE holder = $1 AND fence = $2";
/// Not those behind one of their aggregate that has to wait; and of many only the first are looked
/// at, or a stream that is in trouble for hours would make each look at them longer.
const DUE: &str = "SELECT o.seq, o.id, o.aggregate_id, o.type, o.schema_version,
        o.payload::text AS payload, o.correlation_id, o.traceparent, o.created_at, s.attempts
    FROM (SELECT seq, aggregate_id, attempts, due_at FROM bus_stragglers
          WHERE sent_at IS NULL AND dead_at IS NULL ORDER BY seq LIMIT 10000) s
    JOIN bus_outbox o ON o.seq = s.seq
    WHERE (s.due_at IS NULL OR s.due_at <= $1)
      AND (SELECT true FROM bus_stragglers e
           WHERE e.aggregate_id = s.aggregate_id AND e.seq < s.seq
             AND e.sent_at IS NULL AND e.dead_at IS NULL AND e.due_at > $1 LIMIT 1) IS NULL
    ORDER BY s.seq LIMIT $2";
const FRESH: &str = "SELECT seq, id, aggregate_id, type, schema_version, payload::text AS payload,
        correlation_id, traceparent, created_at, 0 AS attempts
    FROM bus_outbox WHERE seq > $1 ORDER BY seq LIMIT $2";
/// The aggregates of which something waits, besides what is being sent.
const WAITING: &str = "SELECT k.aggregate_id FROM unnest($1::uuid[]) AS k (aggregate_id)
    WHERE (SELECT true FROM bus_stragglers s
           WHERE s.aggregate_id = k.aggregate_id AND s.seq <> ALL ($2)
             AND s.sent_at IS NULL AND s.dead_at IS NULL LIMIT 1)";
/// A new id is above all that were drawn before. (A snapshot's xmax is not: it is above those only
/// that are over.)
const HORIZON: &str = "SELECT pg_current_xact_id()::text::bigint AS horizon";
/// What has appeared in gaps, up to where all transactions were over when it was looked at, and an
/// id that none had that is over.
const LATE: &str = "SELECT x.settled, x.next, o.*
    FROM (SELECT pg_snapshot_xmin(s)::text::bigint AS settled,
                 pg_snapshot_xmax(s)::text::bigint AS next
          FROM pg_current_snapshot() AS s) x
    LEFT JOIN (
        SELECT l.* FROM unnest($1::bigint[], $2::bigint[]) AS g (first, last)
        CROSS JOIN LATERAL (
            SELECT b.seq, b.id, b.aggregate_id, b.type, b.schema_version,
                   b.payload::text AS payload, b.correlation_id, b.traceparent, b.created_at,
                   0 AS attempts
            FROM bus_outbox b WHERE b.seq BETWEEN g.first AND g.last
            ORDER BY b.seq LIMIT $3) l
        ORDER BY l.seq LIMIT $3) o ON true";
const MOVE: &str = "UPDATE bus_relay SET read_to = $3, gap_firsts = $4, gap_lasts = $5,
        gap_horizons = $6, lease_until = $7, holder = CASE WHEN $7::timestamptz IS NULL
            THEN NULL ELSE holder END
    WHERE holder = $1 AND fence = $2
    RETURNING EXISTS (SELECT FROM bus_stragglers s
        WHERE s.sent_at IS NULL AND s.dead_at IS NULL) AS stragglers";
const PUBLISHED: &str = "INSERT INTO bus_publications (first_seq, last_seq, at, seqs, positions)
    VALUES ($1, $2, $3, $4, $5)";
const SET_ASIDE: &str = "INSERT INTO bus_stragglers
        (seq, aggregate_id, attempts, due_at, last_error, failed_at, sent_at, position, dead_at)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::integer[], $4::timestamptz[], $5::text[],
        $6::timestamptz[], $7::timestamptz[], $8::text[], $9::timestamptz[])
    ON CONFLICT (seq) DO UPDATE SET attempts = excluded.attempts, due_at = excluded.due_at,
        last_error = coalesce(excluded.last_error, bus_stragglers.last_error),
        failed_at = coalesce(excluded.failed_at, bus_stragglers.failed_at),
        sent_at = excluded.sent_at, position = excluded.position, dead_at = excluded.dead_at";
const LOG_REFUSED: &str = "INSERT INTO message_log
        (at, action, message_id, type, service, correlation_id, detail)
    SELECT $1, 'refused', o.id::text, o.type, 'bus', o.correlation_id, m.error
    FROM unnest($2::bigint[], $3::text[]) AS m (seq, error)
    JOIN bus_outbox o ON o.seq = m.seq
    WHERE m.error IS NOT NULL";
const HURRY: &str = "UPDATE bus_stragglers SET due_at = NULL
    WHERE sent_at IS NULL AND dead_at IS NULL AND attempts > 0 AND due_at IS NOT NULL";

/// The log, as long as one has it.
#[derive(Clone, Debug)]
pub struct Held {
    /// Who comes with an older one is not listened to.
    pub fence: i64,
    /// Everything up to here was sent, is a straggler, or was not to be seen.
    pub read_to: i64,
    /// What was not to be seen.
    pub gaps: Gaps,
    /// There are stragglers that have not left.
    pub stragglers: bool,
}

/// What came of asking for the log.
#[derive(Clone, Debug)]
pub enum Taken {
    /// One has it.
    Mine(Held),
    /// Somebody else has it, and something waits.
    Busy,
    /// There is nothing to do.
    Idle,
}

/// What appeared where nothing was to be seen.
#[derive(Clone, Debug)]
pub struct Late {
    /// They, in their order.
    pub messages: Vec<Stored>,
    /// All transactions with ids below this one were over.
    pub settled: i64,
    /// No transaction with this id or a higher one was over.
    pub next: i64,
}

/// A message that goes its own way.
#[derive(Clone, Debug)]
pub struct Straggler {
    /// Its place in the log.
    pub seq: i64,
    /// Order is kept among messages of one aggregate.
    pub aggregate_id: Uuid,
    /// Failed publications.
    pub attempts: i32,
    /// When to try again; `None` is at once.
    pub due_at: Option<Timestamp>,
    /// Why it failed just now, if it did.
    pub error: Option<String>,
    /// When it was sent, and where the broker put it.
    pub sent: Option<(Timestamp, Option<String>)>,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was sent in its turn: places that rise, and where the broker put it.
    pub sent: Vec<(i64, Option<String>)>,
    /// What goes its own way.
    pub aside: Vec<Straggler>,
}

/// Asks for the log until `lease_until`.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn take(
    conn: &Conn,
    holder: Uuid,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Taken, DbError> {
    let Some(row) = conn.row(TAKE, &[&holder, &now, &lease_until]).await? else {
        return Ok(Taken::Idle);
    };
    let Some(fence) = row.try_get("fence")? else {
        let busy: Option<bool> = row.try_get("busy")?;
        return Ok(if busy == Some(true) { Taken::Busy } else { Taken::Idle });
    };
    let places = |name: &str| row.try_get::<_, Vec<i64>>(name);
    let (firsts, lasts) = (places("gap_firsts")?, places("gap_lasts")?);
    let gaps = firsts.into_iter().zip(lasts).zip(places("gap_horizons")?);
    let gaps = gaps.map(|((first, last), horizon)| Gap { first, last, horizon }).collect();
    Ok(Taken::Mine(Held {
        fence,
        read_to: row.try_get("read_to")?,
        gaps: Gaps::new(gaps),
        stragglers: row.try_get("stragglers")?,
    }))
}

/// Keeps the log until then, if one still has it.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn keep(
    conn: &Conn,
    holder: Uuid,
    fence: i64,
    lease_until: Timestamp,
) -> Result<(), DbError> {
    conn.run(KEEP, &[&holder, &fence, &lease_until]).await.map(drop)
}

/// Lets the log go.
///
/// # Errors
/// When PostgreSQL is away; the lease ends by itself.
pub async fn let_go(conn: &Conn, holder: Uuid, fence: i64) -> Result<(), DbError> {
    conn.run(LET_GO, &[&holder, &fence]).await.map(drop)
}

/// Stragglers that are due, in their order.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn due(conn: &Conn, now: Timestamp, limit: i64) -> Result<Vec<Stored>, DbError> {
    conn.rows(DUE, &[&now, &limit]).await?.iter().map(Stored::from_row).collect()
}

/// The next messages behind that place, in their order.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn fresh(conn: &Conn, after: i64, limit: i64) -> Result<Vec<Stored>, DbError> {
    conn.rows(FRESH, &[&after, &limit]).await?.iter().map(Stored::from_row).collect()
}

/// Which of these aggregates have stragglers that have not left, besides those at these places.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn waiting(
    conn: &Conn,
    aggregates: &[Uuid],
    besides: &[i64],
) -> Result<Vec<Uuid>, DbError> {
    let rows = conn.rows(WAITING, &[&aggregates, &besides]).await?;
    rows.iter().map(|row| Ok(row.try_get("aggregate_id")?)).collect()
}

/// A transaction id above all that were drawn before.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn horizon(conn: &Conn) -> Result<i64, DbError> {
    match conn.row(HORIZON, &[]).await? {
        Some(row) => Ok(row.try_get("horizon")?),
        None => Ok(i64::MAX),
    }
}

/// What has appeared in gaps, up to `limit` of it.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn late(conn: &Conn, gaps: &Gaps, limit: i64) -> Result<Late, DbError> {
    let (firsts, lasts): (Vec<i64>, Vec<i64>) =
        gaps.iter().map(|gap| (gap.first, gap.last)).unzip();
    let rows = conn.rows(LATE, &[&firsts, &lasts, &limit]).await?;
    let mut late = Late { messages: Vec::new(), settled: 0, next: i64::MAX };
    for row in &rows {
        (late.settled, late.next) = (row.try_get("settled")?, row.try_get("next")?);
        if row.try_get::<_, Option<i64>>("seq")?.is_some() {
            late.messages.push(Stored::from_row(row)?);
        }
    }
    Ok(late)
}

/// Begins to write down what became of a batch. Nobody waits for the disk.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn begin(db: &Db) -> Result<Tx, DbError> {
    let tx = db.begin().await?;
    tx.batch_execute(LAZILY).await?;
    Ok(tx)
}

/// Moves the cursor to where `held` says, and keeps the log until `lease_until` or lets it go.
/// Answers whether there were stragglers, or `None` when somebody else has taken it: then nothing
/// of what became of the batch may be written.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn advance(
    tx: &Conn,
    holder: Uuid,
    held: &Held,
    lease_until: Option<Timestamp>,
) -> Result<Option<bool>, DbError> {
    let column = |of: fn(&Gap) -> i64| held.gaps.iter().map(of).collect::<Vec<i64>>();
    let (firsts, lasts) = (column(|gap| gap.first), column(|gap| gap.last));
    let horizons = column(|gap| gap.horizon);
    let moved = tx
        .row(MOVE, &[&holder, &held.fence, &held.read_to, &firsts, &lasts, &horizons, &lease_until])
        .await?;
    Ok(moved.map(|row| row.try_get("stragglers")).transpose()?)
}

/// Writes down what became of a batch.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn write(tx: &Conn, outcome: &Outcome, now: Timestamp) -> Result<(), DbError> {
    let Outcome { sent, aside } = outcome;
    if let (Some((first, _)), Some((last, _))) = (sent.first(), sent.last()) {
        let seqs: Vec<i64> = sent.iter().map(|(seq, _)| *seq).collect();
        let positions: Vec<Option<&str>> = sent.iter().map(|(_, at)| at.as_deref()).collect();
        tx.run(PUBLISHED, &[first, last, &now, &seqs, &positions]).await?;
    }
    if aside.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = aside.iter().map(|one| one.seq).collect();
    let aggregates: Vec<Uuid> = aside.iter().map(|one| one.aggregate_id).collect();
    let attempts: Vec<i32> = aside.iter().map(|one| one.attempts).collect();
    let due: Vec<_> = aside.iter().map(|one| one.due_at).collect();
    let errors: Vec<Option<&str>> = aside.iter().map(|one| one.error.as_deref()).collect();
    let failed: Vec<_> = aside.iter().map(|one| one.error.as_ref().map(|_| now)).collect();
    let sent_at: Vec<_> = aside.iter().map(|one| one.sent.as_ref().map(|(at, _)| *at)).collect();
    let positions: Vec<Option<&str>> =
        aside.iter().map(|one| one.sent.as_ref()?.1.as_deref()).collect();
    let dead: Vec<_> = aside.iter().map(|one| one.dead_at).collect();
    tx.run(
        SET_ASIDE,
        &[&seqs, &aggregates, &attempts, &due, &errors, &failed, &sent_at, &positions, &dead],
    )
    .await?;
    if errors.iter().any(Option::is_some) {
        tx.run(LOG_REFUSED, &[&now, &seqs, &errors]).await?;
    }
    Ok(())
}

/// Makes failed publications due at once, and says how many: whoever starts tries them again
/// (S2.53).
///
/// # Errors
/// When PostgreSQL is away.
pub async fn hurry(conn: &Conn) -> Result<u64, DbError> {
    conn.run(HURRY, &[]).await
}
