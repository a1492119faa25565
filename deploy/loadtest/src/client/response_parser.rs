//! Parses one HTTP/1.1 response as its bytes arrive.

use rig::{Explain, Failure, Result};

use crate::client::framing::Framing;

/// Longest headers that are parsed; longer ones are not a response of a server under load.
const LONGEST_HEADERS: usize = 16 * 1024;
/// Bytes of the body of a refusal that are kept to be shown.
pub(crate) const MOST_REFUSAL_BYTES: usize = 300;
/// Most headers of a response.
const MOST_HEADERS: usize = 64;

/// A response that is being received.
#[derive(Debug)]
pub(crate) enum ResponseParser {
    /// The headers are incomplete; their bytes so far.
    Headers(Vec<u8>),
    /// The headers are complete.
    Content {
        /// The status code.
        status: u16,
        /// How much of the body is still to come.
        framing: Framing,
    },
}

impl ResponseParser {
    /// The state before the first byte.
    pub(crate) fn new() -> Self {
        Self::Headers(Vec::new())
    }

    /// The status code, once the headers are complete.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Headers(_) => None,
            Self::Content { status, .. } => Some(*status),
        }
    }

    /// True when the whole response has come.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Content { framing, .. } if framing.is_over())
    }

    /// Passes the content in `bytes` to `on_content`, piece by piece, together with the status code. Returns how many
    /// of the bytes belong to this response.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut on_content: impl FnMut(u16, &[u8])) -> Result<usize> {
        let mut used = 0;
        if let Self::Headers(raw) = self {
            let before = raw.len();
            raw.extend_from_slice(bytes);
            let Some((content, length)) = parse(raw)? else {
                return Ok(bytes.len());
            };
            // The headers end in the bytes that came now: the bytes before them held no complete headers.
            used = length - before;
            *self = content;
        }
        if let Self::Content { status, framing } = self
            && !framing.is_over()
        {
            used += framing.feed(&bytes[used..], |piece| on_content(*status, piece))?;
        }
        Ok(used)
    }
}

/// The state after the headers at the beginning of `raw`, and their length; `None` if they are incomplete.
fn parse(raw: &[u8]) -> Result<Option<(ResponseParser, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let (status, length) = match response.parse(raw).explain(|| "not an HTTP response".to_owned())? {
        httparse::Status::Partial if raw.len() > LONGEST_HEADERS => {
            return Err(Failure::new("the headers of the response are too long"));
        }
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => (response.code.unwrap_or(0), length),
    };
    let framing = framing(status, response.headers)?;
    Ok(Some((ResponseParser::Content { status, framing }, length)))
}

/// The framing by RFC 9112, section 6.3, of responses to GET and POST.
fn framing(status: u16, headers: &[httparse::Header<'_>]) -> Result<Framing> {
    let value = |name: &str| {
        let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    if matches!(status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(Framing::CHUNKED);
    }
    match value("content-length") {
        Some(length) => length.parse().map(Framing::Length).explain(|| format!("no content length: '{length}'")),
        None => Ok(Framing::UntilClose),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Status codes and bodies of the responses in `bytes` when they arrive in pieces of these sizes.
    fn read(bytes: &[u8], sizes: &[usize]) -> Result<Vec<(u16, Vec<u8>)>> {
        let (mut responses, mut response, mut content) = (Vec::new(), ResponseParser::new(), Vec::new());
        let mut sizes = sizes.iter().cycle();
        let mut used = 0;
        while used < bytes.len() {
            let end = bytes.len().min(used + sizes.next().copied().unwrap_or(1));
            used += response.feed(&bytes[used..end], |_, piece| content.extend_from_slice(piece))?;
            if response.is_over() {
                responses.push((response.status().unwrap_or(0), std::mem::take(&mut content)));
                response = ResponseParser::new();
            }
        }
        Ok(responses)
    }

    proptest! {
        #[test]
        fn responses_on_one_connection_are_told_apart(sizes in vec(1..70_usize, 1..10)) {
            let bytes = b"HTTP/1.1 204 No Content\r\nMessage-Id: 1\r\n\r\n\
                HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nslow\
                HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n\
                HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
            let responses = read(bytes, &sizes).unwrap();
            let expected = [(204, ""), (429, "slow"), (200, "abc"), (202, "")];
            prop_assert_eq!(responses, expected.map(|(status, text)| (status, text.as_bytes().to_vec())));
        }
    }

    #[test]
    fn a_body_without_length_lasts_until_the_connection_ends() {
        let mut response = ResponseParser::new();
        let mut content = Vec::new();
        let bytes = b"HTTP/1.1 200 OK\r\n\r\n: hi\n";
        let used = response.feed(bytes, |_, piece| content.extend_from_slice(piece)).unwrap();
        assert_eq!((used, &content[..], response.is_over()), (bytes.len(), &b": hi\n"[..], false));
    }

    #[test]
    fn bytes_that_are_no_response_are_refused() {
        assert!(read(b"SSH-2.0-x\r\n\r\n", &[5]).is_err());
        assert!(read(&vec![b'x'; LONGEST_HEADERS * 2], &[1000]).is_err());
    }
}
