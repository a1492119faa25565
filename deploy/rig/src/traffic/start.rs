//! Starts the clients of the traffic: registers users, creates rooms, lets those join who stay, and begins.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use reqwest::Method;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Traffic;
use super::editor::{Editor, Memory, Postings};
use super::membership_changer::MembershipChanger;
use super::pace::Pace;
use super::plan::{TrafficPlan, edited_room_name, room_name};
use super::recorder::Recorder;
use super::rejoiner::Rejoiner;
use super::room_reader::{Follower, RoomReader, SubscriberClient};
use super::room_recreator::RoomRecreator;
use super::sender::Sender;
use super::transient_reader::TransientReader;
use super::user_device::UserDevice;
use super::users::{
    SENDER, SUBSCRIBER, Users, editor_name, membership_changer_name, rejoiner_name, transient_reader_name,
};
use crate::api_client::ApiClient;
use crate::evidence::{MembershipCall, UserRoomCall};
use crate::failure::Result;
use crate::stack::Stack;

/// Followers of each edited room. The first holds its streams for as long as they last, and the last begins a new one, shortly before
/// the end of the log, whenever a deletion was acknowledged.
const FOLLOWERS_PER_ROOM: usize = 4;

impl Traffic {
    /// Registers the users, creates the rooms, lets those join who will stay, and begins.
    ///
    /// Subscribers that have not seen everything `settle_within` after all is stored count as not having got it.
    pub async fn start(stack: &Stack, plan: TrafficPlan, settle_within: Duration) -> Result<Self> {
        let urls = stack.gateway_urls();
        let Users {
            reader,
            sender,
            subscriber,
            transient_readers,
            rejoiners,
            room_recreators,
            membership_changers,
            editors,
        } = Users::register(stack, &plan).await?;
        let rooms = (0..plan.rooms).map(room_name).chain((0..plan.edited_rooms).map(edited_room_name));
        for room in rooms {
            reader.create_room(&room).await?;
        }
        let mut traffic = Self {
            plan,
            recorder: Arc::new(Recorder::new()),
            reader,
            stop: CancellationToken::new(),
            senders: JoinSet::new(),
            movers: JoinSet::new(),
            subscribers: JoinSet::new(),
            heads: watch::Sender::new(None),
            followers: JoinSet::new(),
            log_heads: watch::Sender::new(None),
            devices: JoinSet::new(),
            end_rooms: watch::Sender::new(None),
            settle_within,
        };
        traffic.join_all((&sender, &subscriber), &editors).await?;
        traffic.start_subscribers(&at_each(&subscriber, &urls)?);
        let deletions: Vec<Arc<Notify>> = (0..plan.edited_rooms).map(|_| Arc::default()).collect();
        traffic.start_followers(&at_each(&subscriber, &urls)?, &deletions);
        traffic.start_devices(SUBSCRIBER, &at_each(&subscriber, &urls)?);
        for (number, user) in membership_changers.iter().enumerate() {
            traffic.start_devices(&membership_changer_name(number), &at_each(user, &urls)?);
            traffic.start_membership_changer(number, at_each(user, &urls)?);
        }
        for (number, user) in transient_readers.iter().enumerate() {
            traffic.start_transient_reader(number, at_each(user, &urls)?);
        }
        for (number, user) in rejoiners.iter().enumerate() {
            traffic.start_rejoiner(number, at_each(user, &urls)?);
        }
        for (number, user) in room_recreators.iter().enumerate() {
            traffic.start_room_recreator(number, at_each(user, &urls)?);
        }
        for number in 0..plan.rooms * plan.senders_per_room {
            traffic.start_sender(number, at_each(&sender, &urls)?);
        }
        let postings: Vec<Postings> = (0..plan.edited_rooms).map(|_| Postings::default()).collect();
        for (number, user) in editors.iter().enumerate() {
            traffic.start_editor(number, at_each(user, &urls)?, &postings, &deletions);
        }
        Ok(traffic)
    }

    /// Lets those join their rooms who stay there.
    async fn join_all(&self, (sender, subscriber): (&ApiClient, &ApiClient), editors: &[ApiClient]) -> Result<()> {
        for room in 0..self.plan.rooms {
            self.join(sender, SENDER, room_name(room)).await?;
            self.join(subscriber, SUBSCRIBER, room_name(room)).await?;
        }
        for room in 0..self.plan.edited_rooms {
            self.join(subscriber, SUBSCRIBER, edited_room_name(room)).await?;
        }
        for (number, editor) in editors.iter().enumerate() {
            self.join(editor, &editor_name(number), edited_room_name(number % self.plan.edited_rooms)).await?;
        }
        Ok(())
    }

    /// Lets a user join a room before the traffic begins.
    async fn join(&self, user: &ApiClient, name: &str, room: String) -> Result<()> {
        let sent = self.recorder.now();
        user.call(Method::POST, &format!("/chat/{room}/join")).await?.expect(204)?;
        self.recorder.add_user_room_call(UserRoomCall {
            username: name.to_owned(),
            room: room.clone(),
            is_in: true,
            sent,
            settled: self.recorder.now(),
            is_acknowledged: true,
        });
        self.recorder.add_membership_call(MembershipCall {
            room,
            username: name.to_owned(),
            joins: true,
            posted: None,
            settled: self.recorder.now(),
            is_acknowledged: true,
            unknown_tries: 0,
        });
        Ok(())
    }

