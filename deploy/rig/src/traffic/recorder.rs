//! Records in memory what the clients of a run did and saw.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::evidence::{
    Departure, Evidence, GatewayInterval, HistoryPage, LogEntry, MembershipCall, PlainEntry, Post, PostOutcome, Rejoin,
    RequestedChange, RoomResponse, StreamRecord, UserRecord, UserRoomCall,
};

/// Posts and changes, received entries and pages that a run may record, about 100 bytes each. Beyond this the run ends with a
/// failure, long before memory does; pages of history beyond theirs are left out.
const MAX_POSTS: usize = 1_000_000;
const MAX_RECEIVED: usize = 6_000_000;
const MAX_HISTORY_PAGES: usize = 50_000;

/// One clock and one record for all clients of a run.
pub(crate) struct Recorder {
    began: Instant,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    evidence: Evidence,
    received: usize,
    /// Ids in the order in which they were acknowledged.
    acknowledged: Vec<Uuid>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            records: Mutex::default(),
        }
    }

    /// Time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Records a post; false when the recorder is full.
    pub(super) fn add_post(&self, post: Post) -> bool {
        let mut records = self.records.lock();
        if let PostOutcome::Acknowledged(id) = post.outcome {
            records.acknowledged.push(id);
        }
        records.evidence.posts.push(post);
        !records.is_full()
    }

    pub(super) fn add_stream(&self, stream: StreamRecord<PlainEntry>) {
        let mut records = self.records.lock();
        records.received += stream.received.len();
        records.evidence.streams.push(stream);
    }

    /// Records a post of an editor; false when the recorder is full.
    pub(super) fn add_editor_post(&self, post: Post) -> bool {
        let mut records = self.records.lock();
        records.evidence.edited.posts.push(post);
        !records.is_full()
    }

    /// Records a change that an editor asked for; false when the recorder is full.
    pub(super) fn add_change(&self, change: RequestedChange) -> bool {
        let mut records = self.records.lock();
        records.evidence.edited.changes.push(change);
        !records.is_full()
    }

    pub(super) fn add_followed_stream(&self, stream: StreamRecord<LogEntry>) {
        let mut records = self.records.lock();
        records.received += stream.received.len();
        records.evidence.edited.streams.push(stream);
    }

    /// Records a call by which a user joins or leaves a room, in the order of the user's calls.
    pub(super) fn add_membership_call(&self, call: MembershipCall) {
        self.records.lock().evidence.membership_calls.push(call);
    }

    /// Records what a device got of all rooms of its user.
    pub(super) fn add_user_record(&self, record: UserRecord) {
        let mut records = self.records.lock();
        records.received += record.received.len();
        records.evidence.user_streams.records.push(record);
    }

    /// Records a call by which a user with devices begins or ceases to be in a room, in the order of the user's calls.
    pub(super) fn add_user_room_call(&self, call: UserRoomCall) {
        self.records.lock().evidence.user_streams.calls.push(call);
    }

    pub(super) fn add_departure(&self, departure: Departure) {
        self.records.lock().evidence.departures.push(departure);
    }

    pub(super) fn add_rejoin(&self, rejoin: Rejoin) {
        self.records.lock().evidence.rejoins.push(rejoin);
    }

    pub(super) fn add_room_response(&self, response: RoomResponse) {
        self.records.lock().evidence.room_responses.push(response);
    }

    pub(super) fn add_history_page(&self, page: HistoryPage) {
        let mut records = self.records.lock();
        if records.evidence.history_pages.len() < MAX_HISTORY_PAGES {
            records.evidence.history_pages.push(page);
        }
    }

    pub(super) fn add_slow_post(&self, interval: GatewayInterval) {
        self.records.lock().evidence.slow_posts.push(interval);
    }

    pub(super) fn add_unexpected_response(&self, response: String) {
        self.records.lock().evidence.unexpected_responses.push(response);
    }

    /// The ids acknowledged since there were `known`.
    pub(crate) fn acknowledged_since(&self, known: usize) -> Vec<Uuid> {
        self.records.lock().acknowledged.get(known..).unwrap_or_default().to_vec()
    }

    /// How many posts were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.records.lock().acknowledged.len()
    }

    /// What `inspect` finds in what was recorded so far. Clients that record something wait meanwhile.
    pub(super) fn inspect<T>(&self, inspect: impl FnOnce(&Evidence) -> T) -> T {
        inspect(&self.records.lock().evidence)
    }

    /// Takes out what was recorded; `None` if it was too much to be complete.
    pub(super) fn take_evidence(&self) -> Option<Evidence> {
        let mut records = self.records.lock();
        (!records.is_full()).then(|| std::mem::take(&mut records.evidence))
    }
}

impl Records {
    fn is_full(&self) -> bool {
        let edited = &self.evidence.edited;
        let posts = self.evidence.posts.len() + edited.posts.len() + edited.changes.len();
        let posts = posts + self.evidence.membership_calls.len();
        posts >= MAX_POSTS || self.received >= MAX_RECEIVED
    }
}
