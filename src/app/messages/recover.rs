//! What the broker confirmed can still be lost: somebody deletes the queue, or a disk dies. The
//! outbox keeps what was sent, so it is compared with what the inbox has dealt with, in the order
//! in which messages were written; what is missing, and in no queue, is sent again. Consumers know
//! messages by their ids, so one that was not lost after all does no harm.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::consume::streams;
use super::handle::asks;
use super::relay::Outbox;
use crate::domain::dead_letter::{BROKER, RELAY};
use crate::domain::message::Lane;
use crate::domain::processing::ServiceContext;
use crate::postgres::inbox::{self, Entry, Key};
use crate::postgres::sent::{self, Progress};
use crate::postgres::{Conn, DbError, dead_letter};

/// Where a new process starts to compare. Below what is kept of either side: whatever the inbox
/// has forgotten must not look lost.
pub(super) const LOOK_BACK: SignedDuration = SignedDuration::from_hours(12);
/// Times that one message is sent again; somebody else may be eating the queue.
const AGAIN_MAX: u32 = 3;
/// The same on the bus, where nobody takes what others are to get: what is lost often there, a
/// broker loses that is broken often.
const AGAIN_ON_BUS_MAX: u32 = 100;
/// Why a message is given up.
const GONE: &str = "was confirmed by the broker again and again, but never arrived";

/// A service, and the types that it has to have dealt with, as a handler names them; `None` is all.
pub type Duty = (ServiceContext, Option<&'static [&'static str]>);

/// Compares the outbox with the inboxes of services.
pub struct Recovery {
    lane: Lane,
    outbox: Outbox,
    duties: Vec<Duty>,
    /// Every message up to this place has been dealt with.
    after: Option<i64>,
    /// Where the look that is under way goes on.
    at: Option<i64>,
    /// How often messages behind it were sent again.
    again: HashMap<i64, u32>,
}

/// A message that is lost unless it is in a queue.
#[derive(Clone, Debug)]
pub struct Missing {
    /// Its place in the outbox.
    pub seq: i64,
    /// Its type.
    pub kind: String,
    /// When the broker confirmed it.
    pub sent_at: Timestamp,
}

/// What a look at the next messages found.
#[derive(Debug, Default)]
pub struct Look {
    /// Messages that are lost unless they are in a queue.
    pub missing: Vec<Missing>,
    /// There are more to look at now.
    pub more: bool,
}

/// What is known of one message; what is greater wins where several services are concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Nothing will change any more.
    Done,
    /// It is on its way, or may be.
    Underway,
    /// It ought to have arrived.
    Missing,
}

impl Recovery {
    /// Begins with what was written half a day ago.
    pub fn new(lane: Lane, outbox: Outbox, duties: Vec<Duty>) -> Self {
        Self { lane, outbox, duties, after: None, at: None, again: HashMap::new() }
    }

    /// Looks at the next messages, up to `limit`. A look goes on until there are no more that may
    /// be missing; the next one begins behind those that are done.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn look(&mut self, limit: usize) -> Result<Look, DbError> {
        let now = self.outbox.clock.now();
        let conn = self.outbox.db.get().await?;
        let after = match self.after {
            Some(after) => after,
            None => sent::place_before(&conn, self.lane, earlier(now, LOOK_BACK)).await?,
        };
        self.after = Some(after);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let from = self.at.take().unwrap_or(after);
        let messages = sent::progress(&conn, self.lane, from, limit).await?;
        let (full, due) =
            (i64::try_from(messages.len()).is_ok_and(|found| found == limit), self.due(now));
        let states = states(&conn, &self.duties, &messages, due).await?;
        let underway = states.iter().position(|state| *state != State::Done);
        let done = messages.get(..underway.unwrap_or(messages.len())).unwrap_or_default();
        if let Some(last) = done.last().filter(|_| from == after) {
            self.after = Some(last.seq);
            self.again.retain(|seq, _| *seq > last.seq);
        }
        // Behind one that is young there are only young ones.
        let last = messages.last().filter(|last| full && last.created_at <= due);
        self.at = last.map(|last| last.seq);
        let missing = messages.iter().zip(states).filter(|(_, state)| *state == State::Missing);
        let missing = missing.filter_map(|(message, _)| {
            let (seq, kind) = (message.seq, message.kind.clone());
            Some(Missing { seq, kind, sent_at: message.sent_at? })
        });
        Ok(Look { missing: missing.collect(), more: self.at.is_some() })
    }

    /// Has missing messages sent again; those for which that was of no use go to the dead
    /// letters. Says how many are sent again.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn send_again(&mut self, missing: &[Missing]) -> Result<u64, DbError> {
        let now = self.outbox.clock.now();
        let most = match self.lane {
            Lane::Mail => AGAIN_MAX,
            Lane::Bus => AGAIN_ON_BUS_MAX,
        };
        let often = |seq: &i64| self.again.get(seq).copied().unwrap_or(0) >= most;
        let missing = missing.iter().map(|one| one.seq);
        let (hopeless, lost): (Vec<i64>, Vec<i64>) = missing.partition(often);
        let conn = self.outbox.db.get().await?;
        if !hopeless.is_empty() {
            let attempts = most.saturating_add(1);
            let given_up = sent::find(&conn, self.lane, &hopeless).await?;
            let letters: Vec<_> = given_up
                .iter()
                .map(|message| self.outbox.letter(message, GONE, attempts, now))
                .collect();
            dead_letter::save(&conn, &letters).await?;
        }
        if lost.is_empty() {
            return Ok(0);
        }
        let again = sent::unsend(&conn, self.lane, &lost, self.due(now)).await?;
        for seq in lost {
            let times = self.again.entry(seq).or_default();
            *times = times.saturating_add(1);
        }
        Ok(again)
    }

    /// What was sent before ought to have arrived by now.
    fn due(&self, now: Timestamp) -> Timestamp {
        let patience = i64::try_from(self.outbox.settings().lost_after_ms).unwrap_or(i64::MAX);
        earlier(now, SignedDuration::from_millis(patience))
    }
}

