//! One budget for the bytes of all rings of this process, beside the bound of each ring.

use super::feed::Feed;

/// Bytes that all feeds keep together, enforced once a second. Past it the largest rings drop their oldest frames; a reader
/// that wanted those reads history, as if it had fallen behind. In between the rings may overshoot by what is stored in a
/// second.
pub(super) const RINGS_BYTES: usize = 256 * 1024 * 1024;

/// Shrinks rings until all of `feeds` keep at most `most` bytes together, apart from the newest frames of quiet rooms.
///
/// Every feed may keep an equal share, so that busy rooms do not push the frames of quiet ones out.
pub(super) fn enforce<'a>(feeds: impl ExactSizeIterator<Item = &'a Feed> + Clone, most: usize) {
    let kept: usize = feeds.clone().map(Feed::kept_bytes).sum();
    if kept > most {
        let share = most / feeds.len().max(1);
        feeds.for_each(|feed| feed.shrink_to(share));
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::{Epoch, Partition, RoomEntry, RoomId, Seq, StoredMessage, UserId};
    use shared::storage::{Room, RoomHead};

    use super::super::feed::FeedRead;
    use super::super::frame::Framing;
    use super::*;

    /// A feed that keeps `count` frames of about 1,000 bytes.
    fn feed(room: i64, count: i64) -> Feed {
        let feed = Feed::new(&Room::for_tests(RoomId(room), "lobby", UserId(1)), Epoch(1), Partition(0));
        feed.start(RoomHead::default());
        let message = |seq| RoomEntry::Message(StoredMessage::for_tests(seq, "x".repeat(800)));
        feed.append(&(1..=count).map(message).collect::<Vec<_>>());
        feed
    }

    #[test]
    fn the_largest_rings_shrink_and_quiet_rooms_keep_theirs() {
        let feeds = [feed(1, 500), feed(2, 300), feed(3, 10)];
        let is_complete =
            |feed: &Feed| matches!(feed.read_after(Seq::ZERO, usize::MAX, Framing::Library), FeedRead::Frames(..));
        let kept = |feed: &Feed| feed.kept_bytes();
        enforce(feeds.iter(), feeds.iter().map(kept).sum());
        assert!(feeds.iter().all(is_complete));

        enforce(feeds.iter(), 60_000);
        assert!(feeds.iter().map(kept).sum::<usize>() <= 60_000);
        assert_eq!(feeds.each_ref().map(is_complete), [false, false, true]);
        // A reader that is up to date notices nothing.
        assert!(matches!(feeds[0].read_after(Seq(499), usize::MAX, Framing::Library), FeedRead::Frames(_, Seq(500))));
        assert!(matches!(feeds[0].read_after(Seq(100), usize::MAX, Framing::Library), FeedRead::Behind(_)));

        enforce(feeds.iter(), 0);
        assert!(matches!(feeds[0].read_after(Seq(499), usize::MAX, Framing::Library), FeedRead::Frames(_, Seq(500))));
    }
}
