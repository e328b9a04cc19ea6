//! A server with a browser before it, and the events that tests play with.

use std::net::SocketAddr;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::chrome::{Chrome, DESK};
use crate::harness::people::Organizer;
use crate::harness::{TestServer, Wishes};
use crate::window::Window;

/// Everything that a test of the page needs.
pub struct House {
    /// The server.
    pub server: TestServer,
    /// Who puts events on sale.
    pub organizer: Organizer,
    chrome: Chrome,
}

impl House {
    /// A server as usual.
    pub async fn open() -> Self {
        Self::with(Wishes::default()).await
    }

    /// A server that differs from the usual.
    pub async fn with(wishes: Wishes) -> Self {
        let (server, chrome) = tokio::join!(wishes.start(), Chrome::start());
        let organizer = server.organizer().await;
        Self { server, organizer, chrome }
    }

    /// Where browsers connect.
    pub fn address(&self) -> SocketAddr {
        self.server.client().address()
    }

    /// A window of a desk.
    pub async fn window(&self) -> Window {
        self.window_to(self.address(), DESK).await
    }

    /// A window of another size, or through a line.
    pub async fn window_to(&self, address: SocketAddr, size: (u32, u32)) -> Window {
        Window::new(self.chrome.open(size).await, address)
    }

    /// An event for so many, any seat as good as another.
    pub async fn general(&self, capacity: u32) -> Uuid {
        let event = json!({"title": "Open-Air Night", "capacity": capacity});
        self.server.event(&self.organizer, event).await
    }

    /// Two rows of five numbered seats: `Row A` (1 to 5, `Front`) and `Row B` (6 to 10, `Back`).
    pub async fn numbered(&self) -> Uuid {
        let row = |name: &str, first: u32, category: &str| -> Value {
            let seat = |index: u32| {
                json!({"number": first + index,
                "label": (index + 1).to_string(), "x": index * 10, "y": first * 2,
                "category": category})
            };
            json!({"name": name, "seats": (0..5).map(seat).collect::<Vec<_>>()})
        };
        let rows = [row("A", 1, "Front"), row("B", 6, "Back")];
        let event = json!({"title": "Chamber Concert", "capacity": 10, "seating": "numbered",
            "seat_map": {"sections": [{"name": "Hall", "rows": rows}]}});
        self.server.event(&self.organizer, event).await
    }

    /// The end of a test: the windows close, the truth is checked.
    pub async fn close(self, windows: impl IntoIterator<Item = Window>) {
        for window in windows {
            window.close().await;
        }
        drop(self.chrome);
        self.server.finish().await;
    }
}
