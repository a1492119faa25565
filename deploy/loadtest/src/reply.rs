//! One HTTP/1.1 answer, read as its bytes come.

use rig::{Explain, Failure, Result};

use crate::framing::Framing;

/// Longest head that is read; more is no answer of a server we know.
const LONGEST_HEAD: usize = 16 * 1024;
/// Bytes of a refusal that are shown.
pub(crate) const SHOWN: usize = 300;
/// Most headers of an answer.
const MOST_HEADERS: usize = 64;

/// An answer that is being read.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The head so far.
    Head(Vec<u8>),
    /// The head was read.
    Content {
        /// Its status.
        status: u16,
        /// Where the content ends.
        framing: Framing,
    },
}

impl Reply {
    /// Nothing has come.
    pub(crate) fn new() -> Self {
        Self::Head(Vec::new())
    }

    /// The status, once the head has come.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Head(_) => None,
            Self::Content { status, .. } => Some(*status),
        }
    }

    /// True when the whole answer has come.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Content { framing, .. } if framing.is_over())
    }

    /// Hands the content in `bytes` to `take`, piece by piece, together with the status. Returns how many bytes belong to
    /// this answer.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(u16, &[u8])) -> Result<usize> {
        let mut used = 0;
        if let Self::Head(raw) = self {
            let before = raw.len();
            raw.extend_from_slice(bytes);
            let Some((content, length)) = parse(raw)? else {
                return Ok(bytes.len());
            };
            // An empty line that was not there before ends behind what came before.
            used = length - before;
            *self = content;
        }
        if let Self::Content { status, framing } = self
            && !framing.is_over()
        {
            used += framing.feed(&bytes[used..], |piece| take(*status, piece))?;
        }
        Ok(used)
    }
}

/// The state after the head at the beginning of `raw`, and its length; `None` if more must come.
fn parse(raw: &[u8]) -> Result<Option<(Reply, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let (status, length) = match response.parse(raw).explain(|| "not an HTTP answer".to_owned())? {
        httparse::Status::Partial if raw.len() > LONGEST_HEAD => return Err(Failure::new("an endless head")),
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => (response.code.unwrap_or(0), length),
    };
    let framing = framing(status, response.headers)?;
    Ok(Some((Reply::Content { status, framing }, length)))
}

/// RFC 9112, section 6.3, for answers to GET and POST.
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
        Some(length) => length.parse().map(Framing::Length).explain(|| format!("a length of '{length}'")),
        None => Ok(Framing::UntilClose),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Statuses and contents of the answers in `bytes` when they come in pieces of these sizes.
    fn read(bytes: &[u8], sizes: &[usize]) -> Result<Vec<(u16, Vec<u8>)>> {
        let (mut replies, mut reply, mut content) = (Vec::new(), Reply::new(), Vec::new());
        let mut sizes = sizes.iter().cycle();
        let mut used = 0;
        while used < bytes.len() {
            let end = bytes.len().min(used + sizes.next().copied().unwrap_or(1));
            used += reply.feed(&bytes[used..end], |_, piece| content.extend_from_slice(piece))?;
            if reply.is_over() {
                replies.push((reply.status().unwrap_or(0), std::mem::take(&mut content)));
                reply = Reply::new();
            }
        }
        Ok(replies)
    }

    proptest! {
        #[test]
        fn answers_on_one_connection_are_told_apart(sizes in vec(1..70_usize, 1..10)) {
            let bytes = b"HTTP/1.1 204 No Content\r\nMessage-Id: 1\r\n\r\n\
                HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nslow\
                HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n\
                HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
            let replies = read(bytes, &sizes).unwrap();
            let expected = [(204, ""), (429, "slow"), (200, "abc"), (202, "")];
            prop_assert_eq!(replies, expected.map(|(status, text)| (status, text.as_bytes().to_vec())));
        }
    }

    #[test]
    fn without_a_length_it_lasts_until_the_connection_ends() {
        let mut reply = Reply::new();
        let mut content = Vec::new();
        let bytes = b"HTTP/1.1 200 OK\r\n\r\n: hi\n";
        let used = reply.feed(bytes, |_, piece| content.extend_from_slice(piece)).unwrap();
        assert_eq!((used, &content[..], reply.is_over()), (bytes.len(), &b": hi\n"[..], false));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(read(b"SSH-2.0-x\r\n\r\n", &[5]).is_err());
        assert!(read(&vec![b'x'; LONGEST_HEAD * 2], &[1000]).is_err());
    }
}
