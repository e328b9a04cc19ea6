//! A small HTTP client: connections are kept and used again, every answer is remembered, so that
//! it can be compared with what the API's document promises.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::database::drive;

/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Calls one server. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    seen: Mutex<BTreeSet<Seen>>,
}

/// An answer that was given: method, path without query, status, content type.
pub type Seen = (String, String, u16, String);

impl Client {
    /// Calls the server there.
    pub fn new(address: SocketAddr) -> Self {
        Self(Arc::new(Inner { address, idle: Mutex::default(), seen: Mutex::default() }))
    }

    /// A call of the API: `/api/v1` is put before `path`.
    pub fn call(&self, method: &str, path: &str) -> Ask {
        self.root(method, &format!("/api/v1{path}"))
    }

    /// A call of anything else.
    pub fn root(&self, method: &str, path: &str) -> Ask {
        let (client, method, path) = (self.clone(), method.to_owned(), path.to_owned());
        Ask { client, method, path, headers: Vec::new(), body: Bytes::new() }
    }

    /// Whom it calls.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// All that was answered so far.
    pub fn seen(&self) -> BTreeSet<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    async fn connection(&self) -> std::io::Result<SendRequest<Full<Bytes>>> {
        loop {
            let kept = self.0.idle.lock().unwrap().pop();
            let Some(mut kept) = kept else { break };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(self.0.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        drive(async move {
            connection.await.ok();
        });
        Ok(sender)
    }

    async fn exchange(&self, ask: Ask) -> std::io::Result<Reply> {
        let mut sender = self.connection().await?;
        let method = Method::from_bytes(ask.method.as_bytes()).expect("a method");
        let mut request = Request::builder()
            .method(method)
            .uri(&ask.path)
            .header("host", self.0.address.to_string());
        for (name, value) in &ask.headers {
            request = request.header(name.as_str(), value.as_bytes());
        }
        let request = request.body(Full::new(ask.body)).expect("a request");
        let response = sender.send_request(request).await.map_err(std::io::Error::other)?;
        let status = response.status().as_u16();
        let headers: HashMap<String, String> = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let collected = response.into_body().collect().await.map_err(std::io::Error::other)?;
        let text = String::from_utf8_lossy(&collected.to_bytes()).into_owned();
        self.0.idle.lock().unwrap().push(sender);
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let media = headers.get("content-type").cloned().unwrap_or_default();
        let path = ask.path.split('?').next().unwrap_or_default().to_owned();
        self.0.seen.lock().unwrap().insert((ask.method, path, status, media));
        Ok(Reply { status, headers, text, body })
    }
}

impl AsRef<Client> for Client {
    fn as_ref(&self) -> &Client {
        self
    }
}

/// A request in the making.
pub struct Ask {
    client: Client,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Ask {
    /// With an access token or an API key.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With an `Idempotency-Key`.
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// With another header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a JSON body.
    pub fn json(self, body: Value) -> Self {
        self.raw(body.to_string())
    }

    /// With a body that calls itself JSON.
    pub fn raw(self, body: impl Into<Bytes>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// With a body, and no word of what it is.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(self) -> Reply {
        let what = format!("{} {}", self.method, self.path);
        self.attempt().await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Sends it to a server that may die meanwhile.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn attempt(self) -> std::io::Result<Reply> {
        let client = self.client.clone();
        timeout(PATIENCE, client.exchange(self)).await.map_err(std::io::Error::from)?
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub text: String,
    /// The same as JSON; null if it is none.
    pub body: Value,
}

impl Reply {
    /// A text field of the body.
    #[track_caller]
    pub fn str(&self, field: &str) -> String {
        let found = self.body[field].as_str();
        found.unwrap_or_else(|| panic!("{field} in {}", self.text)).to_owned()
    }

    /// A header.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.get(name);
        found.unwrap_or_else(|| panic!("{name} in {:?}", self.headers))
    }

    /// The items of a page.
    #[track_caller]
    pub fn items(&self) -> &Vec<Value> {
        self.body["items"].as_array().unwrap_or_else(|| panic!("items in {}", self.text))
    }

    /// It must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// It must be a problem with this status and code, in the documented shape.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let said = (self.status, self.body["code"].as_str().unwrap_or_default());
        assert_eq!(said, (status, code), "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["type"], format!("/problems/{code}"));
        assert_eq!(self.body["status"], status);
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
        self
    }

    /// It must be a 422 that points at these fields, whatever their order.
    #[track_caller]
    pub fn invalid(self, pointers: &[&str]) -> Self {
        let reply = self.refused(422, "invalid");
        let mut named: Vec<&str> = reply.body["errors"]
            .as_array()
            .unwrap_or_else(|| panic!("errors in {}", reply.text))
            .iter()
            .map(|error| error["pointer"].as_str().expect("a pointer"))
            .collect();
        named.sort_unstable();
        named.dedup();
        let mut wanted = pointers.to_vec();
        wanted.sort_unstable();
        assert_eq!(named, wanted, "{}", reply.text);
        reply
    }
}
