//! Redis comes back, empty or with old memories, while people hold seats: nobody owns anything by
//! what it says, and everything can be held anew.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::{self, Reply};
use crate::process::until;
use crate::proxy::Catch;
use crate::sale::{Order, Sale, id_of};
use crate::server::Server;
use crate::world::{Person, World};

const EPOCH: &str = "SELECT epoch FROM redis_epoch";

async fn call(server: &Server, by: &Person, method: &str, path: &str, body: Value) -> Reply {
    let bearer = format!("Bearer {}", by.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let path = format!("/api/v1{path}");
    let reply = http::send(server.address, method, &path, &headers, &body.to_string()).await;
    reply.expect("an answer")
}

async fn hold(server: &Server, by: &Person, event: Uuid, seats: &[u32]) -> Reply {
    let body = json!({"seat_numbers": seats});
    call(server, by, "POST", &format!("/events/{event}/holds"), body).await
}

async fn book(server: &Server, by: &Person, event: Uuid, seats: &[u32], token: &Value) -> Reply {
    let body = json!({"event_id": event, "seat_numbers": seats, "hold_token": token});
    call(server, by, "POST", "/bookings", body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_of_another_redis_are_void() {
    let mut world = World::new().await;
    let (event, _) = world.numbered_event(20).await;
    let mut server = world.serve().await;
    let people = world.people(3).await;
    let (ana, ben) = (&people[0], &people[1]);
    for dump in [true, false] {
        let held = hold(&server, ana, event, &[1, 2]).await;
        assert_eq!(held.status, 201, "{}", held.body);
        let token = held.json()["hold_token"].clone();
        let epoch = world.count(EPOCH).await;
        let mut redis = world.redis.client().await;
        redis::cmd("SAVE").exec_async(&mut redis).await.unwrap();
        world.redis.kill();
        // While it is away PostgreSQL decides alone, and nothing can be held.
        assert_eq!(hold(&server, ben, event, &[5]).await.status, 503);
        if !dump {
            fs::remove_file(world.redis.dump()).unwrap();
        }
        world.redis.start_again().await;
        let risen = async || (world.count(EPOCH).await > epoch).then_some(());
        until("a new epoch", Duration::from_secs(10), risen).await;

        // What the dump says of the seats does not keep anybody from holding them.
        let other = async || {
            let held = hold(&server, ben, event, &[2, 3]).await;
            (held.status == 201).then(|| held.json()["hold_token"].clone())
        };
        let other = until("the seats can be held anew", Duration::from_secs(10), other).await;
        let refused = book(&server, ana, event, &[1, 2], &token).await;
        let code = refused.json()["code"].clone();
        assert_eq!((refused.status, code), (409, json!("hold_expired")), "{}", refused.body);
        let path = format!("/events/{event}/holds/{}", token.as_str().unwrap());
        assert_eq!(call(&server, ana, "PUT", &path, Value::Null).await.status, 409);
        let path = format!("/events/{event}/holds/{}", other.as_str().unwrap());
        assert_eq!(call(&server, ben, "DELETE", &path, Value::Null).await.status, 204);
    }
    // A process that is killed while a booking is on its way does not keep its seats from a retry.
    let held = hold(&server, ana, event, &[1, 2]).await;
    let token = held.json()["hold_token"].clone();
    server.kill();
    let server = world.serve().await;
    let booked = async || {
        let booked = book(&server, ana, event, &[1, 2], &token).await;
        (booked.status == 201).then_some(())
    };
    until("another process books what was held", Duration::from_secs(10), booked).await;
    world.redis_is_equal().await;
}

/// The answer to a commit is lost. Until somebody knows what became of it, its seat is nobody
/// else's to hold; and no longer than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_whose_booking_is_in_doubt_is_not_held_by_others() {
    let mut world = World::new().await;
    // Nothing else compares Redis with PostgreSQL meanwhile.
    world.set("HAPPENING__RECONCILER__TICK_MS", "60000");
    let (event, _) = world.numbered_event(20).await;
    let mut server = world.serve().await;
    let sale = Sale::new();
    sale.send_to(&[server.address]);
    let people = world.people(2).await;
    let (ana, ben) = (&people[0], &people[1]);
    for (seat, held) in [(3, false), (4, true), (5, false)] {
        let mut body = json!({"event_id": event, "seat_numbers": [seat], "waitlist": false});
        if held {
            let held = hold(&server, ana, event, &[seat]).await;
            body["hold_token"] = held.json()["hold_token"].clone();
        }
        let path = "/api/v1/bookings".to_owned();
        let order = Order { person: ana.clone(), path, body: body.to_string() };
        world.postgres.proxy.trap(b"C\0\0\0\x0bCOMMIT\0", 0, Catch::Cut);
        let index = sale.submit(order).await;
        world.postgres.proxy.caught(Duration::from_secs(10)).await;
        let reply = sale.attempt(index).answers[0].clone().expect("an answer");
        assert_eq!(reply.status, 503, "nobody knows what became of it: {}", reply.body);
        for _ in 0..60 {
            let other = hold(&server, ben, event, &[seat]).await;
            assert_eq!(other.status, 409, "it may be sold: {}", other.body);
        }
        sale.try_once(index).await;
        let booked = sale.attempt(index).booking().expect("the same key tells");
        let cancel = Order::cancel(ana.clone(), id_of(&booked));
        sale.expect(cancel, 200).await;
        let free = async || (hold(&server, ben, event, &[seat]).await.status == 201).then_some(());
        until("it can be held again", Duration::from_secs(5), free).await;
    }
    world.must_hold(&sale, &mut [&mut server]).await;
}
