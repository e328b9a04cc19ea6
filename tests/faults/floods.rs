//! What nobody should send, by many at once, for some seconds: nonsense, halves of frames, frames
//! that are far too large, binary ones, and more than anybody may. Whoever behaves sees the truth
//! all the same, and the memory of the process stays where it was.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::holders::ask;
use crate::process::until;
use crate::watchers::{Doors, Watcher, open};
use crate::world::World;

/// How many flood at the same time.
const FLOODERS: u64 = 48;
/// How long a wave lasts.
const WAVE: Duration = Duration::from_secs(4);
/// What a wave may leave behind in memory, in KiB: far less than what it sent.
const FLAT_KIB: u64 = 48 * 1024;
const SOON: Duration = Duration::from_mins(1);

/// Dice that fall the same way each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.roll(most) + 1;
        (0..length).map(|_| u8::try_from(self.roll(256)).unwrap()).collect()
    }
}

/// Something that is no good frame, or too many good ones.
fn nonsense(dice: &mut Dice, event: Uuid) -> Vec<Message> {
    let text = |text: String| vec![Message::text(text)];
    match dice.roll(9) {
        0 => text(String::from_utf8_lossy(&dice.bytes(400)).into_owned()),
        1 => vec![Message::binary(dice.bytes(4000))],
        2 => text("x".repeat(1 << 20)),
        3 => text(format!("{{\"type\":\"join\",\"event_id\":\"{event}\",\"since\":{}}}", dice.0)),
        4 => text(json!({"type": "hold", "event_id": event, "seat_numbers": [dice.0]}).to_string()),
        5 => text("[".repeat(10_000)),
        6 => {
            let good = json!({"type": "join", "event_id": event}).to_string();
            let cut = usize::try_from(dice.roll(20)).unwrap();
            text(good[..good.len() - cut].to_owned())
        }
        7 => vec![Message::text(json!({"type": "ping"}).to_string()); 200],
        _ => {
            let unknown = json!({"type": "join", "event_id": Uuid::now_v7()});
            vec![Message::text(unknown.to_string()); 20]
        }
    }
}

/// One who floods until it is time, and comes back whenever they are sent away.
async fn flood(at: SocketAddr, event: Uuid, seed: u64, over: Instant) -> u64 {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed + 1).wrapping_mul(0x2545_f491));
    let mut sent = 0;
    while Instant::now() < over {
        let Some(mut socket) = open(at, "/ws").await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        for _ in 0..=dice.roll(12) {
            if dice.roll(8) == 0 {
                // Bytes that are no frames at all, or the beginning of one that never ends.
                let raw = if dice.roll(2) == 0 { dice.bytes(600) } else { vec![0x81, 0xfe, 0x10] };
                socket.get_mut().write_all(&raw).await.ok();
                break;
            }
            for message in nonsense(&mut dice, event) {
                sent += 1;
                if timeout(Duration::from_secs(1), socket.send(message)).await.is_err() {
                    break;
                }
            }
            // Some listen, some do not.
            if dice.roll(2) == 0 {
                timeout(Duration::from_millis(5), socket.next()).await.ok();
            }
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_nonsense_harm_nobody_and_fill_no_memory() {
    let mut world = World::new().await;
    world.set("HAPPENING__SOCKETS__EXEMPT_LOOPBACK", "true");
    // The flood takes all of the machine: a Redis that answers late is not away.
    world.set("HAPPENING__REDIS__RESPONSE_TIMEOUT_MS", "10000");
    world.set("HAPPENING__LIMITS__ACCOUNT_PER_SECOND", "100000");
    world.set("HAPPENING__LIMITS__ACCOUNT_BURST", "100000");
    let (event, _) = world.numbered_event(20).await;
    let mut server = world.serve().await;
    let people = world.people(1).await;
    let doors = Doors::new(&[server.address]);
    let (_cut, cuts) = watch::channel(0);
    let watchers: Vec<Watcher> =
        (0..20).map(|_| Watcher::start(&doors, 0, event, cuts.clone())).collect();
    let at = server.address;
    let mut memory = Vec::new();
    for wave in 0..4 {
        let over = Instant::now() + WAVE;
        let flooders = (0..FLOODERS)
            .map(|number| tokio::spawn(flood(at, event, wave * FLOODERS + number, over)));
        let flooders: Vec<_> = flooders.collect();
        // Meanwhile somebody holds and lets go, and everybody sees it.
        for seat in (1..=20_u64).cycle() {
            let path = format!("/events/{event}/holds");
            let body = json!({"seat_numbers": [seat]});
            let reply = ask(at, &people[0], None, ("POST", &path), &body).await.expect("an answer");
            assert_eq!(reply.status, 201, "{}", reply.body);
            let see = async |seats: &[u64]| {
                let seats = seats.iter().copied().collect();
                let sees = |watcher: &Watcher| watcher.map().held == seats;
                until("all see it", SOON, async || watchers.iter().all(sees).then_some(())).await;
            };
            see(&[seat]).await;
            let path = format!("{path}/{}", reply.json()["hold_token"].as_str().unwrap());
            ask(at, &people[0], None, ("DELETE", &path), &Value::Null).await.expect("an answer");
            see(&[]).await;
            if Instant::now() > over {
                break;
            }
        }
        let mut sent = 0;
        for flooder in flooders {
            sent += flooder.await.expect("a flooder");
        }
        server.must_live();
        let open = async || (server.counter("sockets_open", "plain").await <= 20.0).then_some(());
        until("those who flooded are gone", SOON, open).await;
        memory.push(server.resident_kib());
        println!("wave {wave}: {sent} messages, {} KiB", server.resident_kib());
        assert!(sent > 500, "only {sent} messages: no flood");
    }
    // The first waves warm it up.
    let (warm, last) = (memory[1], memory[3]);
    assert!(last < warm + FLAT_KIB, "it grew: {memory:?} KiB");
    let words = server.last_words();
    assert!(!words.contains("panicked"), "{words}");
    world.redis_is_equal().await;
}
