//! Two processes watch while the broker is away: each says so by itself at once, and when the
//! broker is back the administrator is told once of the beginning and once of the end.

use std::time::Duration;

use crate::process::until;
use crate::sale::{Order, Sale};
use crate::world::World;

const PATIENCE: Duration = Duration::from_mins(1);
const QUICK: [(&str, &str); 4] = [
    ("HAPPENING__ALARMS__TICK_MS", "200"),
    ("HAPPENING__ALARMS__BACKLOG_SECONDS", "1"),
    ("HAPPENING__ALARMS__OPEN_AFTER_SECONDS", "1"),
    ("HAPPENING__ALARMS__CLOSE_AFTER_SECONDS", "2"),
];
/// Of the alarm about the mail's lane: rows, those that are open, and what was told of either turn.
const ALARMS: &str = "SELECT (SELECT count(*) FROM alarms WHERE subject = 'outbox.mail'),
    (SELECT count(*) FROM alarms WHERE subject = 'outbox.mail' AND closed_at IS NULL),
    (SELECT count(*) FROM notifications WHERE type = 'alarm_opened'
        AND data::text LIKE '%outbox.mail%'),
    (SELECT count(*) FROM notifications WHERE type = 'alarm_closed'
        AND data::text LIKE '%outbox.mail%')";

async fn alarms(world: &World) -> [i64; 4] {
    let rows = world.rows(ALARMS, &[]).await;
    [0, 1, 2, 3].map(|column| rows[0].get(column))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_hears_of_an_outage_when_it_can_be_told() {
    let mut world = World::with_rabbit().await;
    let (event, boss) = world.event(50).await;
    let promote = "UPDATE users SET role = 'admin' WHERE id = $1";
    world.sql().await.execute(promote, &[&boss.id]).await.unwrap();
    let (mut one, mut two) = (world.serve_with(&QUICK).await, world.serve_with(&QUICK).await);
    let sale = Sale::new();
    sale.send_to(&[one.address, two.address]);

    world.rabbit.as_mut().unwrap().kill();
    let buyer = world.people(1).await.remove(0);
    sale.expect(Order::book(buyer, event, 2, true), 201).await;
    for server in [&one, &two] {
        let seen = async || {
            (server.counter("alarms_open", "kind=\"backlog_old\"").await >= 1.0).then_some(())
        };
        until("each process sees it", PATIENCE, seen).await;
        assert!(server.last_words().contains("outbox.mail"), "{}", server.last_words());
    }
    let agreed = async || (alarms(&world).await[1] == 1).then_some(());
    until("they agree", PATIENCE, agreed).await;
    assert_eq!(alarms(&world).await, [1, 1, 0, 0]);

    world.rabbit.as_mut().unwrap().start_again().await;
    let over = async || (alarms(&world).await == [1, 0, 1, 1]).then_some(());
    until("the administrator has heard of both turns", PATIENCE, over).await;
    for server in [&one, &two] {
        let seen = async || {
            (server.counter("alarms_open", "kind=\"backlog_old\"").await < 0.5).then_some(())
        };
        until("it is over everywhere", PATIENCE, seen).await;
    }
    world.must_hold(&sale, &mut [&mut one, &mut two]).await;
    assert_eq!(alarms(&world).await, [1, 0, 1, 1]);
}
