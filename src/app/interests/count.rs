//! The one consumer of what people say of events and organisers (S0.10 to S0.24): it takes
//! interests, ratings and follows into the counters, and tells those concerned who is newly
//! interested. Counters, alerts and their notifications are one transaction with the claims of the
//! messages: no alert without its update, no update without its alert.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::spread::{self, Crowds, Round};
use super::{CONTINUED, EVENT_RATED, FOLLOWED, INTEREST_CHANGED, UNFOLLOWED};
use crate::app::messages::handle::{Handled, Handler, Message, Trouble};
use crate::clock::Ids;
use crate::domain::alert::Crowd;
use crate::domain::ids::{AlertId, EventId, MessageId, UserId};
use crate::domain::interaction::{Pair, Said, SaidInterest, Tally, fold};
use crate::domain::interest::{InterestState, Privacy};
use crate::domain::message::Defect;
use crate::domain::processing::ServiceContext;
use crate::postgres::Conn;
use crate::postgres::interaction::{self, Counted};

/// The highest version that is believed. A person's next word counts on from the highest that was
/// heard: it must never come to where schemas end (2^53).
const VERSION_MAX: i64 = 1 << 52;
/// Why a message changed nothing.
const NOTHING_NEW: &str = "counted before, or of something or somebody unknown";

/// Counts what people say of events and organisers, and alerts those concerned.
#[derive(Clone, Copy, Debug)]
pub struct UserInteractions {
    ids: Ids,
}

/// What a batch says, by kind.
#[derive(Default)]
struct Batch {
    interests: Vec<(Pair, SaidInterest)>,
    ratings: Vec<(Pair, Said<Option<i32>>)>,
    follows: Vec<(Pair, Said<bool>)>,
    continued: Vec<Round>,
}

impl UserInteractions {
    /// With this source of ids.
    pub fn new(ids: Ids) -> Self {
        Self { ids }
    }

    async fn count(
        &self,
        tx: &Conn,
        batch: &[Message],
        now: Timestamp,
    ) -> Result<Handled, Trouble> {
        let said = Batch::read(batch)?;
        let (interests, ratings, follows) =
            (fold(said.interests), fold(said.ratings), fold(said.follows));
        let latest = interests.len() + ratings.len() + follows.len() + said.continued.len();
        let alerts = interests.keys().map(|(event, _)| EventId(*event));
        let alerts: BTreeMap<EventId, AlertId> =
            alerts.map(|event| (event, AlertId(self.ids.uuid()))).collect();

        // Interests, ratings, follows, then counters, each in order: see `interaction`.
        let counted = interaction::count_interests(tx, &interests, &alerts).await?;
        let rated = interaction::count_ratings(tx, &ratings).await?;
        let followed = interaction::count_follows(tx, &follows).await?;
        let updated = counted.len() + rated.len() + followed.len();
        let mut tally = Tally::default();
        for one in &counted {
            tally.interest(one.pair, one.before, one.after);
        }
        for one in &rated {
            tally.rating(one.pair, one.before, one.after);
        }
        for one in &followed {
            tally.follow(one.pair, one.before, one.after);
        }
        let mut skipped = untouched(&interests, &counted);
        skipped.extend(untouched(&ratings, &rated));
        skipped.extend(untouched(&follows, &followed));
        let events = interaction::add_to_events(tx, &tally.events, now).await?;
        let users = interaction::add_to_users(tx, &tally.users, now).await?;
        interaction::add_to_organizations(tx, &tally.organizations, now).await?;

        // Told after everything is counted and before the commit (S0.21).
        let crowds = crowds(&interests, &counted, &alerts);
        let rounds = spread::rounds(tx, batch, &crowds, &alerts).await?;
        let alerted = spread::begin(tx, (self.ids, now), &rounds, &crowds).await?
            + spread::go_on(tx, (self.ids, now), &said.continued).await?;
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Handled {
            skipped,
            counts: vec![
                ("read", number(batch.len())),
                ("folded", number(batch.len().saturating_sub(latest))),
                ("updated", number(updated)),
                ("events", events),
                ("users", users),
                ("alerts", number(alerted)),
            ],
            // A part that reached nobody may have another one behind it.
            told: alerted > 0 || !rounds.is_empty() || !said.continued.is_empty(),
        })
    }
}

