//! Booking, cancelling, waiting, being promoted.

use serde_json::json;

use crate::harness::TestServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seats_are_sold_until_there_are_none() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let event = server.event(&organizer, json!({"capacity": 3})).await;
    let people = server.people(3).await;
    let first = server.book(&people[0], event, 2).await.expect(201);
    assert_eq!(first.body["status"], "confirmed");
    let second = server.book(&people[1], event, 2).await.expect(201);
    assert_eq!(second.body["status"], "waitlisted");
    server.finish().await;
}
