//! Everything can be done without a pointer.

use thirtyfour::Key;

use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn two_seats_are_booked_with_the_keyboard_alone() {
    let house = House::open().await;
    let event = house.numbered().await;
    let ana = house.window().await;
    ana.visit(&format!("/events/{event}")).await;
    ana.seat(1, "free").await;
    ana.tab_to("#sign-in").await;
    ana.press(&[Key::Enter]).await;
    ana.tab_to("dialog .link-button").await;
    ana.press(&[Key::Enter]).await;
    for text in ["Ana", "ana@example.org", "correct horse"] {
        ana.type_here(text).await;
        ana.press(&[Key::Tab]).await;
    }
    ana.press(&[Key::Enter]).await;
    ana.see("#my-bookings").await;
    // One stop for the whole map; within it arrows roam, in rows and between them.
    ana.tab_to(".seat").await;
    assert_eq!(ana.focused_label().await, "Row A, seat 1, free, Front");
    ana.press(&[Key::Right, Key::Right, Key::Down]).await;
    assert_eq!(ana.focused_label().await, "Row B, seat 3, free, Back");
    ana.type_here(" ").await;
    ana.seat(8, "mine").await;
    ana.press(&[Key::Right, Key::Enter]).await;
    ana.seat(9, "mine").await;
    assert_eq!(ana.focused_label().await, "Row B, seat 4, yours for now, Back");
    ana.tab_to("#book").await;
    ana.press(&[Key::Enter]).await;
    ana.read("#outcome", "Row B, seats 3 and 4 are yours").await;
    ana.seat(8, "booked").await;
    house.close([ana]).await;
}
