//! Finds published messages in what Redis sends (RESP 2 and 3).

/// The first element of the reply that carries a published message, plain or sharded.
const KINDS: [&[u8]; 2] = [b"\r\n$7\r\nmessage\r\n", b"\r\n$8\r\nsmessage\r\n"];
/// Channels of rooms; what is published elsewhere is let through.
const ROOM_CHANNEL: &[u8] = b":room:";

/// Splits the bytes of one connection into replies.
#[derive(Default)]
pub(super) struct Replies {
    waiting: Vec<u8>,
}

impl Replies {
    /// Returns the bytes of the replies that `chunk` completes, without the published messages for which `drops` is true.
    pub(super) fn filter(&mut self, chunk: &[u8], mut drops: impl FnMut() -> bool) -> Vec<u8> {
        self.waiting.extend_from_slice(chunk);
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(length) = reply_length(&self.waiting[at..]) {
            let reply = &self.waiting[at..at + length];
            if !(is_room_message(reply) && drops()) {
                out.extend_from_slice(reply);
            }
            at += length;
        }
        self.waiting.drain(..at);
        out
    }
}

fn is_room_message(reply: &[u8]) -> bool {
    let beginning = &reply[..reply.len().min(96)];
    let holds = |needle: &[u8]| beginning.windows(needle.len()).any(|window| window == needle);
    matches!(reply.first(), Some(b'*' | b'>')) && KINDS.into_iter().any(holds) && holds(ROOM_CHANNEL)
}

/// Length of the reply at the start of `bytes`; `None` if its end has not come yet.
fn reply_length(bytes: &[u8]) -> Option<usize> {
    let line_end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let after_line = line_end + 2;
    let number = || std::str::from_utf8(&bytes[1..line_end]).ok()?.parse::<i64>().ok();
    match bytes[0] {
        b'$' | b'=' | b'!' => match usize::try_from(number()?) {
            Ok(length) => (bytes.len() >= after_line + length + 2).then_some(after_line + length + 2),
            // -1 is the null value.
            Err(_) => Some(after_line),
        },
        kind @ (b'*' | b'>' | b'~' | b'%') => {
            let each = if kind == b'%' { 2 } else { 1 };
            let mut at = after_line;
            for _ in 0..number()?.max(0) * each {
                at += reply_length(&bytes[at..])?;
            }
            Some(at)
        }
        _ => Some(after_line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$33\r\nroomcast:00a1b2c3d4e5:{7}:room:42\r\n$5\r\n{\r\n\r\n\r\n";
    const CONTROL: &[u8] = b">3\r\n$7\r\nmessage\r\n$29\r\nroomcast:00a1b2c3d4e5:control\r\n$2\r\nhi\r\n";

    #[test]
    fn malformed_length_is_never_taken_for_a_complete_reply() {
        for malformed in [
            "$x\r\nabc\r\n",
            "*\r\n",
            "$5\r\nab\r\n",
            "*2\r\n+one\r\n",
            "no end of a line",
        ] {
            assert_eq!(reply_length(malformed.as_bytes()), None, "{malformed:?}");
            assert_eq!(Replies::default().filter(malformed.as_bytes(), || true), b"", "{malformed:?}");
        }
    }

    #[test]
    fn only_room_messages_are_left_out_wherever_bytes_are_split() {
        let all = [
            b"+PONG\r\n".as_slice(),
            MESSAGE,
            b"*-1\r\n%1\r\n$1\r\na\r\n:1\r\n",
            CONTROL,
            MESSAGE,
        ]
        .concat();
        for split in 0..all.len() {
            let mut replies = Replies::default();
            let mut calls = 0;
            let mut drops = || {
                calls += 1;
                calls == 1
            };
            let mut out = replies.filter(&all[..split], &mut drops);
            out.extend(replies.filter(&all[split..], &mut drops));
            let expected = [b"+PONG\r\n*-1\r\n%1\r\n$1\r\na\r\n:1\r\n".as_slice(), CONTROL, MESSAGE].concat();
            assert_eq!(out, expected, "split at {split}");
        }
    }
}