impl Handler for UserInteractions {
    fn service(&self) -> ServiceContext {
        ServiceContext::UserInteractions
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[INTEREST_CHANGED, EVENT_RATED, FOLLOWED, UNFOLLOWED, CONTINUED]
    }

    fn handle<'a>(
        &'a self,
        tx: &'a Conn,
        batch: &'a [Message],
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Handled, Trouble>> {
        Box::pin(self.count(tx, batch, now))
    }
}

impl Batch {
    /// Reads the messages. Their data fits the schemas; what still makes no sense is poison.
    fn read(batch: &[Message]) -> Result<Self, Trouble> {
        let mut said = Self::default();
        for message in batch {
            let poison = |what: &str| Trouble::Poison(message.id, Defect::new(what));
            if said.add(message).is_none() {
                return Err(poison("the data cannot be understood"));
            }
        }
        Ok(said)
    }

    fn add(&mut self, message: &Message) -> Option<()> {
        let data = &message.data;
        if message.kind == CONTINUED {
            self.continued.push(Round::read(message)?);
            return Some(());
        }
        let (user, version) = (id(data, "userId")?, data.get("version")?.as_i64()?);
        if version > VERSION_MAX {
            return None;
        }
        let (at, message_id) = (message.happened_at, message.id);
        match message.kind {
            INTEREST_CHANGED => {
                let state = match data.get("state")? {
                    Value::Null => None,
                    state => Some(InterestState::parse(state.as_str()?)?),
                };
                let privacy = Privacy::parse(data.get("privacy")?.as_str()?)?;
                let said = Said { version, what: (state, privacy), at, message: message_id };
                self.interests.push(((id(data, "eventId")?, user), said));
            }
            EVENT_RATED => {
                let what = match data.get("rating")? {
                    Value::Null => None,
                    rating => Some(i32::try_from(rating.as_i64()?).ok()?),
                };
                let said = Said { version, what, at, message: message_id };
                self.ratings.push(((id(data, "eventId")?, user), said));
            }
            FOLLOWED | UNFOLLOWED => {
                let what = message.kind == FOLLOWED;
                let said = Said { version, what, at, message: message_id };
                self.follows.push(((id(data, "organizationId")?, user), said));
            }
            _ => return None,
        }
        Some(())
    }
}

pub(super) fn id(data: &Value, member: &str) -> Option<Uuid> {
    data.get(member)?.as_str()?.parse().ok()
}

/// The messages of those pairs that stayed as they were.
fn untouched<S, T>(
    said: &BTreeMap<Pair, Said<S>>,
    counted: &[Counted<T>],
) -> Vec<(MessageId, &'static str)> {
    let counted: BTreeSet<Pair> = counted.iter().map(|one| one.pair).collect();
    let left = said.iter().filter(|(pair, _)| !counted.contains(pair));
    left.map(|(_, said)| (said.message, NOTHING_NEW)).collect()
}

/// Those who are interested in public for the first time, by event.
fn crowds(
    said: &BTreeMap<Pair, SaidInterest>,
    counted: &[Counted<Option<InterestState>>],
    alerts: &BTreeMap<EventId, AlertId>,
) -> Crowds {
    let mut crowds = Crowds::new();
    for one in counted {
        let event = EventId(one.pair.0);
        let is_new = one.alert.is_some() && one.alert.as_ref() == alerts.get(&event);
        if let (true, Some(state), Some(said)) = (is_new, one.after, said.get(&one.pair)) {
            crowds.entry(event).or_default().add(said.at, UserId(one.pair.1), state);
        }
    }
    crowds.values_mut().for_each(Crowd::sort);
    crowds
}
