//! Alerts: who is newly interested in an event, told once to each who is concerned, however many
//! they are.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::ids::{AlertId, EventId, UserId};
use super::interest::{InterestCounts, InterestState};

/// What one person is told: "Ana and 37 others are interested in …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Which.
    pub id: AlertId,
    /// Who is named.
    pub actor: UserId,
    /// How many others there are.
    pub others: u32,
    /// All of them, by how much they are interested.
    pub states: InterestCounts,
}

/// An alert in somebody's list.
#[derive(Clone, Debug)]
pub struct ListedAlert {
    /// What it tells.
    pub alert: Alert,
    /// What it is about: `interest`.
    pub kind: String,
    /// Which event.
    pub event_id: EventId,
    /// What the event is called.
    pub event_title: String,
    /// Who is named, if everybody may still know of their interest.
    pub actor_name: Option<String>,
    /// Since when it is there.
    pub created_at: Timestamp,
}

/// Those who are newly interested in one event.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    /// In the order in which they said so.
    order: Vec<(Timestamp, UserId)>,
    states: BTreeMap<UserId, InterestState>,
    counts: InterestCounts,
}

impl Crowd {
    /// One more, who is not among them yet.
    pub fn add(&mut self, at: Timestamp, user: UserId, state: InterestState) {
        if self.states.insert(user, state).is_none() {
            self.order.push((at, user));
            self.counts = self.counts.with(state, true);
        }
    }

    /// Brings them into the order in which they said so.
    pub fn sort(&mut self) {
        self.order.sort_unstable();
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// What is to be told of them; `None`: there is nobody.
    pub fn rumour(&self, id: AlertId) -> Option<Rumour> {
        let mut order = self.order.iter().map(|(_, user)| *user);
        Some(Rumour { id, actor: order.next()?, next: order.next(), states: self.counts })
    }

    /// How much somebody among them is interested.
    pub fn state_of(&self, user: UserId) -> Option<InterestState> {
        self.states.get(&user).copied()
    }
}

/// What goes round of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rumour {
    /// What all alerts about it have in common.
    pub id: AlertId,
    /// Who is named.
    pub actor: UserId,
    /// Who is named to the former.
    pub next: Option<UserId>,
    /// All of them, by how much they are interested.
    pub states: InterestCounts,
}

impl Rumour {
    /// What `recipient` is told: nothing of themself. `own` is their interest if they are among
    /// them. `None`: there is nothing to tell.
    pub fn alert(
        &self,
        id: AlertId,
        recipient: UserId,
        own: Option<InterestState>,
    ) -> Option<Alert> {
        let states = own.map_or(self.states, |own| self.states.with(own, false));
        let actor = if self.actor == recipient { self.next? } else { self.actor };
        let others = states.total().checked_sub(1)?;
        Some(Alert { id, actor, others, states })
    }
}

/// The sentence of an alert.
pub fn sentence(alert: &Alert, actor: Option<&str>, event: &str) -> String {
    let actor = actor.unwrap_or("Somebody");
    match alert.others {
        0 => format!("{actor} is interested in {event}."),
        1 => format!("{actor} and 1 other are interested in {event}."),
        many => format!("{actor} and {many} others are interested in {event}."),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn nobody_is_told_of_themself() {
        let user = |n: u128| UserId(Uuid::from_u128(n));
        let at = |second| Timestamp::from_second(second).unwrap();
        let id = AlertId(Uuid::nil());
        let mut crowd = Crowd::default();
        assert_eq!(crowd.rumour(id), None);
        crowd.add(at(2), user(1), InterestState::Maybe);
        let told = |crowd: &Crowd, to| crowd.rumour(id)?.alert(id, to, crowd.state_of(to));
        assert_eq!(told(&crowd, user(1)), None);
        crowd.add(at(1), user(2), InterestState::Sure);
        crowd.add(at(3), user(2), InterestState::Sure);
        crowd.sort();
        let all = told(&crowd, user(9)).unwrap();
        let states = InterestCounts { sure: 1, maybe: 1, interested: 0 };
        assert_eq!(all, Alert { id, actor: user(2), others: 1, states });
        let told = told(&crowd, user(2)).unwrap();
        let states = InterestCounts { sure: 0, maybe: 1, interested: 0 };
        assert_eq!(told, Alert { id, actor: user(1), others: 0, states });
        assert_eq!(sentence(&told, Some("Ana"), "Jazz"), "Ana is interested in Jazz.");
        let told = Alert { others: 37, ..told };
        assert_eq!(
            sentence(&told, Some("Ana"), "Jazz"),
            "Ana and 37 others are interested in Jazz."
        );
    }
}
