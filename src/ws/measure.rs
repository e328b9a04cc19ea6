//! Measures frames as their heads come in. The codec that reads them looks at the limit only once a
//! frame is there as a whole, and keeps what has come until then: without this, somebody who
//! announces a huge frame could fill our memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::dev;
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;

/// The longest head: two bytes, eight of length, four of mask.
const HEAD_MAX: usize = 14;

/// Where in a stream of frames we are (RFC 6455 §5.2).
#[derive(Debug, Default)]
struct Tape {
    head: [u8; HEAD_MAX],
    /// Bytes of the head that have come.
    got: usize,
    /// Bytes of the payload that are yet to come.
    left: u64,
}

impl Tape {
    /// Goes on over what has come; false when a frame announces more than `limit`.
    fn run(&mut self, mut bytes: &[u8], limit: u64) -> bool {
        loop {
            let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left = self.left.saturating_sub(u64::try_from(skipped).unwrap_or(u64::MAX));
            let Some((&byte, rest)) = bytes.get(skipped..).and_then(<[u8]>::split_first) else {
                return true;
            };
            bytes = rest;
            if let Some(place) = self.head.get_mut(self.got) {
                *place = byte;
            }
            self.got = self.got.saturating_add(1);
            if let Some(length) = self.length() {
                if length > limit {
                    return false;
                }
                (self.got, self.left) = (0, length);
            }
        }
    }

    /// The length that the head announces, once all of the head is there.
    fn length(&self) -> Option<u64> {
        let [_, second, rest @ ..] = self.head;
        if self.got < 2 {
            return None;
        }
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.got < 2 + extended + if masked { 4 } else { 0 } {
            return None;
        }
        let number = rest.iter().take(extended).fold(0, |n: u64, byte| n << 8 | u64::from(*byte));
        Some(if extended == 0 { u64::from(short) } else { number })
    }
}

struct Measured {
    payload: dev::Payload,
    tape: Tape,
    limit: u64,
}

impl Stream for Measured {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let next = ready!(Pin::new(&mut this.payload).poll_next(cx));
        Poll::Ready(match next {
            Some(Ok(bytes)) if !this.tape.run(&bytes, this.limit) => {
                Some(Err(PayloadError::Overflow))
            }
            next => next,
        })
    }
}

/// The same payload, which ends with [`PayloadError::Overflow`] where a frame is too large.
pub fn measured(payload: dev::Payload, limit: usize) -> dev::Payload {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let measured = Measured { payload, tape: Tape::default(), limit };
    dev::Payload::Stream { payload: Box::pin(measured) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of so many bytes, as clients and servers write it.
    fn frame(length: u64, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x81];
        match length {
            0..=125 => frame.push(mask | u8::try_from(length).unwrap()),
            126..=0xffff => {
                frame.push(mask | 0x7e);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 0x7f);
                frame.extend(length.to_be_bytes());
            }
        }
        if masked {
            frame.extend([0xff; 4]);
        }
        frame
    }

    proptest! {
        /// However frames are cut into chunks, exactly those that are too large are stopped.
        #[test]
        fn chunks_do_not_matter(
            frames in proptest::collection::vec((0_u64..70_000, any::<bool>()), 1..8),
            cuts in proptest::collection::vec(1_usize..5_000, 1..40),
            limit in 0_u64..70_000,
        ) {
            let mut bytes = Vec::new();
            for (length, masked) in &frames {
                bytes.extend(frame(*length, *masked));
                bytes.resize(bytes.len() + usize::try_from(*length).unwrap(), 0xfe);
            }
            let mut tape = Tape::default();
            let (mut rest, mut fine, mut cuts) = (bytes.as_slice(), true, cuts.iter().cycle());
            while !rest.is_empty() && fine {
                let (chunk, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                fine = tape.run(chunk, limit);
                rest = after;
            }
            prop_assert_eq!(fine, frames.iter().all(|(length, _)| *length <= limit));
        }

        #[test]
        fn nonsense_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            Tape::default().run(&bytes, 1 << 14);
            Tape::default().run(&bytes, u64::MAX);
        }
    }

    #[test]
    fn what_is_announced_counts_not_what_comes() {
        for (length, fine) in [(16_384, true), (16_385, false), (1 << 20, false), (1 << 62, false)]
        {
            assert_eq!(Tape::default().run(&frame(length, true), 16_384), fine, "{length}");
        }
    }
}
