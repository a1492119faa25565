//! Where the content of an HTTP/1.1 answer begins and ends (RFC 9112, section 7.1), found as the bytes come: a border may
//! lie anywhere in what one read returns.

use rig::{Failure, Result};

/// Largest chunk that is believed.
const LARGEST_CHUNK: u64 = 1 << 40;

/// How an answer's content is framed, and how far it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In chunks.
    Chunked(Chunk),
    /// So many bytes are still to come.
    Length(u64),
    /// Until the connection ends.
    UntilClose,
}

/// What the next byte of a chunked content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// A digit of the size, or what ends it; the size so far.
    Size(u64),
    /// Part of an extension, or the end of its line.
    Extension(u64),
    /// Content, of which so many bytes are still to come.
    Content(u64),
    /// The CR behind the content of a chunk.
    ContentCr,
    /// The LF behind it.
    ContentLf,
    /// In a line of the trailer, so many bytes after its beginning.
    Trailer(u32),
    /// Nothing more.
    End,
}

impl Framing {
    /// The beginning of a content in chunks.
    pub(crate) const CHUNKED: Self = Self::Chunked(Chunk::Size(0));

    /// True when everything has come.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::End))
    }

    /// Hands the content in `bytes` to `take`, piece by piece, and returns how many bytes of them belong to this answer.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<usize> {
        match self {
            Self::UntilClose => {
                take(bytes);
                Ok(bytes.len())
            }
            Self::Length(left) => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                take(&bytes[..now]);
                *left -= now as u64;
                Ok(now)
            }
            Self::Chunked(chunk) => {
                let mut used = 0;
                while used < bytes.len() && *chunk != Chunk::End {
                    if let Chunk::Content(left) = chunk {
                        let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - used);
                        take(&bytes[used..used + now]);
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
    /// What follows `byte`, which is no content.
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

    /// The content of `bytes` when they come in pieces of these sizes, and how many bytes belonged to it.
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
