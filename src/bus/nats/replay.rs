//! Looking at a stream without a group: a consumer without a name, which NATS forgets by itself.

use std::time::Duration;

use anyhow::anyhow;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, ReplayPolicy, pull};
use async_nats::jetstream::stream::Stream as Log;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;

use super::super::{BusError, Delivery, From, Position, Stream};
use super::{Shared, delivery, timestamp};

/// NATS forgets it after so long, should we not come to tell it.
const FORGET: Duration = Duration::from_secs(30);
/// Most that is asked for at once.
const PAGE_MAX: usize = 500;

impl Shared {
    pub(super) async fn replay(
        &self,
        stream: &Stream,
        from: From,
        max: usize,
    ) -> Result<Vec<Delivery>, BusError> {
        let Some(log) = self.log(stream).await? else { return Ok(Vec::new()) };
        let state = &log.cached_info().state;
        if state.messages == 0 || max == 0 {
            return Ok(Vec::new());
        }
        // NATS counts in nanoseconds from 1970, and not as far as we do.
        let is_over = |time| timestamp(state.last_timestamp).is_some_and(|last| last < time);
        let policy = match from {
            From::Start => DeliverPolicy::All,
            From::Time(time) if is_over(time) => return Ok(Vec::new()),
            From::At(position) => begin(sequence(position).max(1)),
            From::After(position) => begin(sequence(position).saturating_add(1)),
            From::Time(time) => at(time),
        };
        if let DeliverPolicy::ByStartSequence { start_sequence } = policy
            && start_sequence > state.last_sequence
        {
            return Ok(Vec::new());
        }
        let looking = self.look_from(&log, policy).await?;
        let page = looking.fetch().max_messages(max.min(PAGE_MAX));
        let messages = self.in_time(page.messages()).await?;
        let read = messages.try_collect::<Vec<_>>();
        let read = self.in_time(async { read.await.map_err(|error| anyhow!(error)) }).await;
        self.forget(&log, &looking).await;
        let seen = read?.into_iter();
        Ok(seen
            .filter_map(|message| {
                let mut seen = delivery(stream, &message, self.limit)?;
                seen.attempt = 0;
                Some(seen)
            })
            .collect())
    }

    /// The place of the first message that was stored at this time or later.
    pub(super) async fn first_since(
        &self,
        log: &Log,
        since: Timestamp,
    ) -> Result<Option<u64>, BusError> {
        if timestamp(log.cached_info().state.last_timestamp).is_some_and(|last| last < since) {
            return Ok(None);
        }
        let looking = self.look_from(log, at(since)).await?;
        let info = looking.cached_info();
        let first = (info.num_pending > 0).then_some(info.delivered.stream_sequence + 1);
        self.forget(log, &looking).await;
        Ok(first)
    }

    async fn look_from(&self, log: &Log, policy: DeliverPolicy) -> Result<PullConsumer, BusError> {
        let config = pull::Config {
            deliver_policy: policy,
            ack_policy: AckPolicy::Explicit,
            replay_policy: ReplayPolicy::Instant,
            inactive_threshold: FORGET,
            memory_storage: true,
            ..Default::default()
        };
        self.in_time(log.create_consumer(config)).await
    }

    async fn forget(&self, log: &Log, looking: &PullConsumer) {
        let name = looking.cached_info().name.as_str();
        if let Err(error) = self.in_time(log.delete_consumer(name)).await {
            tracing::debug!(?error, "NATS forgets it later");
        }
    }
}

fn begin(start_sequence: u64) -> DeliverPolicy {
    DeliverPolicy::ByStartSequence { start_sequence }
}

fn at(time: Timestamp) -> DeliverPolicy {
    let nanos = time.max(Timestamp::UNIX_EPOCH).as_nanosecond();
    match async_nats::datetime::from_nanos(nanos) {
        Ok(start_time) => DeliverPolicy::ByStartTime { start_time },
        Err(_) => DeliverPolicy::All,
    }
}

fn sequence(position: Position) -> u64 {
    match position {
        Position::Sequence(number) => number,
        // A place of Redis: nothing here is like it.
        Position::Entry { .. } => u64::MAX - 1,
    }
}
