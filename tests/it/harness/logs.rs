//! Listens to what the server logs. An ERROR is a fault of ours: no test may cause one.

use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static START: Once = Once::new();

/// What was logged since a test began.
pub struct Logs {
    from: usize,
}

impl Logs {
    /// Begins to listen.
    pub fn capture() -> Self {
        START.call_once(|| {
            let text = fmt::layer().with_test_writer().with_ansi(false);
            let filter = EnvFilter::new("info,happening=info,lapin=off");
            tracing_subscriber::registry().with(text.with_filter(filter)).with(Errors).init();
        });
        Self { from: ERRORS.lock().unwrap().len() }
    }

    /// This one was to be expected.
    pub fn forgive(&self, what: &str) {
        let mut errors = ERRORS.lock().unwrap();
        let from = self.from.min(errors.len());
        let ours = errors.split_off(from);
        errors.extend(ours.into_iter().filter(|error| !error.contains(what)));
    }

    /// There must be none.
    pub fn check(&self) {
        let errors = ERRORS.lock().unwrap();
        let ours = errors.get(self.from..).unwrap_or_default();
        assert!(ours.is_empty(), "logged: {ours:#?}");
    }
}

struct Errors;

impl<S: Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let ours = event.metadata().target().starts_with("happening");
        if ours && *event.metadata().level() == Level::ERROR {
            let mut text = Text(String::new());
            event.record(&mut text);
            ERRORS.lock().unwrap().push(text.0);
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}
