//! A page of history as JSON, and how one that is too large is shortened.

use bytes::Bytes;
use shared::domain::{Seq, StoredMessage};
use shared::storage::Window;

use crate::encoding::Packed;
use crate::message_json;

/// Bytes of a page at most, apart from its last message. Where more was asked for, the page is shorter and leads on to the rest.
pub const PAGE_MAX_BYTES: usize = 1024 * 1024;

/// A page of the history of a room.
#[derive(Debug)]
pub struct Page {
    /// Its message objects as a JSON array, newest first.
    pub json: Bytes,
    /// The same compressed, once a client has asked for it.
    pub(crate) packed: Packed,
    /// How many messages it has.
    pub count: u32,
    /// The lowest and the highest seq, if it is not empty.
    pub seqs: Option<(Seq, Seq)>,
}

impl Page {
    /// The page of `messages`, which have ascending seqs and lie in `window`, of the room named `room`. If they are too large for
    /// one page, it is shortened at the end where the window goes on.
    #[must_use]
    pub fn of(room: &str, messages: &[StoredMessage], window: Window) -> Self {
        let texts: usize = messages.iter().map(|message| message.text.len() + message.username.len()).sum();
        // The other fields take 200 bytes with a name of some length.
        let mut json = Vec::with_capacity(2 + texts + messages.len() * (200 + room.len()));
        json.push(b'[');
        let mut ends = Vec::with_capacity(messages.len());
        for message in messages.iter().rev() {
            if json.len() > 1 {
                json.push(b',');
            }
            message_json::write(&mut json, room, message);
            ends.push(json.len());
        }
        json.push(b']');
        let messages = match cut(&json, &ends, window) {
            None => messages,
            Some(Cut::Oldest(kept)) => {
                json.truncate(ends[kept - 1]);
                json.push(b']');
                &messages[messages.len() - kept..]
            }
            Some(Cut::Newest(left_out)) => {
                // From the comma on, which the bracket replaces.
                let start = ends[left_out - 1];
                json[start] = b'[';
                json.drain(..start);
                &messages[..messages.len() - left_out]
            }
        };
        Self::new(json, messages)
    }

    /// The page of `messages`, which have ascending seqs, of the room named `room`, the oldest first. If they are too large for one
    /// page, the newest are left out.
    #[must_use]
    pub fn oldest_first(room: &str, messages: &[StoredMessage]) -> Self {
        let mut json = vec![b'['];
        let mut kept = 0;
        for message in messages {
            let end = json.len();
            if kept > 0 {
                json.push(b',');
            }
            message_json::write(&mut json, room, message);
            if kept > 0 && json.len() > PAGE_MAX_BYTES {
                json.truncate(end);
                break;
            }
            kept += 1;
        }
        json.push(b']');
        Self::new(json, &messages[..kept])
    }

    /// The page that is encoded as `json` and has these `messages`.
    fn new(mut json: Vec<u8>, messages: &[StoredMessage]) -> Self {
        json.shrink_to_fit();
        let ends = messages.first().zip(messages.last());
        Self {
            json: json.into(),
            packed: Packed::default(),
            count: u32::try_from(messages.len()).unwrap_or(u32::MAX),
            seqs: ends.map(|(first, last)| (first.seq, last.seq)),
        }
    }
}

/// How a page that is too large is shortened. Its messages stand newest first.
enum Cut {
    /// The oldest messages are left out; so many of the newest stay.
    Oldest(usize),
    /// So many of the newest messages are left out.
    Newest(usize),
}

/// What to leave out of `json`, whose messages end at `ends`; `None` if it is not too large. One message always stays.
fn cut(json: &[u8], ends: &[usize], window: Window) -> Option<Cut> {
    if json.len() <= PAGE_MAX_BYTES {
        return None;
    }
    let oldest = ends.len().checked_sub(1)?;
    match window {
        Window::After(_) => {
            let left_out = ends.partition_point(|end| json.len() - end > PAGE_MAX_BYTES) + 1;
            (oldest > 0).then_some(Cut::Newest(left_out.min(oldest)))
        }
        Window::Before(_) | Window::Between(..) | Window::Only(_) | Window::Around(_) => {
            Some(Cut::Oldest(ends.partition_point(|end| *end < PAGE_MAX_BYTES).max(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_page_of_the_oldest_leaves_out_the_newest() {
        // Each byte of them takes six in JSON.
        let text = "\u{1}".repeat(PAGE_MAX_BYTES / 24);
        let messages: Vec<_> = (1..=10).map(|seq| StoredMessage::for_tests(seq, text.as_str())).collect();
        let page = Page::oldest_first("lobby", &messages);
        let shown: Vec<serde_json::Value> = serde_json::from_slice(&page.json).unwrap();
        let seqs: Vec<i64> = shown.iter().map(|message| message["seq"].as_i64().unwrap()).collect();
        assert_eq!((seqs, page.seqs, page.count), (vec![1, 2, 3], Some((Seq(1), Seq(3))), 3));
        assert_eq!(Page::oldest_first("lobby", &[]).json, "[]".as_bytes());
    }

    #[test]
    fn a_large_page_is_cut_where_its_window_goes_on() {
        let message = |seq| StoredMessage::for_tests(seq, "x".repeat(PAGE_MAX_BYTES / 4));
        let messages: Vec<_> = (1..=10).map(message).collect();
        let page = |window, messages: &[StoredMessage]| {
            let page = Page::of("lobby", messages, window);
            assert!(page.json.len() <= PAGE_MAX_BYTES + PAGE_MAX_BYTES / 4);
            let shown: Vec<serde_json::Value> = serde_json::from_slice(&page.json).unwrap();
            let seqs: Vec<i64> = shown.iter().map(|message| message["seq"].as_i64().unwrap()).collect();
            assert_eq!(
                page.seqs.map(|(first, last)| (last.0, first.0)),
                seqs.first().copied().zip(seqs.last().copied())
            );
            seqs
        };
        assert_eq!(page(Window::Before(Seq(i64::MAX)), &messages), [10, 9, 8]);
        assert_eq!(page(Window::Between(Seq(0), Seq(11)), &messages), [10, 9, 8]);
        assert_eq!(page(Window::After(Seq(0)), &messages), [3, 2, 1]);
        assert_eq!(page(Window::After(Seq(0)), &messages[..2]), [2, 1]);
        let large = StoredMessage {
            text: "x".repeat(2 * PAGE_MAX_BYTES),
            ..message(1)
        };
        for window in [Window::Before(Seq(5)), Window::After(Seq(0))] {
            let page = Page::of("lobby", std::slice::from_ref(&large), window);
            assert_eq!(page.seqs, Some((Seq(1), Seq(1))));
        }
    }
}