    fn rng(&self, part: u64, number: usize) -> StdRng {
        // Each client has a sequence of its own, so that one more of them changes nothing for the others.
        StdRng::seed_from_u64(self.plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (part << 32) ^ number as u64)
    }

    fn start_sender(&mut self, number: usize, clients: Vec<ApiClient>) {
        let senders = self.plan.rooms * self.plan.senders_per_room;
        let sender = Sender {
            seed: self.plan.seed,
            number,
            room: number % self.plan.rooms,
            clients,
            pace: Pace::shared(senders, self.plan.per_second),
            keyed: self.plan.keyed,
            rng: self.rng(1, number),
            recorder: Arc::clone(&self.recorder),
        };
        self.senders.spawn(sender.run(self.stop.clone()));
    }

    fn start_subscribers(&mut self, clients: &[ApiClient]) {
        let per_room = self.plan.steady_per_room + self.plan.roaming_per_room;
        for number in 0..self.plan.rooms * per_room {
            let room = number % self.plan.rooms;
            let subscriber = RoomReader {
                number,
                room,
                name: room_name(room),
                clients: clients.to_vec(),
                roams: number >= self.plan.rooms * self.plan.steady_per_room,
                rng: self.rng(2, number),
                recorder: Arc::clone(&self.recorder),
                heads: self.heads.subscribe(),
                position: None,
                deadline: None,
                returns: None,
                reading: SubscriberClient,
            };
            self.subscribers.spawn(subscriber.run(self.settle_within));
        }
    }

    fn start_transient_reader(&mut self, number: usize, clients: Vec<ApiClient>) {
        let reader = TransientReader {
            name: transient_reader_name(number),
            clients,
            rooms: self.plan.rooms,
            rng: self.rng(3, number),
            recorder: Arc::clone(&self.recorder),
        };
        self.movers.spawn(reader.run(self.stop.clone()));
    }

    fn start_rejoiner(&mut self, number: usize, clients: Vec<ApiClient>) {
        let rejoiner = Rejoiner {
            number,
            name: rejoiner_name(number),
            clients,
            rng: self.rng(4, number),
            recorder: Arc::clone(&self.recorder),
        };
        self.movers.spawn(rejoiner.run(self.stop.clone()));
    }

    fn start_membership_changer(&mut self, number: usize, clients: Vec<ApiClient>) {
        let membership_changer = MembershipChanger {
            number,
            name: membership_changer_name(number),
            clients,
            rooms: self.plan.rooms,
            rng: self.rng(8, number),
            recorder: Arc::clone(&self.recorder),
        };
        self.movers.spawn(membership_changer.run(self.stop.clone()));
    }

    /// Starts the devices of a user.
    fn start_devices(&mut self, username: &str, clients: &[ApiClient]) {
        for of_user in 0..self.plan.devices_per_user {
            let number = self.devices.len();
            let device = UserDevice::new(
                (number, username.to_owned()),
                clients.to_vec(),
                self.plan.devices_roam && of_user > 0,
                self.rng(9, number),
                Arc::clone(&self.recorder),
                self.end_rooms.subscribe(),
            );
            self.devices.spawn(device.run(self.settle_within));
        }
    }

    fn start_room_recreator(&mut self, number: usize, clients: Vec<ApiClient>) {
        let recreator = RoomRecreator {
            number,
            clients,
            rng: self.rng(5, number),
            recorder: Arc::clone(&self.recorder),
        };
        self.movers.spawn(recreator.run(self.stop.clone()));
    }

    fn start_editor(
        &mut self,
        number: usize,
        clients: Vec<ApiClient>,
        postings: &[Postings],
        deletions: &[Arc<Notify>],
    ) {
        let editors = postings.len() * self.plan.editors_per_room;
        let room = number % postings.len();
        let editor = Editor {
            seed: self.plan.seed,
            number,
            name: editor_name(number),
            room,
            clients,
            pace: Pace::shared(editors, self.plan.edits_per_second),
            rng: self.rng(6, number),
            recorder: Arc::clone(&self.recorder),
            postings: Arc::clone(&postings[room]),
            deletions: Arc::clone(&deletions[room]),
            editors_of_room: (room..editors).step_by(postings.len()).map(editor_name).collect(),
            memory: Memory::default(),
        };
        self.senders.spawn(editor.run(self.stop.clone()));
    }

    fn start_followers(&mut self, clients: &[ApiClient], deletions: &[Arc<Notify>]) {
        for number in 0..self.plan.edited_rooms * FOLLOWERS_PER_ROOM {
            let room = number % self.plan.edited_rooms;
            let looks_back = number >= self.plan.edited_rooms * (FOLLOWERS_PER_ROOM - 1);
            let follower = RoomReader {
                number,
                room,
                name: edited_room_name(room),
                clients: clients.to_vec(),
                roams: number >= self.plan.edited_rooms && !looks_back,
                rng: self.rng(7, number),
                recorder: Arc::clone(&self.recorder),
                heads: self.log_heads.subscribe(),
                position: None,
                deadline: None,
                returns: looks_back.then(|| Arc::clone(&deletions[room])),
                reading: Follower { looks_back },
            };
            self.followers.spawn(follower.run(self.settle_within));
        }
    }
}

/// The same user at every gateway.
fn at_each(user: &ApiClient, urls: &[String]) -> Result<Vec<ApiClient>> {
    urls.iter().map(|url| user.moved_to(url)).collect()
}
