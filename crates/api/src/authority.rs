//! Clients that name the socket's path as the `:authority`, as grpcurl before 1.9 and gRPC for Python and Java do.
//!
//! A path is no authority (RFC 9113 §8.3.1), and h2 resets such a request before anybody can look at it. So what a
//! client sends is read over: in the value of `:authority`, `/` and `%` become `-`. Their Huffman codes are as long as
//! that of `-` (RFC 7541, appendix B), so nothing else moves, and the client's and h2's compression tables stay in step.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Length of the client's preface, RFC 9113 §3.4.
const PREFACE: usize = 24;
/// Length of a frame's head, its HEADERS type, and the flags that put something before the fields, RFC 9113 §4.1, §6.2.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// `:authority` in the static table, RFC 7541 appendix A.
const AUTHORITY: usize = 1;
/// The Huffman codes of `%`, `-` and `/`, six bits each.
const PERCENT: u32 = 0b01_0101;
const DASH: u32 = 0b01_0110;
const SLASH: u32 = 0b01_1000;

/// A client's connection whose authorities are made valid.
#[derive(Debug)]
pub(crate) struct Lenient {
    stream: UnixStream,
    frames: Frames,
}

impl Lenient {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, frames: Frames { skip: PREFACE } }
    }
}

impl Connected for Lenient {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Lenient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.frames.amend(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Lenient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where in the stream of frames we are.
#[derive(Debug)]
struct Frames {
    /// Bytes until the next frame's head. `usize::MAX` once the place is lost.
    skip: usize,
}

impl Frames {
    /// Amends the HEADERS frames that lie in `bytes` as a whole, which on a unix socket is nearly all of them: a frame
    /// that is cut in two is passed on as it is, and h2 judges it.
    fn amend(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while bytes.len() - at > self.skip {
            at += self.skip;
            let Some((head, payload)) = bytes[at..].split_at_mut_checked(HEAD) else {
                // A head in two pieces: from here on we don't know where frames begin.
                self.skip = usize::MAX;
                return;
            };
            let length = head[..3].iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            if head[3] == HEADERS && payload.len() >= length {
                amend_fields(fields(head[4], &mut payload[..length]));
            }
            at += HEAD;
            self.skip = length;
        }
        self.skip -= bytes.len() - at;
    }
}

/// A HEADERS frame's block of fields: without priority; padding at the end does no harm.
fn fields(flags: u8, payload: &mut [u8]) -> &mut [u8] {
    let before = usize::from(flags & PADDED != 0) + if flags & PRIORITY == 0 { 0 } else { 5 };
    payload.split_at_mut_checked(before).map_or(&mut [], |(_, block)| block)
}

/// Walks the fields of a block (RFC 7541 §6) and amends each literal value of `:authority`.
fn amend_fields(block: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        let (prefix, literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            // An update of the table's size.
            0x20.. => (5, false),
            _ => (4, true),
        };
        let name = integer(block, &mut at, prefix)?;
        if !literal {
            continue;
        }
        if name == 0 {
            let (_, length) = string(block, &mut at)?;
            at = at.checked_add(length)?;
        }
        let (huffman, length) = string(block, &mut at)?;
        let end = at.checked_add(length)?;
        let value = block.get_mut(at..end)?;
        if name == AUTHORITY {
            if huffman { amend_huffman(value) } else { amend_plain(value) }
        }
        at = end;
    }
    Some(())
}

/// A string's head: whether it is Huffman-coded, and its length (RFC 7541 §5.2).
fn string(block: &[u8], at: &mut usize) -> Option<(bool, usize)> {
    let huffman = block.get(*at)? & 0x80 != 0;
    Some((huffman, integer(block, at, 7)?))
}

/// An integer with a prefix of so many bits (RFC 7541 §5.1).
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let most = (1 << prefix) - 1;
    let mut value = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if value < most {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*block.get(*at)?);
        *at += 1;
        value += (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn amend_plain(value: &mut [u8]) {
    for byte in value.iter_mut().filter(|byte| matches!(byte, b'/' | b'%')) {
        *byte = b'-';
    }
}

/// Codes have 5 to 8 bits up to 0xfd, by ranges (RFC 7541 appendix B); longer ones stand for what no path of ours has.
fn amend_huffman(value: &mut [u8]) {
    let mut bit = 0;
    while bit + 5 <= value.len() * 8 {
        let next = bits(value, bit);
        let length = match next {
            0..0x50 => 5,
            0x50..0xb8 => 6,
            0xb8..0xf8 => 7,
            0xf8..0xfe => 8,
            _ => return,
        };
        if length == 6 && matches!(next >> 2, SLASH | PERCENT) {
            for offset in 0..6 {
                let (byte, mask) = ((bit + offset) / 8, 0x80_u8 >> ((bit + offset) % 8));
                let set = DASH >> (5 - offset) & 1 == 1;
                // The last code may reach beyond the end only if it is no code but padding, which is all ones.
                let Some(byte) = value.get_mut(byte) else { return };
                if set { *byte |= mask } else { *byte &= !mask }
            }
        }
        bit += length;
    }
}

/// The eight bits from `bit` on, with ones beyond the end.
fn bits(value: &[u8], bit: usize) -> u32 {
    let byte = |index| u32::from(value.get(index).copied().unwrap_or(0xff));
    let two = byte(bit / 8) << 8 | byte(bit / 8 + 1);
    two >> (8 - bit % 8) & 0xff
}

#[cfg(test)]
mod tests;
