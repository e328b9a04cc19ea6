//! When an alarm begins and ends. What is bad for long enough is an alarm; it is over when all has
//! been well for long enough, so that what comes and goes is one alarm and not a hundred.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{AlarmKind, Sighting};

/// How long to wait before something is believed.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For so long something has to be bad, unless it is urgent.
    pub open_after: SignedDuration,
    /// For so long all has to be well.
    pub close_after: SignedDuration,
}

/// A turn of an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It began: what was seen, and since when.
    Opened(Sighting, Timestamp),
    /// It is over: what was seen last, and since when it was.
    Closed(Sighting, Timestamp),
}

#[derive(Clone, Debug)]
struct State {
    /// At the last look that showed it.
    sighting: Sighting,
    bad_since: Timestamp,
    /// Set while it is seen to be well.
    well_since: Option<Timestamp>,
    /// Nothing could be said about it at the last look.
    blind: bool,
    open: bool,
}

/// What one observer remembers from look to look. As large as what is bad.
#[derive(Clone, Debug, Default)]
pub struct Watch(BTreeMap<(AlarmKind, String), State>);

impl Watch {
    /// Takes a look into account: all that is bad, and of what nothing can be said. Times do not
    /// go back.
    pub fn look(
        &mut self,
        seen: Vec<Sighting>,
        is_blind: impl Fn(AlarmKind, &str) -> bool,
        now: Timestamp,
        patience: Patience,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut before = std::mem::take(&mut self.0);
        for sighting in seen {
            let key = (sighting.kind, sighting.subject.clone());
            let known = before.remove(&key);
            let (bad_since, was_open) =
                known.map_or((now, false), |known| (known.bad_since, known.open));
            let long = now.duration_since(bad_since) >= patience.open_after;
            let open = was_open || sighting.urgent || long;
            if open && !was_open {
                changes.push(Change::Opened(sighting.clone(), bad_since));
            }
            self.0.insert(key, State { sighting, bad_since, well_since: None, blind: false, open });
        }
        for (key, mut state) in before {
            if is_blind(key.0, &key.1) {
                // Not well until it was seen to be.
                (state.well_since, state.blind) = (None, true);
                self.0.insert(key, state);
                continue;
            }
            state.blind = false;
            if !state.open {
                continue;
            }
            let well_since = *state.well_since.get_or_insert(now);
            if now.duration_since(well_since) >= patience.close_after {
                changes.push(Change::Closed(state.sighting, state.bad_since));
            } else {
                self.0.insert(key, state);
            }
        }
        changes
    }

    /// How many alarms of that kind are open.
    pub fn count(&self, kind: AlarmKind) -> usize {
        self.0.iter().filter(|(key, state)| key.0 == kind && state.open).count()
    }

    /// All that is bad as far as is known, with whether it is an alarm and since when it is bad.
    /// Of what cannot be seen now, alarms are believed to go on.
    pub fn bad(&self) -> impl Iterator<Item = (&Sighting, bool, Timestamp)> {
        let is_bad = |state: &&State| state.well_since.is_none() && (state.open || !state.blind);
        let bad = self.0.values().filter(is_bad);
        bad.map(|state| (&state.sighting, state.open, state.bad_since))
    }
}

#[cfg(test)]
mod tests;
