//! Taking messages from the bus once each: claims, what the handler makes of them, and the ends of
//! the claims are one transaction for as many messages as came together. A batch that fails is
//! taken apart, so that no message fails for a neighbour's sake; but what has a partition key waits
//! for those before it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use jiff::Timestamp;

use super::handle::{Handled, Handling, Message, Trouble, asks};
use super::ledger::{Ledger, told_by};
use super::parcels::Parcels;
use super::registry::Registry;
use super::taken::Taken;
use super::{earlier, later};
use crate::app::App;
use crate::app::alarms::signals::Signals;
use crate::bus::{Delivery, Stream};
use crate::domain::ids::MessageId;
use crate::domain::message::{Defect, Verdict};
use crate::domain::processing::backoff_ms;
use crate::postgres::inbox::{self, Ending, Key, Waiting};
use crate::postgres::{Db, DbError, dead_letter};
use crate::telemetry::messages::{self, Passage, Passenger};
use crate::telemetry::spans::Spans;
use crate::wake::Wake;

/// Added to the pause of those that wait for another one, so that they come after it.
const BEHIND: Duration = Duration::from_millis(50);
/// The longest pause of those that wait for one that is due and has not come yet.
const OVERDUE_MAX: Duration = Duration::from_secs(5);
/// One that waits, and was lost, comes again within so many times what a lost one takes to be
/// missed. After that nobody waits for it: it may have been somebody else's, and never come.
const MISSED: u64 = 3;
/// After so many outages of a PostgreSQL that answers, it is the fault of the message that met
/// them.
const DOUBTS_MAX: u32 = 3;
/// Why what somebody does not want is skipped.
const NOT_FOR_IT: &str = "not for this service, by what it says";
/// What the outages of PostgreSQL go by.
const POSTGRES: &str = "postgres";

/// Something that is needed is away. Nothing was done, and nothing counts against the messages.
#[derive(Debug, thiserror::Error)]
#[error("{dependency} is away: {reason}")]
pub struct Outage {
    /// What is away.
    pub dependency: &'static str,
    /// How it showed.
    pub reason: String,
}

impl From<DbError> for Outage {
    fn from(error: DbError) -> Self {
        Self { dependency: POSTGRES, reason: format!("{:#}", anyhow::Error::from(error)) }
    }
}

/// Takes messages for one handler.
#[derive(Clone)]
pub struct Taker {
    ledger: Ledger,
    registry: Registry,
    handler: Handling,
    relays: [Wake; 2],
    /// The message that met outages of a PostgreSQL that answered, and how many.
    doubts: Arc<Mutex<Option<(MessageId, u32)>>>,
    spans: Spans,
}

/// Why a batch did not go through.
enum Broken {
    /// Something is away.
    Outage(Outage),
    /// One of them can never be handled.
    Poison(MessageId, Defect),
    /// It failed.
    Failed(String),
}

impl From<DbError> for Broken {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(_) => Self::Outage(error.into()),
            error => Self::Failed(format!("{:#}", anyhow::Error::from(error))),
        }
    }
}

impl From<Trouble> for Broken {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Db(error) => error.into(),
            Trouble::Poison(id, defect) => Self::Poison(id, defect),
            Trouble::Outage { dependency, reason } => Self::Outage(Outage { dependency, reason }),
        }
    }
}

impl Taker {
    /// For this handler, with connections of its own.
    pub fn new(app: &App, db: Db, handler: Handling) -> Self {
        let ledger = Ledger {
            service: handler.service(),
            db,
            clock: app.clock.clone(),
            ids: app.ids,
            config: Arc::clone(&app.config),
            signals: app.signals.clone(),
        };
        let relays = [app.wakes.outbox_relay.clone(), app.wakes.bus_relay.clone()];
        let (registry, spans) = (app.registry.clone(), app.spans.clone());
        Self { ledger, registry, handler, relays, doubts: Arc::default(), spans }
    }

    /// The streams that the handler asks for.
    pub fn streams(&self) -> Vec<Stream> {
        let asked = self.registry.types().filter(|kind| asks(self.handler.kinds(), kind.name));
        asked.flat_map(Parcels::streams).collect()
    }

    /// What the process notices of itself, and the time by which it does.
    pub fn signals(&self) -> (&Signals, Timestamp) {
        (&self.ledger.signals, self.ledger.clock.now())
    }

    /// The handler.
    pub fn handler(&self) -> &Handling {
        &self.handler
    }

