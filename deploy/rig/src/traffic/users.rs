//! The users of all clients, and their names.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::plan::TrafficPlan;
use crate::api_client::ApiClient;
use crate::failure::{Failure, Result};
use crate::stack::Stack;

/// Users who are registered at a time: the gateway bounds the hashing of passwords, and refuses what would wait too long.
const REGISTERED_AT_ONCE: usize = 4;

/// The users of all clients.
pub(super) struct Users {
    pub(super) reader: ApiClient,
    pub(super) sender: ApiClient,
    pub(super) subscriber: ApiClient,
    pub(super) transient_readers: Vec<ApiClient>,
    pub(super) rejoiners: Vec<ApiClient>,
    pub(super) room_recreators: Vec<ApiClient>,
    pub(super) membership_changers: Vec<ApiClient>,
    pub(super) editors: Vec<ApiClient>,
}

impl Users {
    /// Registers everybody whom `plan` asks for.
    pub(super) async fn register(stack: &Stack, plan: &TrafficPlan) -> Result<Self> {
        let editors = plan.edited_rooms * plan.editors_per_room;
        let names = ["reader", SENDER, SUBSCRIBER].map(str::to_owned).into_iter();
        let names = names
            .chain((0..plan.transient_readers).map(transient_reader_name))
            .chain((0..plan.rejoiners).map(rejoiner_name))
            .chain((0..plan.room_recreators).map(|number| format!("room-recreator-{number}")))
            .chain((0..plan.membership_changers).map(membership_changer_name))
            .chain((0..editors).map(editor_name));
        let users: Vec<ApiClient> = stream::iter(names)
            .map(async |name| stack.client()?.register(&name).await)
            .buffered(REGISTERED_AT_ONCE)
            .try_collect()
            .await?;
        let mut users = users.into_iter();
        let mut next = |count: usize| users.by_ref().take(count).collect::<Vec<_>>();
        let [reader, sender, subscriber] = next(3).try_into().map_err(|_| Failure::new("three users"))?;
        Ok(Self {
            reader,
            sender,
            subscriber,
            transient_readers: next(plan.transient_readers),
            rejoiners: next(plan.rejoiners),
            room_recreators: next(plan.room_recreators),
            membership_changers: next(plan.membership_changers),
            editors: next(editors),
        })
    }
}

/// Names of the user of all senders, and of the user of all subscribers and followers.
pub(super) const SENDER: &str = "sender";
pub(super) const SUBSCRIBER: &str = "subscriber";

/// The name of the user who is transient reader `number`.
pub(super) fn transient_reader_name(number: usize) -> String {
    format!("transient-reader-{number}")
}

/// The name of the user who is editor `number`.
pub(super) fn editor_name(number: usize) -> String {
    format!("editor-{number}")
}

/// The name of the user who is membership changer `number`.
pub(super) fn membership_changer_name(number: usize) -> String {
    format!("membership-changer-{number}")
}

/// The name of the user who is rejoiner `number`.
pub(super) fn rejoiner_name(number: usize) -> String {
    format!("rejoiner-{number}")
}
