//! Carries spans to the collector of traces. It may be away or slow for as long as it likes:
//! nothing waits for it but this actor, and what it does not take is dropped and counted.

use std::time::Instant;

use super::{Actor, Next};
use crate::domain::breaker::{Breaker, Gate};
use crate::telemetry::otlp::Collector;
use crate::telemetry::spans::Intake;

/// The exporter of spans.
pub struct SpanExporter {
    intake: Intake,
    collector: Collector,
    batch_max: usize,
    breaker: Breaker,
    born: Instant,
}

impl SpanExporter {
    /// From there to there, at most so many at once.
    pub fn new(intake: Intake, collector: Collector, batch_max: usize) -> Self {
        let (breaker, born) = (Breaker::default(), Instant::now());
        Self { intake, collector, batch_max, breaker, born }
    }

    async fn export(&mut self) -> Next {
        if matches!(self.breaker.gate(self.born.elapsed()), Gate::Open(_)) {
            return Next::Rest;
        }
        let batch = self.intake.take(self.batch_max).await;
        let count = batch.len();
        if count == 0 {
            return Next::Rest;
        }
        match self.collector.send(batch).await {
            Ok(rejected) => {
                let sent = whole(count);
                metrics::counter!("spans_exported_total").increment(sent.saturating_sub(rejected));
                dropped("rejected", rejected.min(sent));
                if self.breaker.succeed() {
                    tracing::info!("the collector of traces takes spans again");
                }
            }
            Err(error) => {
                dropped("collector", whole(count));
                if !self.breaker.is_open() {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the collector of traces takes no spans: dropping them");
                }
                self.breaker.fail(self.born.elapsed());
                return Next::Rest;
            }
        }
        if count < self.batch_max { Next::Rest } else { Next::Again }
    }
}

impl Actor for SpanExporter {
    async fn step(&mut self) -> anyhow::Result<Next> {
        Ok(self.export().await)
    }

    /// What was written down since the last step; the phase's deadline bounds it.
    async fn close(&mut self) {
        while self.export().await == Next::Again {}
    }

    fn drains(&self) -> bool {
        true
    }
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn dropped(why: &'static str, count: u64) {
    if count > 0 {
        metrics::counter!("spans_dropped_total", "why" => why).increment(count);
    }
}
