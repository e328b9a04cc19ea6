//! What has left the outbox, for those who look for what was lost behind it: the same questions of
//! both ways.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio_postgres::Row;

use super::outbox::Stored;
use super::{Conn, DbError, Statements as _};
use crate::domain::ids::MessageId;
use crate::domain::message::Lane;

/// The statements of a way.
struct Way {
    ends: &'static str,
    made_from: &'static str,
    after: &'static str,
    find: &'static str,
    /// Only what was sent before the moment when it was looked at: somebody else may have been
    /// first.
    unsend: &'static str,
}

const MAIL: Way = Way {
    ends: "SELECT (SELECT seq FROM outbox ORDER BY seq LIMIT 1) AS first,
        (SELECT seq FROM outbox ORDER BY seq DESC LIMIT 1) AS last",
    made_from: "SELECT created_at FROM outbox WHERE seq >= $1 ORDER BY seq LIMIT 1",
    after: "SELECT seq, id, type, created_at, sent_at, dead_at
        FROM outbox WHERE lane = 'mail' AND seq > $1 ORDER BY seq LIMIT $2",
    find: "SELECT seq, id, aggregate_id, type, payload::text AS payload, correlation_id,
            traceparent, created_at, attempts, schema_version
        FROM outbox WHERE seq = ANY ($1) ORDER BY seq",
    unsend: "UPDATE outbox SET sent_at = NULL, lease_until = NULL, next_attempt_at = NULL
        WHERE seq = ANY ($1) AND sent_at <= $2 AND dead_at IS NULL",
};
const BUS: Way = Way {
    ends: "SELECT (SELECT seq FROM bus_outbox ORDER BY seq LIMIT 1) AS first,
        (SELECT seq FROM bus_outbox ORDER BY seq DESC LIMIT 1) AS last",
    made_from: "SELECT created_at FROM bus_outbox WHERE seq >= $1 ORDER BY seq LIMIT 1",
    after: "SELECT o.seq, o.id, o.type, o.created_at, s.sent_at, s.dead_at,
            s.seq IS NOT NULL AS straggles
        FROM bus_outbox o LEFT JOIN bus_stragglers s ON s.seq = o.seq
        WHERE o.seq > $1 ORDER BY o.seq LIMIT $2",
    find: "SELECT seq, id, aggregate_id, type, payload::text AS payload, correlation_id,
            traceparent, created_at, attempts, schema_version
        FROM bus_messages WHERE seq = ANY ($1) ORDER BY seq",
    unsend: "INSERT INTO bus_stragglers AS s (seq, aggregate_id)
        SELECT seq, aggregate_id FROM bus_messages
        WHERE seq = ANY ($1) AND sent_at <= $2 AND dead_at IS NULL
        ON CONFLICT (seq) DO UPDATE SET sent_at = NULL, due_at = NULL
        WHERE s.sent_at <= $2 AND s.dead_at IS NULL",
};

/// The batches of the bus between two places; they do not overlap, and rise.
const BATCHES: &str = "SELECT at, seqs FROM bus_publications
    WHERE last_seq BETWEEN $1 AND coalesce((SELECT last_seq FROM bus_publications
        WHERE last_seq >= $2 ORDER BY last_seq LIMIT 1), $2)";

fn way(lane: Lane) -> Way {
    match lane {
        Lane::Mail => MAIL,
        Lane::Bus => BUS,
    }
}

/// How far a message is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Its place in the outbox.
    pub seq: i64,
    /// The message's id for good.
    pub id: MessageId,
    /// The `type` on the wire.
    pub kind: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// When the broker confirmed it.
    pub sent_at: Option<Timestamp>,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
}

/// A place before all messages that were written at `since` or later, but for those whose
/// transaction took its time: places and times rise together only roughly. Halves what is between
/// the ends until it is found, because there is no index by time.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn place_before(conn: &Conn, lane: Lane, since: Timestamp) -> Result<i64, DbError> {
    let Way { ends, made_from, .. } = way(lane);
    let Some(ends) = conn.row(ends, &[]).await? else { return Ok(0) };
    let (first, last): (Option<i64>, Option<i64>) = (ends.try_get("first")?, ends.try_get("last")?);
    let (Some(first), Some(last)) = (first, last) else { return Ok(0) };
    // What is at `low` and before is older; at `high` nothing is.
    let (mut low, mut high) = (first.saturating_sub(1), last.saturating_add(1));
    while high.saturating_sub(low) > 1 {
        let middle = low.midpoint(high);
        let made: Option<Timestamp> = match conn.row(made_from, &[&middle]).await? {
            Some(row) => Some(row.try_get("created_at")?),
            None => None,
        };
        if made.is_some_and(|made| made < since) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// How far the next `limit` messages after that place are, in their order.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn progress(
    conn: &Conn,
    lane: Lane,
    after: i64,
    limit: i64,
) -> Result<Vec<Progress>, DbError> {
    let rows = conn.rows(way(lane).after, &[&after, &limit]).await?;
    let progress = rows.iter().map(|row| {
        Ok(Progress {
            seq: row.try_get("seq")?,
            id: MessageId(row.try_get("id")?),
            kind: row.try_get("type")?,
            created_at: row.try_get("created_at")?,
            sent_at: row.try_get("sent_at")?,
            dead_at: row.try_get("dead_at")?,
        })
    });
    let mut progress = progress.collect::<Result<Vec<Progress>, DbError>>()?;
    if lane == Lane::Bus {
        add_batches(conn, &rows, &mut progress).await?;
    }
    Ok(progress)
}

/// When those were sent that did not go their own way. Whole batches are read, because to look each
/// message up in its batch would unpack the batch for each.
async fn add_batches(conn: &Conn, rows: &[Row], progress: &mut [Progress]) -> Result<(), DbError> {
    let (Some(first), Some(last)) = (progress.first(), progress.last()) else { return Ok(()) };
    let mut sent: HashMap<i64, Timestamp> = HashMap::new();
    for batch in conn.rows(BATCHES, &[&first.seq, &last.seq]).await? {
        let (at, seqs): (Timestamp, Vec<i64>) = (batch.try_get("at")?, batch.try_get("seqs")?);
        sent.extend(seqs.into_iter().map(|seq| (seq, at)));
    }
    for (row, message) in rows.iter().zip(progress) {
        if !row.try_get::<_, bool>("straggles")? {
            message.sent_at = sent.get(&message.seq).copied();
        }
    }
    Ok(())
}

/// The messages at those places, in full.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn find(conn: &Conn, lane: Lane, seqs: &[i64]) -> Result<Vec<Stored>, DbError> {
    conn.rows(way(lane).find, &[&seqs]).await?.iter().map(Stored::from_row).collect()
}

/// Makes the relay send messages once more, those that were sent at `before` or earlier, and says
/// how many.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn unsend(
    conn: &Conn,
    lane: Lane,
    seqs: &[i64],
    before: Timestamp,
) -> Result<u64, DbError> {
    conn.run(way(lane).unsend, &[&seqs, &before]).await
}
