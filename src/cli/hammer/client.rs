//! The cheapest HTTP/1.1 client that is still a correct one. The load generator shares its cores
//! with the server, PostgreSQL, Redis and the broker, so every microsecond it takes per request is
//! taken from what it measures: this one writes prepared bytes, reads into one buffer and parses
//! nothing but the head (measured: 6.7 µs a request against 10.2 µs with a general client).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one answer may take: more than the server gives itself (`booking.answer_timeout_ms`).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest answer accepted, in bytes.
const ANSWER_MAX: usize = 8 << 20;
/// The most header lines accepted.
const HEADERS_MAX: usize = 64;
/// Where requests go below the server's root.
const BASE_PATH: &str = "/api/v1";

/// The instance to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, as it is connected to and as the `Host` header says.
    authority: String,
}

impl Target {
    /// Understands `http://host[:port]`.
    ///
    /// # Errors
    /// Says what is wrong with the address.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("--url must start with http:// (point it at the server itself, inside of TLS)");
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        if !path.is_empty() && format!("/{path}") != BASE_PATH {
            bail!("--url must be the server's root, without a path: http://{authority}");
        }
        let bare = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if authority.is_empty() || !authority.chars().all(plain) {
            bail!("--url has no usable host: {url}");
        }
        match bare.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_err() => {
                bail!("--url has a bad port: {port}")
            }
            Some(_) => Ok(Self { authority: authority.to_owned() }),
            None => Ok(Self { authority: format!("{authority}:80") }),
        }
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// The lines of a request that do not change from one to the next of the same caller. What
    /// `Target::finish` appends ends the head.
    pub fn head(&self, method: &str, path: &str, token: Option<&str>) -> Vec<u8> {
        self.root_head(method, &format!("{BASE_PATH}{path}"), token)
    }

    /// The same for what stands at the server's root.
    pub fn root_head(&self, method: &str, path: &str, token: Option<&str>) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.authority);
        if let Some(token) = token {
            head.push_str("authorization: Bearer ");
            head.push_str(token);
            head.push_str("\r\n");
        }
        head.into_bytes()
    }
}

/// Completes a request that starts with what [`Target::head`] made.
pub fn finish(request: &mut Vec<u8>, key: Option<&str>, body: Option<&str>) {
    if let Some(key) = key {
        request.extend_from_slice(b"idempotency-key: ");
        request.extend_from_slice(key.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    if let Some(body) = body {
        request.extend_from_slice(b"content-type: application/json\r\ncontent-length: ");
        request.extend_from_slice(body.len().to_string().as_bytes());
        request.extend_from_slice(b"\r\n\r\n");
        request.extend_from_slice(body.as_bytes());
    } else {
        request.extend_from_slice(b"content-length: 0\r\n\r\n");
    }
}

/// Why there was no answer. Whether the request had an effect is then unknown.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Nobody listens there, or the kernel gave up.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// Something answered, but not in HTTP/1.1 as we understand it.
    #[error("not an HTTP/1.1 answer: {0}")]
    Malformed(&'static str),
}

impl Trouble {
    /// A short name to count by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "cannot connect",
            Self::Broken(_) => "connection broke",
            Self::Timeout => "no answer in time",
            Self::Malformed(_) => "malformed answer",
        }
    }
}

/// An answer; its body is good until the next exchange.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// What `Retry-After` says, in seconds.
    pub retry_after: Option<u64>,
    /// The decoded body.
    pub body: &'a [u8],
}

/// What the head of an answer tells.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    status: u16,
    /// Where the body starts in the buffer.
    body_at: usize,
    length: Option<usize>,
    chunked: bool,
    closes: bool,
    retry_after: Option<u64>,
}

/// One keep-alive connection, made when first needed and again after it broke.
#[derive(Debug)]
pub struct Connection {
    target: Arc<Target>,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    body: Vec<u8>,
}

impl Connection {
    /// A connection to `target`; nothing is sent yet.
    pub fn new(target: Arc<Target>) -> Self {
        Self { target, stream: None, buffer: Vec::with_capacity(4096), body: Vec::new() }
    }

