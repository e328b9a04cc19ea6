//! The least HTTP client that will do: one request a connection, so that what happens to one
//! connection happens to one request.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longer than the server's own patience: what is not answered by then is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, or why there is none: the fate of the request is unknown then.
pub type Result = std::result::Result<Reply, String>;

/// What was answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
    /// Whether it was answered before (`Idempotency-Replayed`).
    pub replayed: bool,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    pub took: Duration,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result {
    let begun = Instant::now();
    match tokio::time::timeout(PATIENCE, exchange(address, method, path, headers, body)).await {
        Ok(Ok(reply)) => Ok(Reply { took: begun.elapsed(), ..reply }),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::result::Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .header("connection", "close");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    Ok(Reply {
        status: head.status.as_u16(),
        body: String::from_utf8_lossy(&body).into_owned(),
        replayed: header("idempotency-replayed") == Some("true"),
        retry_after: header("retry-after").and_then(|seconds| seconds.parse().ok()),
        took: Duration::ZERO,
    })
}
