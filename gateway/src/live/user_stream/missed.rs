//! What a client has missed: of rooms that were behind when its stream opened, and of those that fell behind their feed since.

use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use shared::domain::{RoomId, Seq};

use super::{SEGMENT_BYTES, UserFetched, UserStream};
use crate::fanout::NextStep;
use crate::live::feed::{FeedRead, Gap};
use crate::live::frame::Framing;
use crate::live::hub::OpenFeed;
use crate::live::room_positions::Missed;
use crate::live::stream_events::ResetReason;
use crate::live::user_events::{NamedRoom, OwnEvent, Reset};
use crate::live::user_rooms::StreamRoom;

/// Bytes of cached pages that are looked at in one step, also if the client wants none of their entries: then others have their turn.
const COPIED_AT_ONCE: usize = 64 * 1024;

/// A part of a room's history.
pub(super) struct History {
    pub(super) room: RoomId,
    pub(super) after: Seq,
    pub(super) segment: Bytes,
}

impl UserStream {
    /// What was missed, room by room: a segment of what feeds and cached pages have, else a read of history.
    pub(super) fn missed_entries(&mut self, now: Instant) -> Option<NextStep<UserFetched>> {
        let (mut out, mut copied) = (Vec::new(), 0);
        while out.len() < SEGMENT_BYTES
            && copied < COPIED_AT_ONCE
            && self.messages_left != Some(0)
            && let Some((Missed { room: id, upto }, room)) = self.rooms.next_missed()
        {
            let after = room.sent();
            if upto.is_some_and(|(upto, _)| after >= upto) {
                self.rooms.catch_up();
                continue;
            }
            if !self.rooms.may_send(id) {
                break;
            }
            match room.feed.read_after(after, usize::MAX, Framing::Chunked) {
                FeedRead::Behind(gap) => {
                    let Some(segment) = self.hub.cached_behind(&room.feed, (after, gap), Framing::Chunked) else {
                        // What is there goes first.
                        let feed = room.feed.clone();
                        let written = self.write_missed(out, copied, now);
                        return Some(written.unwrap_or_else(|| self.fetch_history(feed, after, gap)));
                    };
                    copied += self.copy_entries(id, &segment, &mut out);
                }
                FeedRead::Frames(segment, _) => {
                    copied += self.copy_entries(id, &segment, &mut out);
                    if upto.is_none() {
                        self.rooms.catch_up();
                    }
                }
                // Where the feed is behind SQL, it will move, and bring the rest.
                FeedRead::UpToDate => self.rooms.catch_up(),
            }
        }
        self.write_missed(out, copied, now)
    }

    fn fetch_history(&mut self, feed: OpenFeed, after: Seq, gap: Gap) -> NextStep<UserFetched> {
        self.is_fetching = true;
        let hub = self.hub.clone();
        NextStep::Fetch(
            async move {
                // A failure is logged where history is read.
                match hub.read_behind(&feed, (after, gap), (usize::MAX, Framing::Chunked)).await {
                    Ok((segment, _)) => UserFetched::Segment(feed.room, after, segment),
                    Err(error) if error.is_damage() => UserFetched::Damaged(feed.room, after),
                    Err(_) => UserFetched::HistoryUnavailable,
                }
            }
            .boxed(),
        )
    }

    /// The next entries of what was read of history, if the room is still one of the stream's and was not reset.
    pub(super) fn history_entries(&mut self, now: Instant) -> Option<NextStep<UserFetched>> {
        let History { room, after, segment } = *self.history.take()?;
        if segment.is_empty() {
            // The page had nothing: it is asked for again, and not at once.
            self.pauses.retry_fetch(now);
            return None;
        }
        if self.rooms.get(room).is_none_or(|followed| followed.sent() != after) {
            return None;
        }
        let mut out = Vec::new();
        let copied = self.copy_entries(room, &segment, &mut out);
        let after = self.rooms.get(room).map_or(after, StreamRoom::sent);
        let segment = segment.slice(copied..);
        if copied > 0 && !segment.is_empty() {
            self.history = Some(Box::new(History { room, after, segment }));
        }
        self.write_missed(out, copied, now)
    }

    /// Goes on with a room at its head: history lacks what follows `after`. A room that has moved since was lost, hidden or joined anew.
    pub(super) fn skip_damage(&mut self, room: RoomId, after: Seq) {
        let Some(damaged) = self.rooms.get(room).filter(|damaged| damaged.sent() == after) else {
            return;
        };
        let (feed, head) = (damaged.feed.clone(), damaged.feed.head().max(after));
        self.rooms.skip_to(room, head);
        let rooms = vec![NamedRoom {
            name: feed.name.to_string(),
            head,
        }];
        self.events.push_back(OwnEvent::reset(&Reset {
            reason: ResetReason::HistoryDamaged,
            rooms,
        }));
    }

    /// Writes missed entries of which `copied` bytes were read, if there are any. The user pays for what was read, wanted or not.
    fn write_missed(&mut self, out: Vec<u8>, copied: usize, now: Instant) -> Option<NextStep<UserFetched>> {
        if copied == 0 {
            return None;
        }
        if let Some(rate) = self.rates.of(self.registered.user) {
            rate.charge(copied, now);
        }
        Some(if out.is_empty() {
            self.go_on(now)
        } else {
            self.write(out, now)
        })
    }
}
