//! What a person says of an event (an interest, a rating) or of an organiser (that they follow
//! it). Each change has a version, by which whoever hears of it knows what is older.

use jiff::Timestamp;

use super::ids::{EventId, OrganizationId, UserId};

/// How much somebody wants to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterestState {
    /// They will come.
    Sure,
    /// They may come.
    Maybe,
    /// They want to hear of it.
    Interested,
}

impl InterestState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Sure, Self::Maybe, Self::Interested];

    /// The name in requests, messages and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sure => "sure",
            Self::Maybe => "maybe",
            Self::Interested => "interested",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Who may know of an interest. It is counted in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privacy {
    /// Everybody.
    Public,
    /// Those who follow the person.
    Followers,
    /// Nobody.
    Private,
}

impl Privacy {
    /// The name in requests, messages and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Followers => "followers",
            Self::Private => "private",
        }
    }

    /// The privacy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Public, Self::Followers, Self::Private]
            .into_iter()
            .find(|privacy| privacy.name() == name)
    }
}

/// How many people are interested, by how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterestCounts {
    /// Will come.
    pub sure: u32,
    /// May come.
    pub maybe: u32,
    /// Want to hear of it.
    pub interested: u32,
}

impl InterestCounts {
    /// One more, or one less.
    #[must_use]
    pub fn with(mut self, state: InterestState, more: bool) -> Self {
        let field = match state {
            InterestState::Sure => &mut self.sure,
            InterestState::Maybe => &mut self.maybe,
            InterestState::Interested => &mut self.interested,
        };
        *field = if more { field.saturating_add(1) } else { field.saturating_sub(1) };
        self
    }

    /// All of them.
    pub fn total(self) -> u32 {
        self.sure.saturating_add(self.maybe).saturating_add(self.interested)
    }
}

/// What the people who rated an event think of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratings {
    /// How many rated it.
    pub count: u32,
    /// The sum of their ratings.
    pub sum: u64,
}

impl Ratings {
    /// Their average, to two digits; `None` while nobody rated.
    pub fn average(self) -> Option<f64> {
        let hundredths = self.sum.saturating_mul(100).checked_add(u64::from(self.count) / 2)?;
        let hundredths = hundredths.checked_div(u64::from(self.count))?;
        Some(f64::from(u32::try_from(hundredths).ok()?) / 100.0)
    }
}

/// A person's interest in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// In which event.
    pub event_id: EventId,
    /// Whose.
    pub user_id: UserId,
    /// How much; `None`: not any more, or never.
    pub state: Option<InterestState>,
    /// Who may know.
    pub privacy: Privacy,
    /// Rises by one with every change; 0 before the first.
    pub version: i64,
    /// Since when it is so.
    pub changed_at: Timestamp,
}

impl Interest {
    /// The interest as it is to be; `None` if it is so already. Without a privacy the one that
    /// was chosen before stays: nobody is shown because they left a field out.
    pub fn change(
        &self,
        state: Option<InterestState>,
        privacy: Option<Privacy>,
        now: Timestamp,
    ) -> Option<Self> {
        let privacy = privacy.unwrap_or(self.privacy);
        let same = self.state == state && (self.privacy == privacy || state.is_none());
        let version = self.version.saturating_add(1);
        (!same).then(|| Self { state, privacy, version, changed_at: now, ..self.clone() })
    }
}

/// A person's rating of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rating {
    /// Of which event.
    pub event_id: EventId,
    /// Whose.
    pub user_id: UserId,
    /// 1 to 5; `None`: taken back.
    pub rating: Option<i32>,
    /// Rises by one with every change; 0 before the first.
    pub version: i64,
    /// Since when it is so.
    pub changed_at: Timestamp,
}

impl Rating {
    /// The rating as it is to be; `None` if it is so already.
    pub fn change(&self, rating: Option<i32>, now: Timestamp) -> Option<Self> {
        let version = self.version.saturating_add(1);
        let changed = self.rating != rating;
        changed.then(|| Self { rating, version, changed_at: now, ..self.clone() })
    }
}

/// Whether a person follows an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// Which organisation.
    pub organization_id: OrganizationId,
    /// Who.
    pub user_id: UserId,
    /// Whether they do.
    pub following: bool,
    /// Rises by one with every change; 0 before the first.
    pub version: i64,
    /// Since when it is so.
    pub changed_at: Timestamp,
}

impl Follow {
    /// The follow as it is to be; `None` if it is so already.
    pub fn change(&self, following: bool, now: Timestamp) -> Option<Self> {
        let version = self.version.saturating_add(1);
        let changed = self.following != following;
        changed.then(|| Self { following, version, changed_at: now, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_so_already_is_no_change() {
        let (before, now) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(1).unwrap());
        let none = Interest {
            event_id: EventId(Uuid::nil()),
            user_id: UserId(Uuid::nil()),
            state: None,
            privacy: Privacy::Public,
            version: 0,
            changed_at: before,
        };
        assert_eq!(none.change(None, Some(Privacy::Private), now), None);
        let sure = none.change(Some(InterestState::Sure), Some(Privacy::Private), now).unwrap();
        assert_eq!((sure.version, sure.changed_at), (1, now));
        assert_eq!(sure.change(Some(InterestState::Sure), None, now), None);
        let maybe = sure.change(Some(InterestState::Maybe), None, now).unwrap();
        assert_eq!((maybe.version, maybe.privacy), (2, Privacy::Private));
        let shown = maybe.change(maybe.state, Some(Privacy::Public), now).unwrap();
        assert_eq!((shown.version, shown.privacy), (3, Privacy::Public));
        assert_eq!(shown.change(None, None, now).unwrap().state, None);
    }
}