    /// Deals with messages, and says what becomes of each at the broker, in their order.
    ///
    /// # Errors
    /// When something that is needed is away: nothing was done, and all are to be delivered again.
    pub async fn take(&self, deliveries: &[Delivery]) -> Result<Vec<Verdict>, Outage> {
        let begun = Instant::now();
        let mut taken: Vec<Taken> = deliveries
            .iter()
            .map(|one| Taken::read(one, self.handler.kinds(), &self.registry))
            .collect();
        let mut verdicts: HashMap<MessageId, Verdict> = self.waiting(&taken).await?;
        loop {
            let all: Vec<&Taken> =
                taken.iter().filter(|one| !verdicts.contains_key(&one.id)).collect();
            match self.attempt(&all).await {
                Ok(done) => verdicts.extend(done),
                Err(Broken::Outage(outage)) => return Err(outage),
                Err(Broken::Poison(id, defect)) => {
                    let is_it = |one: &Taken| one.id == id && one.content.is_ok();
                    if !all.iter().any(|one| is_it(one)) {
                        self.take_apart(&all, &mut verdicts).await?;
                        break;
                    }
                    // It goes to the dead letters, and the others go on without it.
                    let bad = taken.iter_mut().filter(|one| is_it(one));
                    bad.for_each(|one| one.content = Err(defect.clone()));
                    continue;
                }
                Err(Broken::Failed(reason)) => {
                    self.ledger.reach_postgres().await?;
                    if let [only] = all.as_slice() {
                        verdicts.insert(only.id, self.note_failure(only, &reason).await?);
                    } else {
                        self.take_apart(&all, &mut verdicts).await?;
                    }
                }
            }
            break;
        }
        let verdict = |one: &Taken| verdicts.get(&one.id).copied().unwrap_or(Verdict::Ack);
        let verdicts: Vec<Verdict> = taken.iter().map(verdict).collect();
        self.tell(begun, deliveries, &taken, &verdicts);
        Ok(verdicts)
    }

    /// One by one, in their order; those of a key of which one failed wait for it.
    async fn take_apart(
        &self,
        all: &[&Taken],
        verdicts: &mut HashMap<MessageId, Verdict>,
    ) -> Result<(), Outage> {
        let mut failed: HashMap<&str, Timestamp> = HashMap::new();
        let mut held = Vec::new();
        for &one in all {
            let key = one.partition_key.as_deref();
            if let Some(due) = key.and_then(|key| failed.get(key)) {
                held.push((one, *due));
                continue;
            }
            let reason = match self.attempt_alone(one).await {
                Ok(done) => {
                    verdicts.extend(done);
                    continue;
                }
                Err(Broken::Outage(outage)) => return Err(outage),
                Err(Broken::Poison(_, defect)) => defect.reason().to_owned(),
                Err(Broken::Failed(reason)) => reason,
            };
            self.ledger.reach_postgres().await?;
            let verdict = self.note_failure(one, &reason).await?;
            if let (Verdict::Retry(pause), Some(key)) = (verdict, key) {
                let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                failed.insert(key, later(self.ledger.clock.now(), ms));
            }
            verdicts.insert(one.id, verdict);
        }
        verdicts.extend(self.hold(&held).await?);
        Ok(())
    }

    /// One of a batch that was taken apart. What can never be handled is parked here, too.
    async fn attempt_alone(&self, one: &Taken) -> Result<HashMap<MessageId, Verdict>, Broken> {
        match self.attempt(&[one]).await {
            Err(Broken::Poison(id, defect)) if id == one.id && one.content.is_ok() => {
                let parked = Taken { content: Err(defect), ..one.clone() };
                self.attempt(&[&parked]).await
            }
            done => done,
        }
    }

    /// Those that have to wait for an earlier one of their key that failed, or waits itself.
    async fn waiting(&self, taken: &[Taken]) -> Result<HashMap<MessageId, Verdict>, Outage> {
        let keys: HashSet<&str> =
            taken.iter().filter_map(|one| one.partition_key.as_deref()).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<&str> = keys.into_iter().collect();
        let (now, service) = (self.ledger.clock.now(), self.ledger.service);
        let missed_ms = self.ledger.config.relay.lost_after_ms.saturating_mul(MISSED);
        let conn = self.ledger.db.get().await?;
        let waiting = inbox::waiting(&conn, service, &keys, earlier(now, missed_ms)).await?;
        drop(conn);
        self.hold(&held_up(taken, &waiting, now)).await
    }

    /// Has messages wait for others, and those behind them wait for them.
    async fn hold(
        &self,
        held: &[(&Taken, Timestamp)],
    ) -> Result<HashMap<MessageId, Verdict>, Outage> {
        if held.is_empty() {
            return Ok(HashMap::new());
        }
        let (now, service) = (self.ledger.clock.now(), self.ledger.service);
        let row = |(one, due): &(&Taken, Timestamp)| {
            (one.record().key(), one.partition_key.clone().unwrap_or_default(), *due)
        };
        // The same one twice in a batch is one row.
        let mut seen = HashSet::new();
        let rows = held.iter().filter(|(one, _)| seen.insert(one.id)).map(row);
        let rows: Vec<(Key, String, Timestamp)> = rows.collect();
        inbox::hold(&*self.ledger.db.get().await?, service, &rows, now).await?;
        Ok(held.iter().map(|(one, due)| (one.id, Verdict::Retry(behind(*due, now)))).collect())
    }

