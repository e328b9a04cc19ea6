//! Looking on while messages pass by on streams, for nobody's group: nothing changes by it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::parcels::Parcels;
use crate::app::error::Error;
use crate::app::{App, Result};
use crate::bus::{BusError, Delivery, EventBus, From, Position, Stream};
use crate::domain::message::Defect;
use crate::domain::refusal::Refusal;

/// Messages that one look of a tail brings at most, a stream.
pub const LOOK_MAX: usize = 100;

/// A message that passed by.
#[derive(Clone, Debug)]
pub struct Passed {
    /// On which stream.
    pub stream: String,
    /// Where.
    pub position: String,
    /// When the broker stored it, if it says so.
    pub stored_at: Option<Timestamp>,
    /// The envelope as it travels, or why it is none.
    pub message: std::result::Result<Value, Defect>,
}

/// Somebody who looks on while messages of a type pass by. Nothing changes by it.
pub struct Tail {
    bus: Arc<dyn EventBus>,
    places: Vec<(Stream, From)>,
}

impl Tail {
    /// Begins there, by default now.
    ///
    /// # Errors
    /// [`Refusal::UnknownType`]; a place of a type with several streams, which have places each.
    pub fn begin(app: &App, kind: &str, from: Option<From>) -> Result<Self> {
        let kind = app.registry.find(kind).ok_or(Refusal::UnknownType)?;
        let from = from.unwrap_or_else(|| From::Time(app.clock.now()));
        let streams = Parcels::streams(kind);
        if streams.len() > 1 && matches!(from, From::At(_) | From::After(_)) {
            let detail = "is a place on one stream, and this type has several: name a time";
            return Err(Refusal::invalid("/from", "ambiguous", detail).into());
        }
        let places = streams.into_iter().map(|stream| (stream, from)).collect();
        Ok(Self { bus: Arc::clone(&app.bus), places })
    }

    /// What has passed by since, the first [`LOOK_MAX`] of each stream.
    ///
    /// # Errors
    /// When the bus is away. It goes on where it was.
    pub async fn next(&mut self) -> Result<Vec<Passed>> {
        let mut seen = Vec::new();
        for (stream, from) in &mut self.places {
            let passed = self.bus.replay(stream, *from, LOOK_MAX).await.map_err(away)?;
            if let Some(last) = passed.last() {
                *from = From::After(last.position);
            }
            seen.extend(passed.iter().map(passed_by));
        }
        Ok(seen)
    }
}

fn passed_by(delivery: &Delivery) -> Passed {
    let read = |_| {
        let read = serde_json::from_slice(&delivery.body);
        read.map_err(|error| Defect::new(error.to_string()))
    };
    Passed {
        stream: delivery.stream.to_string(),
        position: delivery.position.to_string(),
        stored_at: delivery.stored_at,
        message: delivery.envelope().and_then(read),
    }
}

/// Where to begin: `start`, a time (RFC 3339), or a place on the stream (what follows it is meant).
///
/// # Errors
/// A refusal that names the field when it is none of them.
pub fn place(from: &str) -> std::result::Result<From, Refusal> {
    if from == "start" {
        return Ok(From::Start);
    }
    if let Ok(position) = from.parse::<Position>() {
        return Ok(From::After(position));
    }
    let at = from.parse::<Timestamp>().map(From::Time);
    let detail = "must be start, an RFC 3339 time, or a place like 1700000000000-0";
    at.map_err(|_| Refusal::invalid("/from", "malformed", detail))
}

fn away(error: BusError) -> Error {
    let (retry_after, cause) = (Duration::from_secs(1), Some(error.into()));
    Error::Unavailable { part: "the bus", retry_after, cause }
}
