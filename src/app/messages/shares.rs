//! Which streams this process reads for a service: each stream has one reader at a time, so that
//! its order is kept, and the readers share the streams evenly. A lease that is not kept up is
//! over; what two readers do with one message while a lease changes hands is settled by its claim.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::later;
use crate::clock::Clock;
use crate::domain::processing::ServiceContext;
use crate::postgres::stream_lease::{self, Lease};
use crate::postgres::{Db, DbError};

/// The shares of one reader.
pub struct Shares {
    db: Db,
    clock: Clock,
    service: ServiceContext,
    holder: Uuid,
    streams: Vec<String>,
    lease_ms: u64,
    held: BTreeSet<String>,
    until: Timestamp,
}

impl Shares {
    /// A reader of these streams. What `holder` held before it was made anew is still its.
    pub fn new(
        db: Db,
        clock: Clock,
        holder: Uuid,
        service: ServiceContext,
        streams: Vec<String>,
        lease_ms: u64,
    ) -> Self {
        let until = Timestamp::MIN;
        Self { db, clock, service, holder, streams, lease_ms, held: BTreeSet::new(), until }
    }

    /// The streams that are this reader's now: renewed when a third of the lease is over, fewer
    /// when another reader has come, more when one has gone.
    ///
    /// # Errors
    /// When PostgreSQL is away and the lease is over.
    pub async fn held(&mut self) -> Result<&BTreeSet<String>, DbError> {
        let now = self.clock.now();
        let due = later(now, self.lease_ms.saturating_sub(self.lease_ms / 3));
        if self.until > due {
            return Ok(&self.held);
        }
        match self.share(now).await {
            Ok(held) => {
                self.held = held;
                self.until = later(now, self.lease_ms);
            }
            Err(_) if self.until > now => {}
            Err(error) => {
                self.held.clear();
                return Err(error);
            }
        }
        Ok(&self.held)
    }

    /// Gives everything back, for another one to take at once.
    ///
    /// # Errors
    /// When PostgreSQL is away; the leases end by themselves.
    pub async fn release(&mut self) -> Result<(), DbError> {
        let mut held: Vec<String> = std::mem::take(&mut self.held).into_iter().collect();
        held.push(self.presence());
        self.until = Timestamp::MIN;
        let conn = self.db.get().await?;
        stream_lease::release(&conn, self.service.name(), self.holder, &held).await
    }

    /// Under which others see that there is one more reader, even if it reads nothing yet.
    fn presence(&self) -> String {
        format!("@{}", self.holder)
    }

    async fn share(&self, now: Timestamp) -> Result<BTreeSet<String>, DbError> {
        let service = self.service.name();
        let conn = self.db.get().await?;
        let live = stream_lease::live(&conn, service, now).await?;
        let wanted = wanted(&self.streams, &live, self.holder);
        let surplus: Vec<String> = self.held.difference(&wanted).cloned().collect();
        if !surplus.is_empty() {
            stream_lease::release(&conn, service, self.holder, &surplus).await?;
        }
        let mut wanted: Vec<String> = wanted.into_iter().collect();
        wanted.push(self.presence());
        let span = (now, later(now, self.lease_ms));
        let taken = stream_lease::take(&conn, service, self.holder, &wanted, span).await?;
        let presence = self.presence();
        Ok(taken.into_iter().filter(|stream| *stream != presence).collect())
    }
}

/// An even share of the streams: what `me` has, as far as it is not too much, and of the rest what
/// nobody has.
fn wanted(streams: &[String], live: &[Lease], me: Uuid) -> BTreeSet<String> {
    let mut readers: BTreeSet<Uuid> = live.iter().map(|lease| lease.holder).collect();
    readers.insert(me);
    let fair = streams.len().div_ceil(readers.len());
    let holder = |stream: &String| {
        live.iter().find(|lease| lease.stream == *stream).map(|lease| lease.holder)
    };
    let mine = streams.iter().filter(|stream| holder(stream) == Some(me));
    let free = streams.iter().filter(|stream| holder(stream).is_none());
    mine.chain(free).take(fair).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_evenly() {
        let streams: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let [me, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let lease = |stream: &str, holder| Lease { stream: stream.to_owned(), holder };
        let wants = |live: &[Lease]| wanted(&streams, live, me).into_iter().collect::<String>();
        assert_eq!(wants(&[]), "abc", "alone it has all");
        let all = [lease("a", me), lease("b", me), lease("c", me)];
        assert_eq!(wants(&all), "abc");
        let guest = [&all[..], &[lease("@2", other)]].concat();
        assert_eq!(wants(&guest), "ab", "one goes to the guest");
        let shared = [lease("a", me), lease("b", me), lease("c", other)];
        assert_eq!(wants(&shared), "ab");
        let theirs = [lease("a", other), lease("b", other), lease("c", other)];
        assert_eq!(wants(&theirs), "", "until they let go");
    }
}
