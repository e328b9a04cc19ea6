//! What others do is seen as it happens.

use crate::chrome::{DESK, PHONE};
use crate::harness::Wishes;
use crate::house::House;
use crate::line::Line;

#[tokio::test(flavor = "multi_thread")]
async fn what_one_books_the_other_sees_taken() {
    let house = House::open().await;
    let event = house.numbered().await;
    let path = format!("/events/{event}");
    let (ana, ben) = tokio::join!(house.window(), house.window());
    tokio::join!(ana.visit(&path), ben.visit(&path));
    ben.seat(3, "free").await;
    ana.sign_up("Ana").await;
    ana.pick(3).await;
    ana.pick(4).await;
    ana.read("#book", "Book 2 seats").await;
    ana.click("#book").await;
    ana.seat(3, "booked").await;
    // Ben is nobody yet: he watches all the same.
    ben.seat(3, "taken").await;
    ben.read("#stock", "8 of 10 seats free").await;
    house.close([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_line_is_told_and_what_was_missed_is_made_up_for() {
    let house = House::open().await;
    let event = house.numbered().await;
    let line = Line::to(house.address()).await;
    let ana = house.window_to(line.address(), DESK).await;
    ana.visit(&format!("/events/{event}")).await;
    ana.sign_up("Ana").await;
    ana.seat(3, "free").await;
    line.cut();
    ana.read("#banner", "No connection").await;
    let ben = house.server.person().await;
    house.server.take(&ben, event, &[3]).await.expect(201);
    line.mend();
    ana.seat(3, "taken").await;
    ana.gone("#banner").await;
    house.close([ana]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_see_each_others_holds_and_one_books() {
    let house = House::open().await;
    let path = format!("/events/{}", house.numbered().await);
    let (ana, ben) = tokio::join!(house.window(), house.window_to(house.address(), PHONE));
    tokio::join!(ana.visit(&path), ben.visit(&path));
    tokio::join!(ana.sign_up("Ana"), ben.sign_up("Ben"));
    ana.pick(3).await;
    ana.pick(4).await;
    ana.see("#clock").await;
    ben.pick(8).await;
    tokio::join!(ana.seat(8, "held"), ben.seat(3, "held"), ben.seat(4, "held"));
    ana.read("#stock", "7 of 10 seats free").await;
    // What somebody else holds cannot be had, and the page says so.
    ben.pick(3).await;
    ben.read("#notes", "held by somebody else").await;
    ana.click("#book").await;
    ana.read("#outcome", "Row A, seats 3 and 4 are yours").await;
    tokio::join!(ana.seat(3, "booked"), ben.seat(3, "taken"), ben.seat(8, "mine"));
    // Ben changes his mind: Ana sees that too.
    ben.click("#release").await;
    tokio::join!(ana.seat(8, "free"), ben.seat(8, "free"));
    ana.read("#stock", "8 of 10 seats free").await;
    house.close([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_not_used_ends_and_everybody_sees_it() {
    let brief = Wishes::default().set("HAPPENING__HOLDS__TTL_MS", "4000");
    let house = House::with(brief).await;
    let path = format!("/events/{}", house.numbered().await);
    let (ana, ben) = tokio::join!(house.window(), house.window());
    tokio::join!(ana.visit(&path), ben.visit(&path));
    tokio::join!(ana.sign_up("Ana"), ben.sign_up("Ben"));
    ana.pick(3).await;
    ben.seat(3, "held").await;
    tokio::join!(ana.seat(3, "free"), ben.seat(3, "free"));
    ana.read("#notes", "is over").await;
    ana.read("#panel", "Choose your seats").await;
    ben.pick(3).await;
    ben.seat(3, "mine").await;
    ben.click("#book").await;
    ana.seat(3, "taken").await;
    house.close([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_has_their_seats_still() {
    let house = House::open().await;
    let path = format!("/events/{}", house.numbered().await);
    let line = Line::to(house.address()).await;
    let (ana, ben) = tokio::join!(house.window_to(line.address(), DESK), house.window());
    tokio::join!(ana.visit(&path), ben.visit(&path));
    tokio::join!(ana.sign_up("Ana"), ben.sign_up("Ben"));
    ana.pick(3).await;
    ana.see("#clock").await;
    ben.seat(3, "held").await;
    line.cut();
    ana.see("#banner").await;
    line.mend();
    ana.gone("#banner").await;
    tokio::join!(ana.seat(3, "mine"), ben.seat(3, "held"));
    // A page that is loaded again is the same person at the same counter.
    ana.reload().await;
    tokio::join!(ana.seat(3, "mine"), ben.seat(3, "held"));
    ana.click("#renew").await;
    ana.click("#book").await;
    ana.read("#outcome", "Row A, seat 3 is yours").await;
    ben.seat(3, "taken").await;
    house.close([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_seats_are_held_at_a_click() {
    let house = House::open().await;
    let path = format!("/events/{}", house.numbered().await);
    let (ana, ben) = tokio::join!(house.window(), house.window());
    tokio::join!(ana.visit(&path), ben.visit(&path));
    ana.sign_up("Ana").await;
    ana.click("#best-category option[value='Back']").await;
    ana.click("#best").await;
    ana.see("#clock").await;
    ana.read("#book", "Book 2 seats").await;
    ana.see(".seat-mine[data-shade='1']").await;
    ben.see(".seat-held[data-shade='1']").await;
    ana.click("#book").await;
    ana.read("#outcome", "Row B, seats").await;
    ben.see(".seat-taken[data-shade='1']").await;
    house.close([ana, ben]).await;
}
