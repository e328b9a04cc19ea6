//! Somebody who has never seen the page books.

use crate::chrome::PHONE;
use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_finds_an_event_signs_up_and_books_two_seats() {
    let house = House::open().await;
    house.general(10).await;
    let ana = house.window_to(house.address(), PHONE).await;
    ana.visit("/").await;
    ana.fill("#search", "open-air").await;
    ana.click(".event-card").await;
    ana.read("#stock", "10 of 10 seats free").await;
    ana.click("#book").await;
    ana.join_as("Ana").await;
    ana.read("#outcome", "Booked").await;
    ana.read("#stock", "8 of 10 seats free").await;
    ana.read("#own", "2 seats").await;
    assert_eq!(house.server.count("SELECT sum(seats) FROM bookings").await, 2);
    house.close([ana]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_at_its_field() {
    let house = House::open().await;
    let ana = house.window().await;
    ana.visit("/").await;
    ana.click("#sign-in").await;
    ana.click("dialog .link-button").await;
    ana.fill("#field-name", "Ana").await;
    ana.fill("#field-email", "nowhere").await;
    ana.fill("#field-password", "short").await;
    ana.click("dialog form .button-primary").await;
    ana.see("#field-email[aria-invalid='true']").await;
    ana.read("#field-email-error", "E-mail").await;
    ana.read("#field-password-error", "Password").await;
    ana.fill("#field-email", "ana@example.org").await;
    ana.fill("#field-password", "correct horse").await;
    ana.click("dialog form .button-primary").await;
    ana.see("#my-bookings").await;
    // Who was signed in is so in the next page, until they leave.
    ana.reload().await;
    ana.click(".menu summary").await;
    ana.click("#sign-out").await;
    ana.see("#sign-in").await;
    house.close([ana]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_given_back_and_then_the_rest() {
    let house = House::open().await;
    let event = house.general(10).await;
    let ana = house.window().await;
    ana.visit(&format!("/events/{event}")).await;
    ana.sign_up("Ana").await;
    ana.click("#panel [aria-label='One more']").await;
    ana.read("#book", "Book 3 seats").await;
    ana.click("#book").await;
    ana.read("#own .booking-seats", "3 seats").await;
    ana.click("#own [aria-expanded]").await;
    ana.click("#own .part .button-danger").await;
    ana.read("#own .booking-seats", "2 seats").await;
    ana.read("#stock", "8 of 10 seats free").await;
    ana.click("#own .actions .button:last-child").await;
    ana.click("dialog .button-danger").await;
    ana.gone("#own").await;
    ana.read("#stock", "10 of 10 seats free").await;
    ana.click("#my-bookings").await;
    ana.read("dialog .booking", "Cancelled").await;
    house.close([ana]).await;
}
