//! A throw-away server with one event, just enough of the contract for the load to meet it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::cli::hammer::verdict::{Ending, Standing};

/// The server, until dropped.
pub struct BoxOffice {
    pub url: String,
    state: Arc<Mutex<State>>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct State {
    capacity: u32,
    sold: u32,
    bookings: Vec<Standing>,
    answers: HashMap<String, String>,
    requests: u32,
    /// Of so many answers one is lost; 0: none.
    lose_every: u32,
}

impl BoxOffice {
    pub async fn open(capacity: u32, lose_every: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { capacity, lose_every, ..State::default() }));
        let mut serving = JoinSet::new();
        let shared = Arc::clone(&state);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state, _serving: serving }
    }

    /// An address where nobody listens.
    pub fn closed() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { url, state: Arc::default(), _serving: JoinSet::new() }
    }

    pub fn ending(&self) -> Ending {
        let state = self.state.lock().unwrap();
        let waiting = state.bookings.iter().filter(|one| one.is("waitlisted")).count();
        Ending {
            capacity: state.capacity,
            available: if waiting == 0 { state.capacity - state.sold } else { 0 },
            confirmed: state.sold,
            waiting: u32::try_from(waiting).unwrap(),
            max_bypass: None,
            bookings: state.bookings.clone(),
        }
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut buffer = Vec::new();
    loop {
        let (key, body) = loop {
            if let Some((key, body, length)) = parse(&buffer) {
                buffer.drain(..length);
                break (key, body);
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let answer = state.lock().unwrap().answer(key, &body);
        let Some(answer) = answer else { return };
        let head = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all((head + &answer).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The key, the body, and how long the request is.
fn parse(buffer: &[u8]) -> Option<(Option<String>, Value, usize)> {
    let mut lines = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut lines);
    let httparse::Status::Complete(head) = request.parse(buffer).unwrap() else { return None };
    let header = |name: &str| {
        let line = request.headers.iter().find(|line| line.name == name)?;
        Some(std::str::from_utf8(line.value).unwrap().to_owned())
    };
    let length = head + header("content-length").unwrap().parse::<usize>().unwrap();
    let body = buffer.get(head..length)?;
    Some((header("idempotency-key"), serde_json::from_slice(body).unwrap(), length))
}

impl State {
    fn answer(&mut self, key: Option<String>, body: &Value) -> Option<String> {
        self.requests += 1;
        let lost = self.lose_every > 0 && self.requests.is_multiple_of(self.lose_every);
        let known = key.as_ref().and_then(|key| self.answers.get(key)).cloned();
        let answer = known.unwrap_or_else(|| self.book(body));
        self.answers.extend(key.map(|key| (key, answer.clone())));
        (!lost).then_some(answer)
    }

    fn book(&mut self, body: &Value) -> String {
        let seats = u32::try_from(body["seats"].as_u64().unwrap()).unwrap();
        let queue = self.bookings.iter().filter(|one| one.is("waitlisted")).count();
        let confirmed = queue == 0 && self.sold + seats <= self.capacity;
        let number = (!confirmed).then(|| i64::try_from(queue).unwrap() + 1);
        self.sold += if confirmed { seats } else { 0 };
        let status = if confirmed { "confirmed" } else { "waitlisted" };
        let id = Uuid::from_u128(1000 + u128::try_from(self.bookings.len()).unwrap());
        self.bookings.push(Standing {
            id,
            status: status.to_owned(),
            seats,
            seat_numbers: None,
            waiting_number: number,
        });
        json!({"id": id, "status": status, "seats": seats, "waiting_number": number}).to_string()
    }
}
