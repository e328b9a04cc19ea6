//! Spans: what became of a request, step by step, in whichever process. They are written down when
//! a step is over, under the trace that the request's `traceparent` names, and wait in a bounded
//! queue for `actors/span_exporter.rs`. Nobody waits for them: what does not fit is dropped.
//!
//! Names and attributes are OpenTelemetry's semantic conventions. Nothing personal gets here, no
//! path and no query: routes, ids and outcomes.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Outcome;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use tokio::sync::{Mutex, mpsc};

pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::clock::{Ids, unix_nanos};
use crate::config;
use crate::domain::trace_context::TraceContext;
use crate::wake::Wake;

/// By what one finds the traces of a request, and the request of a trace.
const REQUEST_ID: &str = "happening.request_id";

/// Where spans are handed in. Cheap to clone; off unless a collector is configured.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    queue: mpsc::Sender<Span>,
    wake: Wake,
    batch_max: usize,
    ids: Ids,
    sample_ratio: f64,
    trust_callers: bool,
    /// It was said that the queue was full.
    said: AtomicBool,
}

/// The other end: what waits to be exported.
#[derive(Clone, Debug)]
pub struct Intake {
    queue: Arc<Mutex<mpsc::Receiver<Span>>>,
    /// Rung when there is enough for a batch.
    pub wake: Wake,
}

impl Intake {
    /// Whatever waits, at most `max`.
    pub async fn take(&self, max: usize) -> Vec<Span> {
        let mut queue = self.queue.lock().await;
        let mut spans = Vec::new();
        while spans.len() < max {
            match queue.try_recv() {
                Ok(span) => spans.push(span),
                Err(_) => break,
            }
        }
        spans
    }
}

/// A step of a trace.
#[derive(Debug)]
pub struct Step {
    /// From whose view.
    pub kind: SpanKind,
    /// What was done: few different ones.
    pub name: String,
    /// The request that caused it.
    pub request_id: String,
    /// In a word why it failed, if it did.
    pub failure: Option<String>,
    /// What else there is to know.
    pub attributes: Vec<(&'static str, Value)>,
}

impl Spans {
    /// Opens the queue, and shows its other end; nothing of it without a collector.
    pub fn open(config: &config::Tracing, ids: Ids) -> (Self, Option<Intake>) {
        if config.otlp_endpoint.is_empty() {
            return (Self::default(), None);
        }
        let (queue, taken) = mpsc::channel(config.queue_max);
        let wake = Wake::default();
        let open = Open {
            queue,
            wake: wake.clone(),
            batch_max: config.batch_max,
            ids,
            sample_ratio: config.sample_ratio,
            trust_callers: config.trust_callers,
            said: AtomicBool::new(false),
        };
        let intake = Intake { queue: Arc::new(Mutex::new(taken)), wake };
        (Self(Some(Arc::new(open))), Some(intake))
    }

    /// Whether anybody wants them.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the trace of a request is recorded. The dice decide, and not the trace's id, which
    /// is the caller's free choice; a caller who is trusted decides for both. When nothing is
    /// recorded here the caller's word is handed on.
    pub fn samples(&self, caller: Option<TraceContext>) -> bool {
        match (&self.0, caller) {
            (None, caller) => caller.is_some_and(|caller| caller.sampled),
            (Some(open), Some(caller)) if open.trust_callers => caller.sampled,
            (Some(open), _) => open.ids.chance(open.sample_ratio),
        }
    }

    /// Writes down a request that came in: `context` is its own place in the trace, `parent` the
    /// caller's span.
    pub fn request(
        &self,
        (context, parent): (TraceContext, Option<u64>),
        begun: Instant,
        step: impl FnOnce() -> Step,
    ) {
        let Some(open) = self.0.as_ref().filter(|_| context.sampled) else { return };
        let times = times(begun);
        open.record(span(context, parent, times, step(), None));
    }

    /// Begins to write down what was done for many requests at once, `begun` then and over now;
    /// `None` if nobody wants it.
    pub fn batch(&self, begun: Instant) -> Option<Batch<'_>> {
        let open = self.0.as_deref()?;
        Some(Batch { open, times: times(begun), first: None })
    }
}

/// Something that was done for many requests at once: a span in the trace of each, so that every
/// trace is whole; those of one batch link to its first one.
#[derive(Debug)]
pub struct Batch<'a> {
    open: &'a Open,
    times: (u64, u64),
    first: Option<TraceContext>,
}

impl Batch<'_> {
    /// Adds the part of one request, if its trace is recorded.
    pub fn add(&mut self, traceparent: Option<&str>, step: impl FnOnce() -> Step) {
        let cause = traceparent.and_then(TraceContext::parse).filter(|cause| cause.sampled);
        let Some(cause) = cause else { return };
        let context = TraceContext { span_id: self.open.ids.span_id(), ..cause };
        self.open.record(span(context, Some(cause.span_id), self.times, step(), self.first));
        self.first.get_or_insert(context);
    }
}

impl Open {
    /// Never waits.
    fn record(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            metrics::counter!("spans_dropped_total", "why" => "queue_full").increment(1);
            if !self.said.swap(true, Ordering::Relaxed) {
                tracing::warn!("the queue of spans is full: some are dropped, now and later");
            }
            return;
        }
        // What is less waits for the tick.
        if self.queue.max_capacity().saturating_sub(self.queue.capacity()) >= self.batch_max {
            self.wake.ring();
        }
    }
}

