//! A hall: people who watch one event of one server, all with the same client, whichever server it
//! is. Tells when the last of them has heard of a hold, or of a version.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::wire::{PATIENCE, Wire};

/// Watchers who come in at the same time.
const AT_ONCE: usize = 64;
/// How often it is looked whether all have a version.
const LOOK: Duration = Duration::from_millis(2);

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The frames of our plain WebSockets.
    Plain,
    /// Socket.IO over WebSocket, ours and the peer's.
    SocketIo,
}

/// Where to go, and what to watch there.
#[derive(Clone, Debug)]
pub struct Place {
    /// What is spoken there.
    pub dialect: Dialect,
    /// On this port of this machine.
    pub port: u16,
    /// Which event.
    pub event: String,
}

impl Place {
    /// Opens a socket, with a token if seats are to be held with it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn enter(&self, token: Option<&str>) -> anyhow::Result<Wire> {
        if self.dialect == Dialect::Plain {
            return Wire::open(self.port, "/ws", token).await;
        }
        let path = "/socket.io/?EIO=4&transport=websocket";
        let mut wire = Wire::open(self.port, path, None).await?;
        wire.await_text(|text| text.starts_with(b"0{")).await.context("no session")?;
        let connect = token.map(|token| format!("40{{\"token\":\"{token}\"}}"));
        wire.say(connect.as_deref().unwrap_or("40")).await?;
        wire.await_text(|text| text.starts_with(b"40")).await.context("not connected")?;
        Ok(wire)
    }

    /// Begins to watch; returns when the seats were told.
    ///
    /// # Errors
    /// When they are not.
    pub async fn join(&self, wire: &mut Wire) -> anyhow::Result<Vec<u8>> {
        let event = &self.event;
        let (ask, answer): (_, &[u8]) = match self.dialect {
            Dialect::Plain => (
                format!("{{\"type\":\"join\",\"event_id\":\"{event}\"}}"),
                b"{\"type\":\"snapshot\"",
            ),
            Dialect::SocketIo => {
                (format!("420[\"event:join\",{{\"eventId\":\"{event}\"}}]"), b"430[")
            }
        };
        wire.say(&ask).await?;
        let told = Mutex::new(Vec::new());
        let fits = |text: &[u8]| {
            let fits = text.starts_with(answer);
            if fits {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = text.to_vec();
            }
            fits
        };
        wire.await_text(fits).await.context("the seats were not told")?;
        Ok(told.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks to hold this seat, and no other.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn ask(&self, wire: &mut Wire, seat: u32) -> anyhow::Result<()> {
        let event = &self.event;
        let ask = match self.dialect {
            Dialect::Plain => {
                format!("{{\"type\":\"hold\",\"event_id\":\"{event}\",\"seat_numbers\":[{seat}]}}")
            }
            Dialect::SocketIo => {
                format!("421[\"event:holds:set\",{{\"eventId\":\"{event}\",\"seats\":[{seat}]}}]")
            }
        };
        wire.say(&ask).await
    }

    /// Waits until that seat is granted.
    ///
    /// # Errors
    /// When it is not.
    pub async fn granted(&self, wire: &mut Wire, seat: u32) -> anyhow::Result<()> {
        let (start, key): (&[u8], &[u8]) = match self.dialect {
            Dialect::Plain => (b"{\"type\":\"hold_result\"", b"\"granted\":["),
            Dialect::SocketIo => (b"431[", b"\"allowedSeats\":["),
        };
        let refused: &[u8] = match self.dialect {
            Dialect::Plain => b"{\"type\":\"error\"",
            Dialect::SocketIo => b"42[\"event:error\"",
        };
        let answered = timeout(PATIENCE, async {
            loop {
                let text = wire.hear().await?;
                let answer = text.starts_with(start);
                if answer && lists(text, key, seat) {
                    return Ok(());
                }
                if answer || text.starts_with(refused) {
                    bail!("seat {seat} is refused: {}", String::from_utf8_lossy(text));
                }
            }
        });
        answered.await.context("no answer to a hold in time")?
    }

    /// What held seats stand behind when all are told of them.
    fn held_key(&self) -> &'static [u8] {
        match self.dialect {
            Dialect::Plain => b"\"held\":[",
            Dialect::SocketIo => b"\"heldSeats\":[",
        }
    }
}

