//! What others do is seen as it happens.

use crate::chrome::DESK;
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
