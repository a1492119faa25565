//! Finds the end of an HTTP/1.1 response body (RFC 9112, section 7.1) as its bytes arrive: a boundary may lie anywhere
//! in what one read returns.

use rig::{Failure, Result};

/// Largest chunk size that is accepted.
const LARGEST_CHUNK: u64 = 1 << 40;

/// How a response body is framed, and how much of it is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In chunks.
    Chunked(Chunk),
    /// By its length: so many bytes are still to come.
    Length(u64),
    /// By the end of the connection.
    UntilClose,
}

/// What the next byte of a chunked body belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// The size of a chunk, or the end of its line; the size so far.
    Size(u64),
    /// A chunk extension, or the end of its line; the size of the chunk.
    Extension(u64),
    /// The content of a chunk, of which so many bytes are still to come.
    Content(u64),
    /// The CR after the content of a chunk.
    ContentCr,
    /// The LF after that CR.
    ContentLf,
    /// A line of the trailer, of which so many bytes have come.
    Trailer(u32),
    /// No byte: the body is complete.
    End,
}

impl Framing {
    /// The beginning of a chunked body.
    pub(crate) const CHUNKED: Self = Self::Chunked(Chunk::Size(0));

    /// True when the whole body has come.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::End))
    }

    /// Passes the content in `bytes` to `on_content`, piece by piece, and returns how many of the bytes belong to this
    /// response.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut on_content: impl FnMut(&[u8])) -> Result<usize> {
        match self {
            Self::UntilClose => {
                on_content(bytes);
                Ok(bytes.len())
            }
            Self::Length(left) => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                on_content(&bytes[..now]);
                *left -= now as u64;
                Ok(now)
            }
            Self::Chunked(chunk) => {
                let mut used = 0;
                while used < bytes.len() && *chunk != Chunk::End {
                    if let Chunk::Content(left) = chunk {
                        let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - used);
                        on_content(&bytes[used..used + now]);
                        used += now;
                        *left -= now as u64;
                        if *left == 0 {
                            *chunk = Chunk::ContentCr;
                        }
                    } else {
                        *chunk = chunk.after(bytes[used])?;
                        used += 1;
                    }
                }
                Ok(used)
            }
        }
    }
}

impl Chunk {
    /// The state after `byte`, which is not content.
    fn after(self, byte: u8) -> Result<Self> {
        match (self, byte) {
            (Self::Size(0) | Self::Extension(0), b'\n') => Ok(Self::Trailer(0)),
            (Self::Size(size) | Self::Extension(size), b'\n') => Ok(Self::Content(size)),
            (Self::Size(size), b'\r') => Ok(Self::Size(size)),
            (Self::Size(size), b';' | b' ' | b'\t') | (Self::Extension(size), _) => Ok(Self::Extension(size)),
            (Self::Size(size), digit) => {
                let value = char::from(digit).to_digit(16).map(u64::from);
                let size = value.map(|value| size * 16 + value).filter(|size| *size <= LARGEST_CHUNK);
                size.map(Self::Size)
                    .ok_or_else(|| Failure::new(format!("the byte {digit:#04x} in the size of a chunk")))
            }
            (Self::ContentCr, b'\r') => Ok(Self::ContentLf),
            (Self::ContentLf, b'\n') => Ok(Self::Size(0)),
            (Self::Trailer(0), b'\n') => Ok(Self::End),
            (Self::Trailer(_), b'\n') => Ok(Self::Trailer(0)),
            (Self::Trailer(length), b'\r') => Ok(Self::Trailer(length)),
            (Self::Trailer(length), _) => Ok(Self::Trailer(length.saturating_add(1))),
            (_, other) => Err(Failure::new(format!("the byte {other:#04x} behind a chunk"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The content of `bytes` when they arrive in pieces of these sizes, how many bytes belong to the response, and
    /// whether it is complete.
    fn read(mut framing: Framing, bytes: &[u8], sizes: &[usize]) -> Result<(Vec<u8>, usize, bool)> {
        let (mut content, mut used) = (Vec::new(), 0);
        let mut sizes = sizes.iter().cycle();
        while used < bytes.len() && !framing.is_over() {
            let end = bytes.len().min(used + sizes.next().copied().unwrap_or(1));
            used += framing.feed(&bytes[used..end], |piece| content.extend_from_slice(piece))?;
        }
        Ok((content, used, framing.is_over()))
    }

    proptest! {
        #[test]
        fn chunks_are_joined_wherever_they_are_split(chunks in vec(vec(any::<u8>(), 1..300), 0..20), sizes in vec(1..50_usize, 1..20)) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            let length = bytes.len();
            bytes.extend_from_slice(b"HTTP/1.1 200");
            let (content, used, is_over) = read(Framing::CHUNKED, &bytes, &sizes).unwrap();
            prop_assert_eq!(content, chunks.concat());
            prop_assert_eq!(used, length);
            prop_assert!(is_over);
        }
    }

    #[test]
    fn a_length_is_kept_to() {
        let (content, used, is_over) = read(Framing::Length(4), b"bodyHTTP", &[3]).unwrap();
        assert_eq!((&content[..], used, is_over), (&b"body"[..], 4, true));
        assert!(Framing::Length(0).is_over());
    }

    #[test]
    fn extensions_and_trailers_are_passed_over() {
        let bytes = b"3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n";
        let (content, used, is_over) = read(Framing::CHUNKED, bytes, &[2]).unwrap();
        assert_eq!((&content[..], used, is_over), (&b"abc"[..], bytes.len(), true));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bytes in [&b"x\r\n"[..], b"1\r\nab", b"fffffffffffffff\r\n"] {
            assert!(read(Framing::CHUNKED, bytes, &[1]).is_err(), "{bytes:?}");
        }
    }
}