/// What one watcher knows.
#[derive(Debug, Default)]
struct Seen {
    version: AtomicI64,
    /// Every frame, of those who keep them.
    kept: Option<Mutex<Vec<Vec<u8>>>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The seat that all are to hear of.
    wanted: AtomicU32,
    heard: AtomicU32,
    crowd: u32,
    all: Notify,
    watchers: Vec<Seen>,
}

/// A hall full of people.
pub struct Hall {
    shared: Arc<Shared>,
    watching: JoinSet<anyhow::Result<()>>,
}

impl Hall {
    /// Fills it with `crowd` watchers, the first `keep` of whom keep every frame.
    ///
    /// # Errors
    /// When one is not let in.
    pub async fn fill(place: &Place, crowd: u32, keep: u32) -> anyhow::Result<Self> {
        let seen =
            |index| Seen { version: AtomicI64::new(-1), kept: (index < keep).then(Mutex::default) };
        let watchers = (0..crowd).map(seen).collect();
        let shared = Arc::new(Shared { crowd, watchers, ..Shared::default() });
        let entering = stream::iter(0..usize::try_from(crowd)?).map(|index| async move {
            let mut wire = place.enter(None).await.with_context(|| format!("watcher {index}"))?;
            let told = place.join(&mut wire).await.with_context(|| format!("watcher {index}"))?;
            anyhow::Ok((index, wire, told))
        });
        let mut entering = std::pin::pin!(entering.buffer_unordered(AT_ONCE));
        let mut watching = JoinSet::new();
        while let Some((index, wire, told)) = entering.try_next().await? {
            if let Some(seen) = shared.watchers.get(index) {
                note(seen, &told);
            }
            watching.spawn(watch(wire, place.clone(), index, Arc::clone(&shared)));
        }
        Ok(Self { shared, watching })
    }

    /// How long it takes until all have heard of a hold, from the moment that it is asked for.
    ///
    /// # Errors
    /// When it is refused, or somebody does not hear of it.
    pub async fn spread(
        &mut self,
        place: &Place,
        holder: &mut Wire,
        seat: u32,
    ) -> anyhow::Result<Duration> {
        self.shared.heard.store(0, Ordering::Release);
        self.shared.wanted.store(seat, Ordering::Release);
        let started = Instant::now();
        place.ask(holder, seat).await?;
        if timeout(PATIENCE, self.shared.all.notified()).await.is_err() {
            self.check()?;
            let heard = self.shared.heard.load(Ordering::Acquire);
            bail!("only {heard} of {} heard of seat {seat}", self.shared.crowd);
        }
        let spread = started.elapsed();
        place.granted(holder, seat).await?;
        Ok(spread)
    }

    /// Waits until everybody has this version or a later one; tells how many never had it.
    pub async fn reach(&self, version: i64, patience: Duration) -> usize {
        let started = Instant::now();
        loop {
            let late = |seen: &&Seen| seen.version.load(Ordering::Relaxed) < version;
            let behind = self.shared.watchers.iter().filter(late).count();
            if behind == 0 || started.elapsed() > patience {
                return behind;
            }
            sleep(LOOK).await;
        }
    }

    /// The frames of those who kept them.
    pub fn kept(&self) -> Vec<Vec<Vec<u8>>> {
        let kept = self.shared.watchers.iter().filter_map(|seen| seen.kept.as_ref());
        kept.map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// Whether everybody is still there.
    ///
    /// # Errors
    /// When somebody was sent away.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.watching.try_join_next() {
            None => Ok(()),
            Some(Ok(Ok(()))) => bail!("a watcher left"),
            Some(Ok(Err(error))) => Err(error.context("a watcher was lost")),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Everybody leaves.
    pub async fn clear(mut self) {
        self.watching.shutdown().await;
    }
}

async fn watch(
    mut wire: Wire,
    place: Place,
    index: usize,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    let seen = shared.watchers.get(index).context("no such watcher")?;
    let key = place.held_key();
    let mut heard = 0;
    loop {
        let text = wire.hear().await?;
        let wanted = shared.wanted.load(Ordering::Acquire);
        if wanted != heard && lists(text, key, wanted) {
            heard = wanted;
            if shared.heard.fetch_add(1, Ordering::AcqRel) + 1 == shared.crowd {
                shared.all.notify_one();
            }
        }
        note(seen, text);
    }
}

fn note(seen: &Seen, text: &[u8]) {
    if let Some(version) = number_behind(text, b"\"version\":") {
        seen.version.store(version, Ordering::Relaxed);
    }
    if let Some(kept) = &seen.kept {
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_vec());
    }
}

