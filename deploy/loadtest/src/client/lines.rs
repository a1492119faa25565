//! Splits bytes into lines as they arrive. Lines end at LF alone.

use memchr::memchr;

/// Takes lines.
pub(crate) trait LineReader {
    /// Bytes to keep of a line that arrives in parts: the rest of it is left out.
    fn kept_bytes(&self) -> usize;

    /// Takes a line, without its end.
    fn line(&mut self, line: &[u8]);
}

/// What has come of a line that has not ended.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Its bytes so far, up to those that are kept.
    part: Vec<u8>,
    /// It has begun.
    in_line: bool,
}

impl Lines {
    /// Passes every line that ends in `bytes` to `reader`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], reader: &mut impl LineReader) {
        if self.in_line {
            let end = memchr(b'\n', bytes);
            self.keep(&bytes[..end.unwrap_or(bytes.len())], reader.kept_bytes());
            let Some(end) = end else { return };
            reader.line(&self.part);
            self.part.clear();
            self.in_line = false;
            bytes = &bytes[end + 1..];
        }
        while let Some(end) = memchr(b'\n', bytes) {
            reader.line(&bytes[..end]);
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.in_line = true;
            self.keep(bytes, reader.kept_bytes());
        }
    }

    fn keep(&mut self, part: &[u8], most: usize) {
        let free = most.saturating_sub(self.part.len());
        self.part.extend_from_slice(&part[..part.len().min(free)]);
    }
}
