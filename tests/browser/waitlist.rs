//! Waiting in line, and getting seats while the page is open.

use serde_json::Value;

use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_why_and_is_promoted_before_their_eyes() {
    let house = House::open().await;
    let event = house.general(4).await;
    let ben = house.server.person().await;
    let booked = house.server.book(&ben, event, 4).await.expect(201).body;

    let ana = house.window().await;
    ana.visit(&format!("/events/{event}")).await;
    ana.sign_up("Ana").await;
    ana.read("#panel", "Sold out").await;
    ana.click("#wait").await;
    ana.read("#outcome", "on the waitlist").await;
    ana.read("#own .standing", "#1").await;
    ana.read("#own .standing-reason", "2 missing").await;

    house.server.cancel(&ben, &booked["id"], Value::Null).await.expect(200);
    ana.read("#own .chip", "Confirmed").await;
    ana.text_that("#unread", "counts the news", |unread| !unread.is_empty()).await;
    ana.click("#inbox").await;
    ana.read("dialog .inbox", "You are in: Open-Air Night").await;
    ana.gone("#unread").await;
    house.close([ana]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_party_keeps_its_place_and_may_leave() {
    let house = House::open().await;
    let event = house.general(2).await;
    let ben = house.server.person().await;
    house.server.book(&ben, event, 2).await.expect(201);
    let ana = house.window().await;
    ana.visit(&format!("/events/{event}")).await;
    ana.sign_up("Ana").await;
    ana.click("#wait").await;
    ana.click("#own [aria-expanded]").await;
    ana.click("#own .part .button-danger").await;
    ana.read("#own .booking-seats", "1 seat").await;
    ana.read("#own .standing-reason", "1 missing").await;
    ana.click("#own .actions .button:last-child").await;
    ana.click("dialog .button-danger").await;
    ana.gone("#own").await;
    house.close([ana]).await;
}
