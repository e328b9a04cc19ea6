//! What somebody does in front of the page, and what they see: everything waits, with a deadline,
//! for what it is about.

use std::net::SocketAddr;
use std::time::Duration;

use thirtyfour::{By, Key, WebDriver, WebElement};

use crate::support::eventually;

/// How long the page may take for anything.
const SOON: Duration = Duration::from_secs(20);

/// One browser window.
pub struct Window {
    driver: WebDriver,
    server: SocketAddr,
}

impl Window {
    /// A window onto a server, or onto what stands before it.
    pub fn new(driver: WebDriver, server: SocketAddr) -> Self {
        Self { driver, server }
    }

    /// Opens a page.
    pub async fn visit(&self, path: &str) {
        self.driver.goto(format!("http://{}{path}", self.server)).await.expect("the page opens");
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.driver.refresh().await.expect("the page loads again");
    }

    /// An element that is there and can be seen.
    pub async fn see(&self, css: &str) -> WebElement {
        eventually(SOON, || async {
            let found = self.driver.find(By::Css(css)).await;
            let found = found.map_err(|error| format!("{css}: {error}"))?;
            match found.is_displayed().await {
                Ok(true) => Ok(found),
                other => Err(format!("{css} is not to be seen: {other:?}")),
            }
        })
        .await
    }

    /// Waits until the text of an element contains this.
    pub async fn read(&self, css: &str, wanted: &str) {
        self.text_that(css, &format!("says {wanted:?}"), |text| text.contains(wanted)).await;
    }

    /// Waits until the text of an element is as wanted.
    pub async fn text_that(&self, css: &str, what: &str, fits: impl Fn(&str) -> bool) -> String {
        eventually(SOON, || async {
            let found = self.driver.find(By::Css(css)).await;
            let text = match found {
                Ok(found) => found.text().await.map_err(|error| error.to_string())?,
                Err(error) => return Err(format!("{css} {what}: {error}")),
            };
            if fits(&text) { Ok(text) } else { Err(format!("{css} {what}, but: {text:?}")) }
        })
        .await
    }

    /// Waits until nothing like this can be seen.
    pub async fn gone(&self, css: &str) {
        eventually(SOON, || async {
            let found = self.driver.find(By::Css(css)).await;
            let Ok(found) = found else { return Ok(()) };
            match found.is_displayed().await {
                Ok(true) => Err(format!("{css} is still there")),
                _ => Ok(()),
            }
        })
        .await;
    }

    /// Clicks, once it is there, can be seen and is not busy.
    pub async fn click(&self, css: &str) {
        eventually(SOON, || async {
            let found = self.driver.find(By::Css(css)).await.map_err(|e| format!("{css}: {e}"))?;
            if !found.is_enabled().await.unwrap_or(false) {
                return Err(format!("{css} is not enabled"));
            }
            found.click().await.map_err(|error| format!("{css}: {error}"))
        })
        .await;
    }

    /// Types into a field.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.see(css).await;
        field.clear().await.expect("it is a field");
        field.send_keys(text).await.expect("it takes keys");
    }

    /// Presses keys where the focus is.
    pub async fn press(&self, keys: &[Key]) {
        for key in keys {
            let focused = self.driver.active_element().await.expect("something has the focus");
            focused.send_keys(key.clone()).await.expect("it takes keys");
        }
    }

    /// Types where the focus is.
    pub async fn type_here(&self, text: &str) {
        let focused = self.driver.active_element().await.expect("something has the focus");
        focused.send_keys(text).await.expect("it takes keys");
    }

    /// Goes on with Tab until the focus is on this.
    pub async fn tab_to(&self, css: &str) {
        for _ in 0..60 {
            self.press(&[Key::Tab]).await;
            let script = "return document.activeElement.matches(arguments[0])";
            let there = self.driver.execute(script, vec![css.into()]).await.expect("a script");
            if there.json().as_bool() == Some(true) {
                return;
            }
        }
        panic!("{css} cannot be reached with Tab");
    }

    /// Waits until the seat looks like this: `free`, `held`, `taken`, `mine`, `booked`.
    pub async fn seat(&self, number: u32, state: &str) {
        self.see(&format!(".seat-{state}[data-seat='{number}']")).await;
    }

    /// Picks a seat on the map, scrolled to where one can see it: on a phone the box with what is
    /// chosen lies over the lower part of the page.
    pub async fn pick(&self, number: u32) {
        let seat = format!("[data-seat='{number}']");
        self.see(&seat).await;
        let script = "document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })";
        self.driver.execute(script, vec![seat.as_str().into()]).await.expect("a script");
        self.click(&seat).await;
    }

    /// Makes an account in the window that is open, or opens it first.
    pub async fn sign_up(&self, name: &str) {
        self.click("#sign-in").await;
        self.join_as(name).await;
    }

    /// Makes an account in the window that has opened.
    pub async fn join_as(&self, name: &str) {
        self.click("dialog .link-button").await;
        self.fill("#field-name", name).await;
        self.fill("#field-email", &format!("{name}@example.org").to_lowercase()).await;
        self.fill("#field-password", "correct horse").await;
        self.click("dialog form .button-primary").await;
        self.see("#my-bookings").await;
    }

    /// What the focused element is called, for ears.
    pub async fn focused_label(&self) -> String {
        let focused = self.driver.active_element().await.expect("something has the focus");
        focused.attr("aria-label").await.expect("an attribute").unwrap_or_default()
    }

    /// Closes it.
    pub async fn close(self) {
        self.driver.quit().await.expect("the window closes");
    }
}
