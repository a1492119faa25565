//! What a device has, and the cursor that says so.
//!
//! An event whose id is that of the event before is not in the cursor: whoever comes back with it is told again. So what such events
//! tell is taken over only with the next cursor.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::{RoomNews, UserReceived};

/// The cursor of a device that has nothing yet.
const START: &str = "AQ";

/// What a device has by its cursor, and what has come since.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldRooms {
    cursor: Option<String>,
    /// The last seq of each room, by the cursor.
    rooms: BTreeMap<String, i64>,
    /// Those of which no entry has come, if the first answer came in several pages: a room that moved meanwhile is told of later, and
    /// begins where it was at the first page.
    unbegun: BTreeSet<String>,
    uncommitted: Vec<UserReceived>,
    /// The rooms by the cursor are to be forgotten with the next one.
    begins_anew: bool,
    /// The cursor is one between the pages of a first answer.
    is_between_pages: bool,
    was_paged: bool,
}

impl HeldRooms {
    /// The last seq of each room, by the cursor.
    pub(super) fn rooms(&self) -> &BTreeMap<String, i64> {
        &self.rooms
    }

    /// The rooms that may begin before the seq that the device has.
    pub(super) fn unbegun(&self) -> &BTreeSet<String> {
        &self.unbegun
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether a stream goes on from the cursor.
    pub(super) fn is_resumable(&self) -> bool {
        !self.is_between_pages && self.cursor.as_ref().is_some_and(|cursor| cursor != START)
    }

    /// Whether the first answer came in several pages.
    pub(super) fn was_paged(&self) -> bool {
        self.was_paged
    }

    /// Forgets all rooms with the next cursor: the stream begins anew.
    pub(super) fn begin_anew(&mut self) {
        self.begins_anew = true;
    }

    /// Notes something that has come.
    pub(super) fn note(&mut self, received: &UserReceived) {
        self.uncommitted.push(received.clone());
    }

    /// Takes over what has come, if the cursor is another one.
    pub(super) fn commit(&mut self, cursor: &str) {
        if self.cursor() == Some(cursor) {
            return;
        }
        self.cursor = Some(cursor.to_owned());
        // A stream has begun, and says nothing yet.
        if cursor == START {
            return;
        }
        if std::mem::take(&mut self.begins_anew) {
            self.forget_rooms();
        }
        self.is_between_pages = false;
        let is_late = self.was_paged;
        self.apply_uncommitted(is_late);
    }

    /// Takes over a page of a first answer, after which there may be more.
    pub(super) fn commit_page(&mut self, cursor: &str, more: bool) {
        if !self.is_between_pages {
            self.forget_rooms();
        }
        self.apply_uncommitted(false);
        self.was_paged |= more;
        self.is_between_pages = more;
        self.cursor = Some(cursor.to_owned());
    }

    fn forget_rooms(&mut self) {
        self.rooms.clear();
        self.unbegun.clear();
        self.was_paged = false;
    }

    /// Takes over what has come. A room that is new may have been left out by the pages of a first answer if `is_late`.
    fn apply_uncommitted(&mut self, is_late: bool) {
        for received in std::mem::take(&mut self.uncommitted) {
            let is_new = !self.rooms.contains_key(&received.room);
            received.apply(&mut self.rooms);
            match received.news {
                RoomNews::State(_) if is_new && is_late => {
                    self.unbegun.insert(received.room);
                }
                RoomNews::State(_) | RoomNews::Preview(_) => {}
                RoomNews::Gone | RoomNews::Reset(_) | RoomNews::Entry(_) | RoomNews::Gap(..) => {
                    self.unbegun.remove(&received.room);
                }
            }
        }
    }

    /// Forgets what has come since the cursor: the stream has ended.
    pub(super) fn forget_uncommitted(&mut self) {
        self.uncommitted.clear();
        self.begins_anew = false;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::evidence::RoomNews;

    fn state(room: &str, head: i64) -> UserReceived {
        UserReceived {
            room: room.to_owned(),
            news: RoomNews::State(head),
            at: Duration::ZERO,
        }
    }

    fn rooms(held: &HeldRooms) -> Vec<(&str, i64)> {
        held.rooms().iter().map(|(room, seq)| (room.as_str(), *seq)).collect()
    }

    #[test]
    fn what_comes_counts_with_the_next_cursor() {
        let mut held = HeldRooms::default();
        held.begin_anew();
        held.commit(START);
        held.note(&state("one", 3));
        held.commit(START);
        assert_eq!((rooms(&held), held.is_resumable()), (vec![], false));
        held.note(&state("two", 4));
        held.commit("AQab");
        assert_eq!((rooms(&held), held.is_resumable()), (vec![("one", 3), ("two", 4)], true));
        // Cut before the next cursor.
        held.note(&state("three", 5));
        held.commit("AQab");
        held.forget_uncommitted();
        held.commit("AQac");
        assert_eq!(rooms(&held), [("one", 3), ("two", 4)]);
        // The gateway does not know the cursor.
        held.begin_anew();
        held.note(&state("four", 6));
        held.commit("AQad");
        assert_eq!(rooms(&held), [("four", 6)]);
    }

    #[test]
    fn pages_of_a_first_answer_add_up() {
        let mut held = HeldRooms::default();
        held.note(&state("one", 3));
        held.commit_page("Ag1", true);
        assert!(!held.is_resumable() && held.was_paged());
        held.note(&state("two", 4));
        held.commit_page("AQ2", false);
        assert_eq!((rooms(&held), held.is_resumable(), held.was_paged()), (vec![("one", 3), ("two", 4)], true, true));
        // A room that was left out by the pages is told of later, and has not begun until something of it comes.
        held.note(&state("left out", 5));
        held.commit("AQ21");
        assert!(held.unbegun().contains("left out") && held.unbegun().len() == 1);
        let entry = RoomNews::Gap(4, 5);
        held.note(&UserReceived {
            news: entry,
            ..state("left out", 5)
        });
        held.commit("AQ22");
        assert!(held.unbegun().is_empty());
        // Another first answer forgets them.
        held.note(&state("three", 5));
        held.commit_page("AQ3", false);
        assert_eq!((rooms(&held), held.was_paged()), (vec![("three", 5)], false));
    }
}
