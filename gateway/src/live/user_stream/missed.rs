//! What a client has missed: of rooms that were behind when its stream opened, and of those that fell behind their feed since.

use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use shared::domain::{Position, RoomId, Seq};

use super::{SEGMENT_BYTES, UserFetched, UserStream};
use crate::fanout::NextStep;
use crate::live::feed::{FeedRead, Gap};
use crate::live::frame::Framing;
use crate::live::stream_events::ResetReason;
use crate::live::user_events::{NamedRoom, OwnEvent, Reset};
use crate::live::user_rooms::{Stage, StreamRoom};

/// Bytes of cached pages that are looked at in one step, also if the client wants none of their entries: then others have their turn.
const COPIED_AT_ONCE: usize = 64 * 1024;

/// A room of which entries were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::live) struct Missed {
    pub(super) room: RoomId,
    /// Of a room that was behind when the stream opened: its head then, and the position of that.
    pub(super) upto: Option<(Seq, Position)>,
}

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
            && self.messages_left != Some(0)
            && let Some(missed) = self.missed.front().copied()
        {
            let Some(room) = self.rooms.get(missed.room) else {
                self.missed.pop_front();
                continue;
            };
            if missed.upto.is_some_and(|(upto, _)| room.sent() >= upto) {
                self.finish(missed);
                continue;
            }
            let after = room.sent();
            match room.feed.read_after(after, usize::MAX, Framing::Chunked) {
                FeedRead::Behind(gap) => {
                    let segment = if copied < COPIED_AT_ONCE {
                        self.hub.cached_behind(&room.feed, (after, gap), Framing::Chunked)
                    } else {
                        None
                    };
                    let Some(segment) = segment else {
                        // What is there goes first.
                        return Some(
                            self.write_missed(out, now).unwrap_or_else(|| self.fetch_history(missed.room, gap)),
                        );
                    };
                    copied += self.copy_entries(missed.room, after, &segment, &mut out, now);
                }
                FeedRead::Frames(segment, _) => {
                    copied += self.copy_entries(missed.room, after, &segment, &mut out, now);
                    if missed.upto.is_none() {
                        self.finish(missed);
                    }
                }
                // The feed is behind SQL, and will move.
                FeedRead::UpToDate if missed.upto.is_some() => break,
                FeedRead::UpToDate => self.finish(missed),
            }
        }
        self.write_missed(out, now)
    }

    /// Goes on with the next room of which entries were missed; this one is live from now on.
    fn finish(&mut self, missed: Missed) {
        self.missed.pop_front();
        if let Some((upto, last)) = missed.upto {
            // With what was missed, what came meanwhile may have been sent.
            let is_beyond = self.rooms.get(missed.room).is_some_and(|room| room.sent() > upto);
            self.progress.finished(missed.room, (!is_beyond).then_some(last));
        }
        self.note_caught_up();
        if let Some(room) = self.rooms.get_mut(missed.room)
            && room.stage() == Stage::Behind
        {
            room.set_stage(Stage::Live);
        }
        self.queue(missed.room);
    }

    /// Ends the catching up if no room is left of those that were behind when the stream opened.
    pub(super) fn note_caught_up(&mut self) {
        if !self.missed.iter().any(|missed| missed.upto.is_some()) {
            self.progress.has_caught_up();
        }
    }

    fn fetch_history(&mut self, id: RoomId, gap: Gap) -> NextStep<UserFetched> {
        let Some(room) = self.rooms.get(id) else {
            return NextStep::Wait;
        };
        self.is_fetching = true;
        let (hub, feed, after) = (self.hub.clone(), room.feed.clone(), room.sent());
        NextStep::Fetch(
            async move {
                // A failure is logged where history is read.
                match hub.read_behind(&feed, (after, gap), (usize::MAX, Framing::Chunked)).await {
                    Ok((segment, _)) => UserFetched::Segment(id, after, segment),
                    Err(error) if error.is_damage() => UserFetched::Damaged(id, after),
                    Err(_) => UserFetched::Failed,
                }
            }
            .boxed(),
        )
    }

    /// The next entries of what was read of history, if the room is still one of the stream's and was not reset.
    pub(super) fn history_entries(&mut self, now: Instant) -> Vec<u8> {
        let mut out = Vec::new();
        while out.is_empty()
            && let Some(history) = self.history.take()
        {
            let History { room, after, segment } = *history;
            if segment.is_empty() {
                // The page had nothing: it is asked for again, and not at once.
                self.pauses.retry_fetch(now);
                break;
            }
            if self.rooms.get(room).is_none_or(|followed| followed.sent() != after) {
                break;
            }
            let copied = self.copy_entries(room, after, &segment, &mut out, now);
            let after = self.rooms.get(room).map_or(after, StreamRoom::sent);
            let segment = segment.slice(copied..);
            if copied > 0 && !segment.is_empty() {
                self.history = Some(Box::new(History { room, after, segment }));
            }
        }
        out
    }

    /// Goes on with a room at its head: history lacks what follows `after`. A room that has moved since was lost, hidden or joined anew.
    pub(super) fn skip_damage(&mut self, room: RoomId, after: Seq, now: Instant) {
        let Some(damaged) = self.rooms.get_mut(room).filter(|damaged| damaged.sent() == after) else {
            return;
        };
        let head = damaged.feed.head().max(damaged.sent());
        damaged.note_sent(head);
        self.progress.sent(room, head, now);
        let rooms = vec![NamedRoom {
            name: damaged.feed.name.to_string(),
            head,
        }];
        self.events.push_back(OwnEvent::reset(&Reset {
            reason: ResetReason::HistoryDamaged,
            rooms,
        }));
    }

    /// Writes missed entries, if there are any.
    pub(super) fn write_missed(&mut self, out: Vec<u8>, now: Instant) -> Option<NextStep<UserFetched>> {
        if out.is_empty() {
            return None;
        }
        if let Some(rate) = self.rates.of(self.registered.user) {
            rate.charge(out.len(), now);
        }
        Some(self.write(out, now))
    }
}
