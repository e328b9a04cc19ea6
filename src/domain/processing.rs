//! What a consumer remembers of each message (S1.5 to S1.13), and when it tries again.

use super::fact::FactKind;

/// The services that keep their own memory of what they processed (S1.8, S1.46). A new one is a
/// line here; the functions in `app::messages::processed` take any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceContext {
    /// Writes to Slack (S1.51).
    SlackWorker,
    /// Sends e-mail (S1.52).
    EmailService,
    /// Writes to Teams (S1.53).
    TeamsService,
    /// Sends text messages (S1.54).
    SmsService,
    /// Fills the in-app inbox.
    InboxService,
    /// Counts interests, ratings and follows, and alerts those concerned (S0.10 to S0.12).
    UserInteractions,
}

impl ServiceContext {
    /// Every service.
    pub const ALL: [Self; 6] = [
        Self::SlackWorker,
        Self::EmailService,
        Self::TeamsService,
        Self::SmsService,
        Self::InboxService,
        Self::UserInteractions,
    ];

    /// The `serviceContext` in tables and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlackWorker => "slack-worker",
            Self::EmailService => "email-service",
            Self::TeamsService => "teams-service",
            Self::SmsService => "sms-service",
            Self::InboxService => "inbox-service",
            Self::UserInteractions => "user_interactions",
        }
    }

    /// The service of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

/// How far a service is with a message (S1.9 to S1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProcessingStatus {
    /// Somebody works on it, until the lease ends.
    Processing,
    /// Done, for good.
    Processed,
    /// Did not work; tried again until the attempts are spent.
    Failed,
    /// Nothing to do, for good.
    Skipped,
}

impl ProcessingStatus {
    /// The `processingStatus` in tables and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Processed => "processed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Processing, Self::Processed, Self::Failed, Self::Skipped]
            .into_iter()
            .find(|status| status.name() == name)
    }

    /// Whether nothing will change it any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Processed | Self::Skipped)
    }
}

/// The stream that messages of a kind belong to: a category with the version of its type (S1.6).
/// It does not depend on the queue's name, which an operator may change with messages in it.
pub fn stream_name(kind: Option<FactKind>) -> String {
    format!("$et-happening.{}.v1", kind.map_or("unknown", FactKind::name))
}

/// The stream that messages of a type of the bus belong to, in this version of its schema (S1.6).
/// The same whichever broker brought them.
pub fn bus_stream_name(kind: &str, version: u32) -> String {
    format!("$et-happening.{kind}.v{version}")
}

/// The type of what is remembered under that stream; the stream itself if it is none of ours.
pub fn kind_of(stream: &str) -> &str {
    let inner = stream.strip_prefix("$et-happening.").and_then(|rest| rest.rsplit_once(".v"));
    inner.map_or(stream, |(kind, _)| kind)
}

/// How long to wait before attempt number `attempts + 1`, in milliseconds: the delay doubles up to
/// `cap_ms`, and dice (`jitter`, given the bound it must stay below) pick from all of it, so that
/// what failed together does not come back together (S2.56).
pub fn backoff_ms(
    attempts: u32,
    first_ms: u64,
    cap_ms: u64,
    jitter: impl FnOnce(u64) -> u64,
) -> u64 {
    let doubled = first_ms.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let whole = doubled.min(cap_ms.max(1));
    jitter(whole).saturating_add(1)
}

/// The delay of retry queue number `attempts`, the last one repeating.
pub fn tier_ms(attempts: u32, delays_ms: &[u64]) -> u64 {
    let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    delays_ms.get(index).or(delays_ms.last()).copied().unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_is_capped() {
        let whole = |bound: u64| bound - 1;
        assert_eq!(backoff_ms(1, 1000, 60_000, whole), 1000);
        assert_eq!(backoff_ms(2, 1000, 60_000, whole), 2000);
        assert_eq!(backoff_ms(3, 1000, 60_000, whole), 4000);
        assert_eq!(backoff_ms(u32::MAX, 1000, 60_000, whole), 60_000);
        assert_eq!(backoff_ms(1, 0, 0, |_| 0), 1);
    }

    #[test]
    fn tiers_repeat_the_last() {
        assert_eq!(tier_ms(1, &[1, 10]), 1);
        assert_eq!(tier_ms(2, &[1, 10]), 10);
        assert_eq!(tier_ms(9, &[1, 10]), 10);
        assert_eq!(tier_ms(0, &[]), 1000);
    }
}
