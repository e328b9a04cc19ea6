//! A WebSocket client that costs next to nothing: thousands of them share the machine with the
//! server that they measure. It reads whole text frames in place and answers pings,
//! those of Socket.IO too.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a handshake, or an answer that is waited for, may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The largest frame or head that is accepted.
const FRAME_MAX: usize = 4 << 20;
/// Space that a frame is read into, at first.
const SPACE: usize = 1024;
/// Clients have to mask what they send (RFC 6455 §5.3). Against proxies that are confused the mask
/// has to be random; there are none on loopback.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How a Socket.IO server asks for a sign of life, and gets it. Nothing else that is said looks
/// like it.
const SIGN_WANTED: &[u8] = b"2";
const SIGN: &[u8] = b"3";

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of the buffer has been handed out.
    used: usize,
}

/// Where a frame is in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    from: usize,
    to: usize,
}

impl Wire {
    /// Connects, and asks for a WebSocket.
    ///
    /// # Errors
    /// When nobody listens there, or says no.
    pub async fn open(port: u16, path: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let bearer =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{bearer}\r\n"
        );
        let opened = timeout(PATIENCE, async {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            let mut wire = Self { stream, buffer: Vec::with_capacity(SPACE), used: 0 };
            wire.stream.write_all(request.as_bytes()).await?;
            wire.head().await?;
            anyhow::Ok(wire)
        });
        opened.await.context("no handshake in time")?
    }

    async fn head(&mut self) -> anyhow::Result<()> {
        loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.buffer.get(..end).unwrap_or_default();
                let head = String::from_utf8_lossy(head).into_owned();
                ensure!(head.starts_with("HTTP/1.1 101 "), "no WebSocket: {head}");
                self.used = end + 4;
                return Ok(());
            }
            self.more().await?;
        }
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.send(TEXT, text.as_bytes()).await
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(&masked(kind, payload)?).await?)
    }

    /// The next text, good until the one after it is asked for. Nothing is lost when it is given
    /// up while it waits.
    ///
    /// # Errors
    /// When the connection was closed or broke, or the server does not keep to the protocol.
    pub async fn hear(&mut self) -> anyhow::Result<&[u8]> {
        loop {
            let Some(frame) = next_frame(&self.buffer, self.used)? else {
                self.more().await?;
                continue;
            };
            self.used = frame.to;
            let payload = frame.from..frame.to;
            match frame.kind {
                TEXT if self.buffer.get(payload.clone()) == Some(SIGN_WANTED) => {
                    self.send(TEXT, SIGN).await?;
                }
                TEXT => return Ok(self.buffer.get(payload).unwrap_or_default()),
                PING => {
                    let echo = self.buffer.get(payload).unwrap_or_default().to_vec();
                    self.send(PONG, &echo).await?;
                }
                PONG => {}
                CLOSE => {
                    let why = self.buffer.get(payload.start + 2..payload.end);
                    bail!("closed: {}", String::from_utf8_lossy(why.unwrap_or_default()));
                }
                kind => bail!("a frame of kind {kind}"),
            }
        }
    }

    /// The next text that fits; the others are passed over.
    ///
    /// # Errors
    /// As [`Self::hear`]; when it does not come.
    pub async fn await_text(&mut self, fits: impl Fn(&[u8]) -> bool) -> anyhow::Result<()> {
        let found = timeout(PATIENCE, async {
            loop {
                if fits(self.hear().await?) {
                    return anyhow::Ok(());
                }
            }
        });
        found.await.context("no answer in time")?
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        // What was handed out makes room for what comes.
        self.buffer.drain(..self.used);
        self.used = 0;
        ensure!(self.buffer.len() < FRAME_MAX, "a frame is too large");
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server hung up");
        }
        Ok(())
    }
}

fn masked(kind: u8, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.push(0x80 | kind);
    let length = u16::try_from(payload.len()).context("too much to say")?;
    match u8::try_from(length) {
        Ok(short) if short < 126 => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 0x7e);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(frame)
}

/// The frame that begins at `at`, if all of it is there.
fn next_frame(buffer: &[u8], at: usize) -> anyhow::Result<Option<Frame>> {
    let rest = buffer.get(at..).unwrap_or_default();
    let [first, second, after @ ..] = rest else { return Ok(None) };
    ensure!(first & 0xf0 == 0x80 && second & 0x80 == 0, "a frame in parts, packed or masked");
    let (size, length) = match second {
        126 => match after.first_chunk() {
            Some(length) => (4, usize::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match after.first_chunk() {
            Some(length) => (10, usize::try_from(u64::from_be_bytes(*length))?),
            None => return Ok(None),
        },
        short => (2, usize::from(*short)),
    };
    ensure!(length <= FRAME_MAX, "a frame of {length} bytes");
    let from = at + size;
    let to = from + length;
    Ok((buffer.len() >= to).then_some(Frame { kind: first & 0x0f, from, to }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_when_all_of_them_is_there() {
        let mut bytes = vec![9, 0x81, 2, b'h', b'i', 0x89, 0];
        let hi = Frame { kind: TEXT, from: 3, to: 5 };
        assert_eq!(next_frame(&bytes, 1).unwrap(), Some(hi));
        assert_eq!(next_frame(&bytes, 5).unwrap(), Some(Frame { kind: PING, from: 7, to: 7 }));
        assert_eq!(next_frame(&bytes, 7).unwrap(), None);
        bytes.truncate(4);
        assert_eq!(next_frame(&bytes, 1).unwrap(), None);
        let long = [&[0x81, 126, 1, 0][..], &[b'x'; 256]].concat();
        assert_eq!(next_frame(&long, 0).unwrap(), Some(Frame { kind: TEXT, from: 4, to: 260 }));
        assert_eq!(next_frame(&long[..3], 0).unwrap(), None);
        assert!(next_frame(&[0x81, 0x80], 0).is_err());
        assert!(next_frame(&[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0], 0).is_err());
    }

    #[test]
    fn what_is_said_is_masked() {
        let frame = masked(TEXT, b"hello").unwrap();
        assert_eq!(&frame[..6], [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&frame[6..], [0x5f, 0x9f, 0x4d, 0x51, 0x58]);
        assert_eq!(masked(TEXT, &[0; 300]).unwrap().len(), 308);
    }
}