    /// Whom it asks.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request and waits for its answer. Never sends it twice: whether that is safe is
    /// for the caller to know.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>, Trouble> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let head = timeout(ANSWER_TIMEOUT, self.converse(&mut stream, request))
            .await
            .map_err(|_| Trouble::Timeout)??;
        if !head.closes {
            self.stream = Some(stream);
        }
        let body = if head.chunked {
            self.body.as_slice()
        } else {
            let end = head.body_at.saturating_add(head.length.unwrap_or_default());
            self.buffer.get(head.body_at..end).unwrap_or_default()
        };
        Ok(Answer { status: head.status, retry_after: head.retry_after, body })
    }

    async fn connect(&self) -> Result<TcpStream, Trouble> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.target.authority))
            .await
            .map_err(|_| Trouble::Timeout)?
            .map_err(Trouble::Connect)?;
        stream.set_nodelay(true).map_err(Trouble::Connect)?;
        Ok(stream)
    }

    async fn converse(&mut self, stream: &mut TcpStream, request: &[u8]) -> Result<Head, Trouble> {
        stream.write_all(request).await.map_err(Trouble::Broken)?;
        self.buffer.clear();
        let head = loop {
            self.fill(stream).await?;
            if let Some(head) = read_head(&self.buffer)? {
                break head;
            }
        };
        if head.chunked {
            loop {
                let raw = self.buffer.get(head.body_at..).unwrap_or_default();
                if unchunk(raw, &mut self.body)? {
                    return Ok(head);
                }
                self.fill(stream).await?;
            }
        }
        let end = head.body_at.saturating_add(head.length.unwrap_or_default());
        while self.buffer.len() < end {
            self.fill(stream).await?;
        }
        Ok(head)
    }

    async fn fill(&mut self, stream: &mut TcpStream) -> Result<(), Trouble> {
        if self.buffer.len() > ANSWER_MAX {
            return Err(Trouble::Malformed("larger than 8 MiB"));
        }
        match stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Trouble::Broken(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(Trouble::Broken(error)),
        }
    }
}

/// The head of the final answer, once all of it is there. Interim answers (1xx) are not asked for.
fn read_head(raw: &[u8]) -> Result<Option<Head>, Trouble> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut lines);
    let body_at = match response.parse(raw) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Trouble::Malformed("the head cannot be read")),
    };
    let status = response.code.unwrap_or_default();
    let mut head = Head { status, body_at, closes: response.version == Some(0), ..Head::default() };
    for line in response.headers.iter() {
        let value = std::str::from_utf8(line.value).unwrap_or_default().trim();
        if line.name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().map_err(|_| Trouble::Malformed("bad content-length"))?;
            if length > ANSWER_MAX {
                return Err(Trouble::Malformed("larger than 8 MiB"));
            }
            head.length = Some(length);
        } else if line.name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value.eq_ignore_ascii_case("chunked");
        } else if line.name.eq_ignore_ascii_case("connection") {
            head.closes |= value.eq_ignore_ascii_case("close");
        } else if line.name.eq_ignore_ascii_case("retry-after") {
            head.retry_after = value.parse().ok();
        }
    }
    let bodiless = status == 204 || status == 304;
    if !bodiless && !head.chunked && head.length.is_none() {
        return Err(Trouble::Malformed("no content-length"));
    }
    Ok(Some(head))
}

/// Decodes a chunked body into `body`; whether all of it was there.
fn unchunk(mut raw: &[u8], body: &mut Vec<u8>) -> Result<bool, Trouble> {
    const BAD: Trouble = Trouble::Malformed("bad chunk");
    body.clear();
    loop {
        let (rest, size) = match httparse::parse_chunk_size(raw) {
            Ok(httparse::Status::Complete((at, size))) => (raw.get(at..).ok_or(BAD)?, size),
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(_) => return Err(BAD),
        };
        let size = usize::try_from(size).map_err(|_| BAD)?;
        let Some((chunk, after)) = rest.split_at_checked(size) else { return Ok(false) };
        body.extend_from_slice(chunk);
        let Some(after) = after.strip_prefix(b"\r\n") else {
            return if after.len() < 2 { Ok(false) } else { Err(BAD) };
        };
        if size == 0 {
            return Ok(true);
        }
        raw = after;
    }
}

/// The body as JSON, with the start of it in the error if it is none.
///
/// # Errors
/// When it is not JSON of that shape.
pub fn json<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).with_context(|| {
        let start = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
        format!("not the JSON that was expected: {start}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_roots_over_plain_http() {
        assert_eq!(Target::parse("http://127.0.0.1:2208").unwrap().url(), "http://127.0.0.1:2208");
        assert_eq!(Target::parse("http://[::1]:9/").unwrap().url(), "http://[::1]:9");
        assert_eq!(Target::parse("http://me/api/v1").unwrap().url(), "http://me:80");
        for bad in ["https://a", "a:1", "http://", "http://a:b", "http://a/x", "http://a b"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn heads_are_read_once_they_are_complete() {
        let raw = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nRetry-After: 3\r\n\r\n{}";
        assert!(read_head(&raw[..20]).unwrap().is_none());
        let head = read_head(raw).unwrap().unwrap();
        assert_eq!((head.status, head.length, head.retry_after), (201, Some(2), Some(3)));
        assert_eq!(&raw[head.body_at..], b"{}");
        assert!(read_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(read_head(b"SSH-2.0-x\r\n").is_err());
    }

    #[test]
    fn chunks_are_joined_once_all_are_there() {
        let raw = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        let mut body = Vec::new();
        for cut in 0..raw.len() {
            assert!(!unchunk(&raw[..cut], &mut body).unwrap(), "cut at {cut}");
        }
        assert!(unchunk(raw, &mut body).unwrap());
        assert_eq!(body, b"abcde");
        assert!(unchunk(b"3\r\nabcde\r\n", &mut body).is_err());
    }
}