    /// All at once; a panic in it is a failure like any other.
    async fn attempt(&self, batch: &[&Taken]) -> Result<HashMap<MessageId, Verdict>, Broken> {
        if batch.is_empty() {
            return Ok(HashMap::new());
        }
        let whole = AssertUnwindSafe(self.transaction(batch)).catch_unwind().await;
        let done = whole.unwrap_or_else(|panic| {
            Err(Broken::Failed(format!("panicked: {}", told_by(panic.as_ref()))))
        });
        match done {
            Err(Broken::Outage(outage)) => Err(self.doubt(batch, outage).await),
            done => done,
        }
    }

    /// A statement that is cancelled each time looks like an outage of PostgreSQL, and is one while
    /// PostgreSQL does not answer. When it does, a batch is taken apart to find the message whose
    /// statement it is; of that one it is believed a few times more.
    async fn doubt(&self, batch: &[&Taken], outage: Outage) -> Broken {
        if outage.dependency != POSTGRES || self.ledger.reach_postgres().await.is_err() {
            return Broken::Outage(outage);
        }
        let [only] = batch else { return Broken::Failed(outage.reason) };
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = doubts.filter(|(id, _)| *id == only.id).map_or(0, |(_, times)| times);
        *doubts = Some((only.id, before.saturating_add(1)));
        if before < DOUBTS_MAX { Broken::Outage(outage) } else { Broken::Failed(outage.reason) }
    }

    async fn transaction(&self, batch: &[&Taken]) -> Result<HashMap<MessageId, Verdict>, Broken> {
        let (begun, service) = (self.ledger.clock.now(), self.ledger.service);
        // The same message twice in a batch is dealt with once.
        let mut seen = HashSet::with_capacity(batch.len());
        let unique: Vec<&Taken> = batch.iter().copied().filter(|one| seen.insert(one.id)).collect();
        let endings: Vec<Ending> = unique.iter().map(|one| one.ending(begun)).collect();
        let tx = self.ledger.db.begin().await?;
        let won = inbox::settle(&tx, service, &endings, begun).await?;
        let won: HashSet<Key> = won.into_iter().collect();
        let (ours, lost): (Vec<&Taken>, Vec<&Taken>) =
            unique.iter().partition(|one| won.contains(&one.record().key()));
        let (messages, others): (Vec<Message>, Vec<Message>) = ours
            .iter()
            .filter_map(|one| one.content.clone().ok())
            .partition(|message| self.handler.wants(message));
        let mut handled = if messages.is_empty() {
            Handled::default()
        } else {
            self.handler.handle(&tx, &messages, begun).await?
        };
        handled.skipped.extend(others.iter().map(|message| (message.id, NOT_FOR_IT)));
        self.finish(&tx, &ours, &handled, begun).await?;
        tx.commit().await?;
        if handled.told {
            self.relays.iter().for_each(Wake::ring);
        }
        self.report(batch.len(), &messages, &handled, begun);
        let lost_keys: Vec<Key> = lost.iter().map(|one| one.record().key()).collect();
        let refused = self.ledger.refused(&lost_keys, begun).await?;
        Ok(unique
            .iter()
            .map(|one| {
                let verdict = refused.get(&one.record().key()).copied();
                (one.id, verdict.unwrap_or(Verdict::Ack))
            })
            .collect())
    }

