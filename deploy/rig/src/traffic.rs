//! Seeded random traffic by real clients, and the recorder in which they write down what they did and saw.
//!
//! ```text
//! Sender             posts one message after the other to one room, through any gateway, again until it knows the outcome
//! SubscriberClient   follows one room, is cut off, stays offline for a while, comes back at any gateway with its last id
//! TransientReader    joins, reads history, leaves, and watches whether its stream really ends
//! Rejoiner           leaves and comes back at once, at another gateway
//! RoomRecreator      creates a room, deletes it and creates it again, and asks for it at every gateway
//! MembershipChanger  joins and leaves rooms, creates and deletes rooms of its own
//! UserDevice         follows all rooms of its user, catches up by calls in between, comes back at any gateway with its cursor or one
//!                    that it kept
//! Editor             posts, replies, edits, deletes, reacts, leaves and joins in a room of editors, again until it knows the outcome
//! Follower           applies the whole log of such a room, comes back with its last id or one that it kept; one of them whenever
//!                    something was deleted
//! ```
//!
//! The seed decides who posts what, and when who moves. What the network and the machine make of it, it does not decide.

mod editor;
mod membership_changer;
mod pace;
mod plan;
mod recorder;
mod rejoiner;
mod room_reader;
mod room_recreator;
mod sender;
mod start;
mod texts;
mod transient_reader;
mod user_device;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::plan::TrafficPlan;
pub(crate) use self::plan::{EDITED_ROOMS, RECREATED_ROOMS, REJOINED_ROOMS};
use self::plan::{edited_room_name, room_name};
pub(crate) use self::recorder::Recorder;
use self::room_reader::Heads;
use self::user_device::EndRooms;
use crate::api_client::ApiClient;
use crate::evidence::{Evidence, ExistingRoom, FinalPosition, FinalRooms};
use crate::failure::{Explain as _, Failure, Result};

/// How long subscribers may take to end after they were to have everything: the time-outs of opening a stream and of silence.
const SUBSCRIBERS_END_WITHIN: Duration = Duration::from_mins(1);
/// How long senders may take to finish the message they are posting; each gives one up after a minute.
const FINISH_WITHIN: Duration = Duration::from_secs(90);

/// Running traffic.
pub struct Traffic {
    plan: TrafficPlan,
    recorder: Arc<Recorder>,
    reader: ApiClient,
    stop: CancellationToken,
    senders: JoinSet<()>,
    /// Transient readers, rejoiners and room recreators.
    movers: JoinSet<()>,
    subscribers: JoinSet<FinalPosition>,
    heads: watch::Sender<Heads>,
    followers: JoinSet<FinalPosition>,
    /// The heads of the edited rooms.
    log_heads: watch::Sender<Heads>,
    devices: JoinSet<FinalRooms>,
    /// All rooms, for those who follow all of a user.
    end_rooms: watch::Sender<EndRooms>,
    settle_within: Duration,
}

impl Traffic {
    /// How many posts were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.recorder.acknowledged()
    }

    /// What `inspect` finds in what the clients have recorded so far; they wait meanwhile.
    pub fn inspect<T>(&self, inspect: impl FnOnce(&Evidence) -> T) -> T {
        self.recorder.inspect(inspect)
    }

    /// Time since the traffic began, by the clock of all evidence.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.recorder.now()
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// A user who owns all rooms, reads, and does nothing else.
    #[must_use]
    pub fn reader(&self) -> &ApiClient {
        &self.reader
    }

    /// The names of all rooms, by their numbers.
    #[must_use]
    pub fn rooms(&self) -> Vec<String> {
        (0..self.plan.rooms).map(room_name).collect()
    }

    /// The names of the rooms whose messages are edited, by their numbers.
    #[must_use]
    pub fn edited_rooms(&self) -> Vec<String> {
        (0..self.plan.edited_rooms).map(edited_room_name).collect()
    }

    /// Lets senders and editors finish what they are doing, and ends everybody else but the subscribers and followers.
    pub async fn stop_changes(&mut self) -> Result<()> {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.senders.join_next().await {
                ended.explain(|| "a sender".to_owned())?;
            }
            while let Some(ended) = self.movers.join_next().await {
                ended.explain(|| "a reader that joins and leaves".to_owned())?;
            }
            Ok(())
        };
        tokio::time::timeout(FINISH_WITHIN, all).await.explain(|| "clients do not finish".to_owned())?
    }

    /// Announces the last seq of each room, of each edited room, and all rooms that exist to those who follow them, waits for them, and
    /// returns what everybody recorded.
    pub async fn finish(
        mut self,
        heads: Vec<i64>,
        log_heads: Vec<i64>,
        end_rooms: BTreeMap<String, ExistingRoom>,
    ) -> Result<Evidence> {
        self.end_rooms.send_replace(Some(Arc::new(end_rooms.clone())));
        self.heads.send_replace(Some(Arc::new(heads)));
        self.log_heads.send_replace(Some(Arc::new(log_heads)));
        let (mut final_positions, mut followed_to, mut final_rooms) = (Vec::new(), Vec::new(), Vec::new());
        let all = async {
            while let Some(position) = self.subscribers.join_next().await {
                final_positions.push(position.explain(|| "a subscriber".to_owned())?);
            }
            while let Some(position) = self.followers.join_next().await {
                followed_to.push(position.explain(|| "a follower".to_owned())?);
            }
            while let Some(rooms) = self.devices.join_next().await {
                final_rooms.push(rooms.explain(|| "a device".to_owned())?);
            }
            Ok::<_, Failure>(())
        };
        let within = self.settle_within + SUBSCRIBERS_END_WITHIN;
        tokio::time::timeout(within, all).await.explain(|| "subscribers do not end".to_owned())??;
        let mut evidence =
            self.recorder.take_evidence().ok_or_else(|| Failure::new("more was posted than a run can record"))?;
        evidence.final_positions = final_positions;
        evidence.edited.final_positions = followed_to;
        evidence.user_streams.final_rooms = final_rooms;
        evidence.user_streams.rooms = end_rooms;
        Ok(evidence)
    }
}
