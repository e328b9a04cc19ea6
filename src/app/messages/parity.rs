//! Two brokers side by side, and the books beside them: for those who move from one to the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::consume::streams;
use super::parcels::Parcels;
use super::streams::{Live, look};
use crate::app::{App, Result};
use crate::bus::EventBus;
use crate::domain::stream_type::StreamType;
use crate::postgres::parity::{self, Booked};

/// A type by the books, and on each broker.
#[derive(Clone, Debug)]
pub struct Parity {
    /// The type.
    pub kind: &'static str,
    /// What was written and sent.
    pub booked: Booked,
    /// Messages that each service has yet to deal with, by its name.
    pub undone: BTreeMap<&'static str, i64>,
    /// In the order of the brokers; `None`: it is away, or has no such streams.
    pub brokers: Vec<Option<Live>>,
}

/// Compares every type.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn compare(app: &App, brokers: &[Arc<dyn EventBus>]) -> Result<Vec<Parity>> {
    let mut all = Vec::new();
    for kind in app.registry.types() {
        all.push(compare_type(app, kind, brokers).await?);
    }
    Ok(all)
}

async fn compare_type(
    app: &App,
    kind: &StreamType,
    brokers: &[Arc<dyn EventBus>],
) -> Result<Parity> {
    let groups = app.parcels.groups(kind.name);
    let mut undone = BTreeMap::new();
    let conn = app.db.get().await?;
    let booked = parity::booked(&conn, kind.name).await?;
    for group in &groups {
        let names = streams(kind.name);
        undone.insert(*group, parity::undone(&conn, kind.name, &names, group).await?);
    }
    drop(conn);
    let mut seen = Vec::new();
    for bus in brokers {
        seen.push(look(bus.as_ref(), &Parcels::streams(kind), &groups).await);
    }
    Ok(Parity { kind: kind.name, booked, undone, brokers: seen })
}
