//! Watching over the instance: observe, judge, and make it known. What this process sees it logs
//! and measures at once, whatever is away. PostgreSQL is where all processes agree: there an alarm
//! is one row, whoever sees it keeps it fresh, and its beginning, its end and its reminders are
//! written with the messages that tell every administrator.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use crate::app::{App, Error, Result};
use crate::domain::alarm::judge::{Dead, Ledger, Limits, Observed};
use crate::domain::alarm::rate::{Taken, Window};
use crate::domain::alarm::watch::{Change, Patience, Watch};
use crate::domain::alarm::{Alarm, AlarmKind, Sighting, TOLD_MAX, Turn};
use crate::domain::fact::{Fact, FactKind};
use crate::domain::ids::{AlarmId, MessageId};
use crate::domain::message::Lane;
use crate::postgres::outbox::{self, NewMessage};
use crate::postgres::{Conn, Db, DbError, alarm};

/// How long PostgreSQL may take before this process goes by what it sees itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// What watches in this process.
pub struct Lookout {
    app: App,
    db: Db,
    process: String,
    watch: Watch,
    windows: BTreeMap<&'static str, Window>,
    /// Since when PostgreSQL could be asked at every look. Whoever was away cannot tell what
    /// nobody saw from what nobody could write down.
    attentive_since: Option<Timestamp>,
}

/// What was made known to people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Alarms that began.
    pub opened: usize,
    /// Alarms that they were reminded of.
    pub reminded: usize,
    /// Alarms that are over.
    pub closed: usize,
}

impl Lookout {
    /// A lookout that knows nothing yet. `process` is what this one is called in alarms.
    pub fn new(app: App, db: Db, process: String) -> Self {
        let (watch, windows) = (Watch::default(), BTreeMap::new());
        Self { app, db, process, watch, windows, attentive_since: None }
    }

    /// One look.
    ///
    /// # Errors
    /// When PostgreSQL is away: what this process saw itself is logged and measured nevertheless.
    pub async fn look(&mut self) -> Result<Told> {
        let now = self.app.clock.now();
        let (ledger, away) = match timeout(PATIENCE, self.ledger(now)).await {
            Ok(Ok(ledger)) => (Some(ledger), None),
            Ok(Err(error)) => (None, Some(error.into())),
            Err(_) => (None, Some(Error::unavailable("postgres"))),
        };
        let observed = self.observe(ledger, now);
        let seen = observed.judge(&self.limits());
        let is_blind = |kind, subject: &str| observed.is_blind(kind, subject);
        let changes = self.watch.look(seen, is_blind, now, self.patience());
        for change in &changes {
            log(change);
        }
        for kind in AlarmKind::ALL {
            let open = u32::try_from(self.watch.count(kind)).unwrap_or(u32::MAX);
            metrics::gauge!("alarms_open", "kind" => kind.name()).set(f64::from(open));
        }
        if let Some(error) = away {
            self.attentive_since = None;
            return Err(error);
        }
        let agreed = match timeout(PATIENCE, self.agree(now)).await {
            Ok(agreed) => agreed.map_err(Error::from),
            // Whatever was written, the next look finds it.
            Err(_) => Err(Error::unavailable("postgres")),
        };
        self.attentive_since = agreed.as_ref().ok().and(self.attentive_since.or(Some(now)));
        agreed
    }