/// From when to when, in nanoseconds since 1970.
fn times(begun: Instant) -> (u64, u64) {
    let end = unix_nanos();
    let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    (end.saturating_sub(took), end)
}

fn span(
    context: TraceContext,
    parent: Option<u64>,
    (start, end): (u64, u64),
    step: Step,
    first: Option<TraceContext>,
) -> Span {
    let Step { kind, name, request_id, failure, attributes } = step;
    let error = failure.map(|why| ("error.type", Value::StringValue(why)));
    let failed = || Status { message: String::new(), code: i32::from(Outcome::Error) };
    let status = error.is_some().then(failed);
    let request = (REQUEST_ID, Value::StringValue(request_id));
    let attributes = attributes.into_iter().chain([request]).chain(error);
    let link = |first: TraceContext| Link {
        trace_id: first.trace_id.to_be_bytes().to_vec(),
        span_id: first.span_id.to_be_bytes().to_vec(),
        flags: u32::from(first.sampled),
        ..Link::default()
    };
    Span {
        trace_id: context.trace_id.to_be_bytes().to_vec(),
        span_id: context.span_id.to_be_bytes().to_vec(),
        parent_span_id: parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: u32::from(context.sampled),
        name,
        kind: i32::from(kind),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes: attributes.map(|(key, value)| attribute(key, value)).collect(),
        links: first.map(link).into_iter().collect(),
        status,
        ..Span::default()
    }
}

/// Words.
pub fn text(value: impl Display) -> Value {
    Value::StringValue(value.to_string())
}

/// A number.
pub fn number(value: usize) -> Value {
    Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX))
}

/// An attribute as it travels.
pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn open(more: &[(&str, &str)]) -> (Spans, Intake) {
        let mut settings = vec![
            ("HAPPENING__DEMO", "true"),
            ("HAPPENING__TRACING__OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ];
        settings.extend(more);
        let settings = settings.into_iter().map(|(name, value)| (name.into(), value.into()));
        let config = Config::from_sources(None, settings.collect()).unwrap();
        let (spans, intake) = Spans::open(&config.tracing, Ids);
        (spans, intake.unwrap())
    }

    fn step() -> Step {
        Step {
            kind: SpanKind::Internal,
            name: "work".to_owned(),
            request_id: "the-request".to_owned(),
            failure: None,
            attributes: Vec::new(),
        }
    }

    #[test]
    fn an_outsider_decides_nothing() {
        let caller = TraceContext::parse(CALLER);
        let unsampled = caller.map(|caller| TraceContext { sampled: false, ..caller });
        let (none, _intake) = open(&[("HAPPENING__TRACING__SAMPLE_RATIO", "0")]);
        assert!(!none.samples(caller) && !none.samples(None));
        let (all, _intake) = open(&[]);
        assert!(all.samples(unsampled) && all.samples(None));
        let (some, _intake) = open(&[("HAPPENING__TRACING__SAMPLE_RATIO", "0.5")]);
        let recorded = (0..1000).filter(|_| some.samples(caller)).count();
        assert!((300..700).contains(&recorded), "one trace, and the dice: {recorded}");
        let trusting = ("HAPPENING__TRACING__TRUST_CALLERS", "true");
        let (trusts, _intake) = open(&[trusting, ("HAPPENING__TRACING__SAMPLE_RATIO", "0")]);
        assert!(trusts.samples(caller) && !trusts.samples(unsampled) && !trusts.samples(None));
        // Where nothing is recorded, the caller's word is handed on.
        let off = Spans::default();
        assert!(!off.is_on() && off.samples(caller) && !off.samples(unsampled));
    }

    #[tokio::test]
    async fn those_of_a_batch_link_to_its_first() {
        let (spans, intake) = open(&[]);
        let mut batch = spans.batch(Instant::now()).unwrap();
        batch.add(Some("nonsense"), step);
        batch.add(None, step);
        batch.add(Some(&CALLER.replace("-01", "-00")), step);
        batch.add(Some(CALLER), step);
        batch.add(Some(&CALLER.replace("0af7", "1af7")), step);
        let told = intake.take(10).await;
        let [first, second] = told.as_slice() else { panic!("two are recorded: {told:?}") };
        assert_eq!(first.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
        assert_eq!((first.links.len(), first.trace_id[0]), (0, 0x0a));
        assert_eq!(second.links[0].span_id, first.span_id);
        assert_eq!((second.links[0].trace_id[0], second.trace_id[0]), (0x0a, 0x1a));
        assert!(first.start_time_unix_nano <= first.end_time_unix_nano);
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_waits_for_nobody() {
        let small =
            [("HAPPENING__TRACING__QUEUE_MAX", "4"), ("HAPPENING__TRACING__BATCH_MAX", "2")];
        let (spans, intake) = open(&small);
        let mut batch = spans.batch(Instant::now()).unwrap();
        (0..100).for_each(|_| batch.add(Some(CALLER), step));
        intake.wake.rung().await;
        assert_eq!((intake.take(3).await.len(), intake.take(3).await.len()), (3, 1));
    }
}