    /// What else is written with the effects: who was skipped, and letters of what makes no sense.
    async fn finish(
        &self,
        tx: &crate::postgres::Conn,
        ours: &[&Taken],
        handled: &Handled,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let service = self.ledger.service;
        if !handled.skipped.is_empty() {
            let by_id: HashMap<MessageId, &&Taken> = ours.iter().map(|one| (one.id, one)).collect();
            let skipped: Vec<(Key, &'static str)> = handled
                .skipped
                .iter()
                .filter_map(|(id, why)| Some((by_id.get(id)?.record().key(), *why)))
                .collect();
            inbox::skip(tx, service, &skipped).await?;
        }
        let letters = ours.iter().filter_map(|one| {
            let defect = one.content.as_ref().err()?;
            let (source, record) = (service.name(), one.record());
            tracing::warn!(
                service = source, kind = one.kind, message = %one.id, reason = defect.reason(),
                "a message went to the dead letters"
            );
            Some(self.ledger.letter(source, &record, defect.reason(), 1, now))
        });
        let letters: Vec<_> = letters.collect();
        self.ledger.count("dead", letters.len());
        dead_letter::save(tx, &letters).await
    }

    async fn note_failure(&self, one: &Taken, reason: &str) -> Result<Verdict, Outage> {
        let bus = &self.ledger.config.bus;
        let delay_ms = |attempts| {
            let jitter = |below| self.ledger.ids.jitter(below);
            // At least half of it: a pause of nothing is no pause.
            let whole = backoff_ms(attempts, bus.retry_delay_ms, bus.retry_delay_max_ms, |n| n);
            whole / 2 + jitter(whole.div_ceil(2).max(1))
        };
        let record = one.record();
        let noted = self.ledger.note_failure(&record, reason, bus.attempts_max, delay_ms);
        noted.await.map_err(|error| Outage { dependency: POSTGRES, reason: format!("{error:#}") })
    }

    fn tell(&self, begun: Instant, deliveries: &[Delivery], taken: &[Taken], verdicts: &[Verdict]) {
        let system = messages::system(self.ledger.config.bus.provider);
        let Some(mut done) = Passage::processed(&self.spans, system, begun, taken.len()) else {
            return;
        };
        for ((delivery, one), verdict) in deliveries.iter().zip(taken).zip(verdicts) {
            done.add(&Passenger {
                destination: &delivery.stream.to_string(),
                id: one.id,
                kind: &one.kind,
                request_id: one.correlation_id.as_deref().unwrap_or_default(),
                traceparent: one.traceparent.as_deref(),
                failure: match verdict {
                    Verdict::Ack => one.content.is_err().then_some("dead_letter"),
                    Verdict::Retry(_) => Some("retry"),
                },
            });
        }
    }

    /// After the commit: what the batch came to, and how long messages took to here.
    fn report(&self, read: usize, messages: &[Message], handled: &Handled, begun: Timestamp) {
        let (service, now) = (self.ledger.service.name(), self.ledger.clock.now());
        let latency = metrics::histogram!("bus_publish_to_commit_seconds", "service" => service);
        for message in messages {
            latency.record(now.duration_since(message.happened_at).as_secs_f64().max(0.0));
            tracing::debug!(
                service, r#type = message.kind, message = %message.id,
                correlation_id = message.correlation_id, "processed"
            );
        }
        let skipped = handled.skipped.len();
        let given: HashSet<MessageId> = messages.iter().map(|message| message.id).collect();
        let in_vain = handled.skipped.iter().filter(|(id, _)| given.contains(id)).count();
        self.ledger.count("processed", messages.len().saturating_sub(in_vain));
        self.ledger.count("skipped", skipped);
        for (name, count) in &handled.counts {
            metrics::counter!("handler_effects_total", "service" => service, "what" => *name)
                .increment(*count);
        }
        let took = now.duration_since(begun).as_secs_f64().max(0.0);
        metrics::histogram!("handler_batch_seconds", "service" => service).record(took);
        tracing::debug!(
            service, read, handled = messages.len(), skipped, counts = ?handled.counts,
            took_ms = took * 1e3, "took a batch"
        );
    }
}

/// How long those wait that are behind one that is due then. The longer it is overdue the less
/// often they look.
fn behind(due: Timestamp, now: Timestamp) -> Duration {
    if let Ok(left) = Duration::try_from(due.duration_since(now)) {
        return left.saturating_add(BEHIND);
    }
    let overdue = now.duration_since(due).unsigned_abs();
    (overdue / 2).min(OVERDUE_MAX).saturating_add(BEHIND)
}

/// Those of a batch that have to wait, and until when: for what waits with their key and is older
/// by its id. Those that go in this batch, before it, are not in its way; nor is it in its own once
/// it is due.
fn held_up<'a>(
    taken: &'a [Taken],
    waiting: &'a [Waiting],
    now: Timestamp,
) -> Vec<(&'a Taken, Timestamp)> {
    // Sorted: there may be thousands of a key, and as many that look at them.
    let mut by_key: HashMap<&str, BTreeMap<&str, Timestamp>> = HashMap::new();
    for one in waiting {
        let due = one.next_attempt_at.unwrap_or(now);
        by_key.entry(&one.partition_key).or_default().insert(&one.revision, due);
    }
    let mut held = Vec::new();
    for one in taken {
        let others = one.partition_key.as_deref().and_then(|key| by_key.get_mut(key));
        let Some(others) = others else { continue };
        let revision = one.id.to_string();
        // The last of them waits for those before it.
        let mut older = others.range(..revision.as_str()).map(|(_, due)| *due);
        let (first, last) = (older.next(), older.next_back());
        let own = others.get(revision.as_str()).copied().filter(|due| *due > now);
        match first.max(last).max(own) {
            Some(until) => held.push((one, until)),
            None => drop(others.remove(revision.as_str())),
        }
    }
    held
}
