//! The collector of traces is nobody's dependency: whether it is dead, takes and never answers, or
//! was never named, people book and the stop is in time.

use std::fs;
use std::time::Duration;

use crate::process::until;
use crate::sale::{Order, Sale};
use crate::support::collector::Collector;
use crate::world::World;

/// The phases of the stop, and closing the pools.
const DEADLINE: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with these settings sells fifty seats and stops; what it said.
async fn sells(world: &World, sale: &Sale, settings: &[(&str, &str)], dropped: bool) -> String {
    let (event, _) = world.event(100).await;
    let mut server = world.serve_with(settings).await;
    sale.send_to(&[server.address]);
    let people = world.people(50).await;
    let before = sale.acknowledged();
    sale.burst(people.into_iter().map(|one| Order::book(one, event, 1, true)).collect()).await;
    assert_eq!(sale.acknowledged(), before + 50);
    if dropped {
        let why = async || {
            (server.counter("spans_dropped_total", "why=\"collector\"").await > 0.0).then_some(())
        };
        until("spans are dropped", PATIENCE, why).await;
    }
    assert!(server.ready().await);
    world.must_hold(sale, &mut [&mut server]).await;
    server.signal("TERM");
    let status = server.wait(DEADLINE).await;
    assert!(status.success(), "{status}: {}", server.last_words());
    fs::read_to_string(server.log()).expect("a log")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_dead_or_mute_holds_up_nobody() {
    let (world, sale) = (World::new().await, Sale::new());
    for url in ["http://127.0.0.1:1".to_owned(), Collector::start(false).await.url()] {
        let settings = [
            ("HAPPENING__TRACING__OTLP_ENDPOINT", url.as_str()),
            ("HAPPENING__TRACING__TIMEOUT_MS", "500"),
        ];
        let log = sells(&world, &sale, &settings, true).await;
        let said = log.matches("the collector of traces takes no spans").count();
        assert_eq!(said, 1, "{log}");
    }
    // It is still asked when the stop begins.
    let mute = Collector::start(false).await;
    let settings = [
        ("HAPPENING__TRACING__OTLP_ENDPOINT", mute.url()),
        ("HAPPENING__TRACING__TIMEOUT_MS", "10000".to_owned()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    sells(&world, &sale, &settings, false).await;
    assert!(!mute.spans().is_empty(), "it was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_to_where_nobody_said() {
    let (world, sale) = (World::new().await, Sale::new());
    let collector = Collector::start(true).await;
    // What other programs go by is not ours.
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    sells(&world, &sale, &settings, false).await;
    assert_eq!(collector.heads(), Vec::<String>::new());
}