/// What is known of each message. Transactions end in another order than they begin: what was
/// written a moment ago counts as underway, so that one that comes late is not passed over.
async fn states(
    conn: &Conn,
    duties: &[Duty],
    messages: &[Progress],
    due: Timestamp,
) -> Result<Vec<State>, DbError> {
    // What nobody has to deal with is done once it was sent.
    let start = |message: &Progress| {
        let over = message.sent_at.or(message.dead_at).is_some();
        if over && message.created_at <= due { State::Done } else { State::Underway }
    };
    let mut states: Vec<State> = messages.iter().map(start).collect();
    for (service, kinds) in duties {
        let concerned = |message: &Progress| kinds.is_none_or(|all| asks(all, &message.kind));
        let keys: Vec<Key> = messages.iter().filter(|one| concerned(one)).flat_map(keys).collect();
        let entries = inbox::find(conn, *service, &keys.iter().collect::<Vec<_>>()).await?;
        let known: HashMap<&str, &Entry> =
            entries.iter().map(|entry| (entry.key.revision.as_str(), entry)).collect();
        let concerned = messages.iter().zip(&mut states).filter(|(one, _)| concerned(one));
        for (message, at) in concerned {
            let entry = known.get(message.id.to_string().as_str()).copied();
            *at = (*at).max(state(message, entry, due));
        }
    }
    settle_dead(conn, messages, &mut states).await?;
    Ok(states)
}

fn keys(message: &Progress) -> impl Iterator<Item = Key> {
    let revision = message.id.to_string();
    let key = move |stream| Key { stream, revision: revision.clone() };
    streams(&message.kind).into_iter().map(key)
}

fn state(message: &Progress, entry: Option<&Entry>, due: Timestamp) -> State {
    let waits = entry.and_then(|entry| entry.lease_until.max(entry.next_attempt_at));
    match (message.sent_at, entry) {
        _ if message.created_at > due => State::Underway,
        _ if message.dead_at.is_some() => State::Done,
        (_, Some(entry)) if entry.status.is_final() || entry.dead_at.is_some() => State::Done,
        (Some(sent_at), _) if sent_at.max(waits.unwrap_or(sent_at)) <= due => State::Missing,
        _ => State::Underway,
    }
}

/// What died in the broker, or was given up here, is in the dead letters.
async fn settle_dead(
    conn: &Conn,
    messages: &[Progress],
    states: &mut [State],
) -> Result<(), DbError> {
    let missing = messages.iter().zip(states.iter());
    let missing: Vec<String> = missing
        .filter(|(_, state)| **state == State::Missing)
        .map(|(message, _)| message.id.to_string())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let dead: HashSet<String> = dead_letter::open(conn, &[RELAY, BROKER], &missing).await?;
    for (message, state) in messages.iter().zip(states) {
        if dead.contains(&message.id.to_string()) {
            *state = State::Done;
        }
    }
    Ok(())
}

fn earlier(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::MessageId;
    use crate::domain::processing::ProcessingStatus;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn entry(status: ProcessingStatus) -> Entry {
        Entry {
            key: Key { stream: String::new(), revision: String::new() },
            status,
            fence: 1,
            attempts: 1,
            dead_at: None,
            lease_until: None,
            next_attempt_at: None,
            last_error: None,
        }
    }

    #[test]
    fn missing_is_what_was_sent_long_ago_and_is_nobodys() {
        let sent = Progress {
            seq: 1,
            id: MessageId(Uuid::nil()),
            kind: String::new(),
            created_at: at(10),
            sent_at: Some(at(11)),
            dead_at: None,
        };
        let of = |message: &Progress, entry: Option<&Entry>, due| state(message, entry, at(due));
        assert!(of(&sent, None, 9) == State::Underway, "others may be written before it");
        assert!(of(&sent, None, 10) == State::Underway, "sent a moment ago");
        assert!(of(&sent, None, 11) == State::Missing);
        let unsent = Progress { sent_at: None, ..sent.clone() };
        assert!(of(&unsent, None, 99) == State::Underway, "the relay's affair");
        let dead = Progress { dead_at: Some(at(12)), ..unsent };
        assert!(of(&dead, None, 99) == State::Done);

        for (status, expected) in [
            (ProcessingStatus::Processed, State::Done),
            (ProcessingStatus::Skipped, State::Done),
            (ProcessingStatus::Processing, State::Missing),
            (ProcessingStatus::Failed, State::Missing),
        ] {
            assert!(of(&sent, Some(&entry(status)), 99) == expected, "{status:?}");
        }
        let waits = Entry { next_attempt_at: Some(at(50)), ..entry(ProcessingStatus::Failed) };
        assert!(of(&sent, Some(&waits), 49) == State::Underway, "in a retry queue");
        assert!(of(&sent, Some(&waits), 50) == State::Missing);
        let given_up = Entry { dead_at: Some(at(12)), ..waits };
        assert!(of(&sent, Some(&given_up), 99) == State::Done);
    }
}