/// What stands behind `key`.
fn behind<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(key.len()).position(|window| window == key)?;
    text.get(at + key.len()..)
}

fn number_behind(text: &[u8], key: &[u8]) -> Option<i64> {
    let rest = behind(text, key)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}

/// Whether `seat` is in the list behind `key`.
fn lists(text: &[u8], key: &[u8], seat: u32) -> bool {
    let Some(rest) = behind(text, key) else { return false };
    let end = rest.iter().position(|byte| *byte == b']').unwrap_or(rest.len());
    let list = rest.get(..end).unwrap_or_default();
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u32>().ok();
    list.split(|byte| *byte == b',').any(|digits| number(digits) == Some(seat))
}

/// The seats that are held, as somebody knows them who applied all these frames in their order.
///
/// # Errors
/// When there is a gap between them, or one that cannot be read.
pub fn replay(frames: &[Vec<u8>]) -> anyhow::Result<BTreeSet<u32>> {
    let mut held = BTreeSet::new();
    let mut version = None;
    for frame in frames {
        let Some(next) = number_behind(frame, b"\"version\":") else { continue };
        let frame: Value = serde_json::from_slice(frame)?;
        let list = |name: &str| {
            let seats = frame.get(name).and_then(Value::as_array).into_iter().flatten();
            seats.filter_map(|seat| u32::try_from(seat.as_u64()?).ok()).collect::<Vec<_>>()
        };
        if frame.get("type").and_then(Value::as_str) == Some("snapshot") {
            held.clear();
        } else {
            let since = frame.get("since").and_then(Value::as_i64);
            let since = since.unwrap_or(next - 1);
            ensure!(version.is_some_and(|known| since <= known), "a gap before version {next}");
        }
        version = Some(next);
        for gone in ["released", "taken", "freed"] {
            for seat in list(gone) {
                held.remove(&seat);
            }
        }
        held.extend(list("held"));
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_found_in_frames() {
        let delta = br#"{"type":"delta","version":7,"held":[12,3],"released":[4],"available":1}"#;
        assert!(lists(delta, b"\"held\":[", 3) && lists(delta, b"\"held\":[", 12));
        assert!(!lists(delta, b"\"held\":[", 1) && !lists(delta, b"\"held\":[", 4));
        assert!(!lists(b"{}", b"\"held\":[", 1) && !lists(b"\"held\":[]", b"\"held\":[", 1));
        assert_eq!(number_behind(delta, b"\"version\":"), Some(7));
        assert_eq!(number_behind(delta, b"\"since\":"), None);
    }

    #[test]
    fn frames_are_replayed() {
        let frames = |all: &[&str]| all.iter().map(|text| text.as_bytes().to_vec()).collect();
        let good: Vec<_> = frames(&[
            r#"{"type":"snapshot","version":5,"taken":[9],"held":[1,2]}"#,
            r#"{"type":"pong"}"#,
            r#"{"type":"delta","version":8,"since":5,"held":[3],"released":[1]}"#,
            r#"{"type":"delta","version":9,"taken":[2]}"#,
        ]);
        assert_eq!(replay(&good).unwrap(), [3].into());
        let gap: Vec<_> = frames(&[
            r#"{"type":"snapshot","version":5,"held":[]}"#,
            r#"{"type":"delta","version":7,"held":[3]}"#,
        ]);
        assert!(replay(&gap).is_err());
    }
}