    async fn ledger(&self, now: Timestamp) -> std::result::Result<Ledger, DbError> {
        let conn = self.db.get().await?;
        let window = seconds(self.app.config.alarms.dead_letters_window_seconds);
        let since = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let given_up = alarm::given_up(&conn).await?;
        // What is told to people is as urgent as what the registry says is.
        let is_urgent =
            |kind: &str| Lane::of(kind) == Lane::Mail || self.app.parcels.is_critical(kind);
        let judged = |one: Dead| {
            let urgent = is_urgent(&one.what);
            (one, urgent)
        };
        let mut ledger = Ledger {
            given_up: given_up.into_iter().map(judged).collect(),
            died: alarm::died(&conn, since).await?,
            unsent: Vec::new(),
        };
        for lane in [Lane::Mail, Lane::Bus] {
            let oldest = alarm::oldest_unsent(&conn, lane).await?;
            let age = oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs());
            ledger.unsent.push((lane.name(), u64::try_from(age).unwrap_or(0)));
        }
        Ok(ledger)
    }

    fn observe(&mut self, ledger: Option<Ledger>, now: Timestamp) -> Observed {
        let span = seconds(self.app.config.alarms.error_window_seconds);
        let signals = &self.app.signals;
        let taken = signals.taken().into_iter().map(|(service, total)| {
            let lately: Taken = self.windows.entry(service).or_default().look(now, total, span);
            (service.to_owned(), lately)
        });
        let taken = taken.collect();
        Observed { ledger, backlogs: signals.backlogs(now), taken, paused: signals.paused(now) }
    }

    fn limits(&self) -> Limits {
        let config = &self.app.config.alarms;
        Limits {
            backlog_seconds: u64::from(config.backlog_seconds),
            error_percent: u64::from(config.error_percent),
            errors_min: u64::from(config.errors_min),
            dead_letters_max: u64::from(config.dead_letters_max),
        }
    }

    fn patience(&self) -> Patience {
        let config = &self.app.config.alarms;
        Patience {
            open_after: seconds(config.open_after_seconds),
            close_after: seconds(config.close_after_seconds),
        }
    }

    /// Brings what this process sees together with what the others see.
    async fn agree(&self, now: Timestamp) -> std::result::Result<Told, DbError> {
        let bad: Vec<(&Sighting, bool, Timestamp)> = self.watch.bad().collect();
        if bad.is_empty() && !alarm::any_open(&*self.db.get().await?).await? {
            return Ok(Told::default());
        }
        let config = &self.app.config.alarms;
        let ago = |span: SignedDuration| now.checked_sub(span).unwrap_or(Timestamp::MIN);
        let close_after = seconds(config.close_after_seconds);
        let tx = self.db.begin().await?;
        alarm::lock(&tx).await?;
        // Also what is no alarm here yet: whoever was started anew keeps what is open.
        let seen: Vec<&Sighting> = bad.iter().map(|(sighting, ..)| *sighting).collect();
        alarm::touch(&tx, &seen, &self.process, now).await?;
        let attentive = self.attentive_since.is_some_and(|since| since <= ago(close_after));
        let closed =
            if attentive { alarm::close(&tx, ago(close_after), now).await? } else { Vec::new() };
        let remind = SignedDuration::from_hours(i64::from(config.remind_hours));
        let reminded = alarm::remind(&tx, ago(remind), now).await?;
        let open = bad.iter().filter(|(_, open, _)| *open);
        let open: Vec<_> = open
            .map(|(sighting, _, since)| (AlarmId(self.app.ids.uuid()), *sighting, *since))
            .collect();
        let opened = alarm::open(&tx, &open, &self.process, now).await?;
        let turns = [(Turn::Closed, &closed), (Turn::Reminder, &reminded), (Turn::Opened, &opened)];
        self.tell(&tx, &turns, now).await?;
        tx.commit().await?;
        let told = Told { opened: opened.len(), reminded: reminded.len(), closed: closed.len() };
        if told != Told::default() {
            self.app.wakes.outbox_relay.ring();
        }
        Ok(told)
    }

    /// Writes a message for each administrator and turn, however many alarms took it.
    async fn tell(
        &self,
        tx: &Conn,
        turns: &[(Turn, &Vec<Alarm>)],
        now: Timestamp,
    ) -> std::result::Result<(), DbError> {
        if turns.iter().all(|(_, alarms)| alarms.is_empty()) {
            return Ok(());
        }
        let admins = alarm::admins(tx).await?;
        let mut messages = Vec::new();
        for (turn, alarms) in turns {
            let Some(first) = alarms.first() else { continue };
            let alarms: Vec<Alarm> = alarms.iter().take(TOLD_MAX).cloned().collect();
            messages.extend(admins.iter().map(|admin| NewMessage {
                id: MessageId(self.app.ids.uuid()),
                fact: Fact {
                    kind: FactKind::of_alarms(*turn),
                    // So that nobody hears of an end before its beginning.
                    aggregate_id: admin.0,
                    event_id: None,
                    user_id: Some(*admin),
                    seats: None,
                    seat_numbers: Vec::new(),
                    booking_id: None,
                    invitation: None,
                    alert: None,
                    alarms: alarms.clone(),
                },
                correlation_id: format!("alarm-{}", first.id),
                traceparent: None,
                created_at: now,
            }));
        }
        outbox::append(tx, &messages).await
    }
}

/// For those who read logs: an error when it begins, a line when it is over.
fn log(change: &Change) {
    match change {
        Change::Opened(one, since) => tracing::error!(
            kind = one.kind.name(), subject = one.subject, value = one.value, limit = one.limit,
            unit = one.kind.unit(), note = one.note, %since, next = one.kind.advice(), "alarm"
        ),
        Change::Closed(one, since) => tracing::info!(
            kind = one.kind.name(), subject = one.subject, %since, "alarm is over"
        ),
    }
}

fn seconds(count: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(count))
}
