//! How much traffic there is, and what all of its clients agree on.

use std::time::Duration;

/// How long a client waits for a response; more than the 5 s within which the product promises one.
pub(super) const RESPONSE_WITHIN: Duration = Duration::from_secs(8);
/// Room names begin with this where room recreators own them.
pub(crate) const RECREATED_ROOMS: &str = "recreated-";
/// Room names begin with this where rejoiners own them.
pub(crate) const REJOINED_ROOMS: &str = "rejoined-";
/// Room names begin with this where editors change messages.
pub(crate) const EDITED_ROOMS: &str = "edited-";

/// Room names begin with this where membership changers own them.
pub(super) const CHANGERS_ROOMS: &str = "changing-";

/// How much traffic there is.
#[derive(Debug, Clone, Copy)]
pub struct TrafficPlan {
    /// What everything random follows from.
    pub seed: u64,
    /// Rooms.
    pub rooms: usize,
    /// Senders in each room, each of which posts one message after the other.
    pub senders_per_room: usize,
    /// Messages a second that all of them post together, as far as responses come in time.
    pub per_second: f64,
    /// Subscribers in each room that hold their stream for as long as they can.
    pub steady_per_room: usize,
    /// Subscribers in each room that move between gateways.
    pub roaming_per_room: usize,
    /// Share of messages that are posted with an idempotency key, and repeated until their outcome is known.
    pub keyed: f64,
    /// Users who join, read and leave.
    pub transient_readers: usize,
    /// Users who leave and come back at once.
    pub rejoiners: usize,
    /// Users who delete rooms and create them again.
    pub room_recreators: usize,
    /// Users who join and leave rooms, and create and delete rooms of their own, while devices follow all their rooms.
    pub membership_changers: usize,
    /// Devices of each of them, and of the user who is in all rooms. The first of each holds its streams for as long as it can.
    pub devices_per_user: usize,
    /// Whether the other devices move between gateways and catch up by calls, or hold their streams as well.
    pub devices_roam: bool,
    /// Rooms in which messages are edited, deleted and reacted to, beside the others.
    pub edited_rooms: usize,
    /// Users in each of these who post, edit, delete and react.
    pub editors_per_room: usize,
    /// What all of them do a second together, as far as responses come in time.
    pub edits_per_second: f64,
}

impl TrafficPlan {
    /// The full load: 500 messages a second over 20 rooms.
    #[must_use]
    pub fn full(seed: u64) -> Self {
        Self {
            seed,
            rooms: 20,
            senders_per_room: 3,
            per_second: 550.0,
            steady_per_room: 1,
            roaming_per_room: 1,
            keyed: 0.8,
            transient_readers: 3,
            rejoiners: 2,
            room_recreators: 2,
            membership_changers: 2,
            devices_per_user: 2,
            devices_roam: true,
            edited_rooms: 2,
            editors_per_room: 3,
            edits_per_second: 20.0,
        }
    }

    /// The same without editors and their rooms, and without users with devices.
    #[must_use]
    pub fn without_editors(self) -> Self {
        Self {
            edited_rooms: 0,
            membership_changers: 0,
            devices_per_user: 0,
            ..self
        }
    }
}

/// The name of room `number`.
pub(super) fn room_name(number: usize) -> String {
    format!("room-{number}")
}

/// The name of edited room `number`.
pub(super) fn edited_room_name(number: usize) -> String {
    format!("{EDITED_ROOMS}{number}")
}
