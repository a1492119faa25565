//! A day of a phone and a laptop of one user: waking up, reading, a tunnel, another network, sleep, and rooms that come and go meanwhile.

use std::time::{Duration, Instant};

use rig::{ApiClient, Backend, Failure, LinkEnds, Method, NetworkCondition, Result, Stack, eventually};
use serde_json::{Value, json};

use crate::fixture::{SOON, with_lobby};
use crate::user_device::Device;

/// Within this time a phone that is in another network has everything; the server must not wait for its old connection.
const BACK_WITHIN: Duration = Duration::from_secs(4);

/// Messages that come while the phone is in the tunnel, in each room.
const IN_THE_TUNNEL: usize = 30;

/// Everybody of the day.
struct Day {
    stack: Stack,
    /// The gateways as clients reach them: through links that can be cut.
    urls: Vec<String>,
    ann: ApiClient,
    bob: ApiClient,
    phone: Device,
    laptop: Device,
}

impl Day {
    /// `ann` has three rooms, and `bob` is in two of them.
    async fn begin(backend: Backend) -> Self {
        let stack = Stack::builder().without_limits().backend(backend).gateways(2).links().start().await.unwrap();
        let (stack, ann) = with_lobby(stack).await;
        let urls = stack.gateway_urls();
        for room in ["work", "family"] {
            ann.create_room(room).await.unwrap();
        }
        let bob = ann.register("bob").await.unwrap();
        for room in ["lobby", "work"] {
            join(&bob, room).await;
        }
        let phone = Device::new(&bob.moved_to(&urls[0]).unwrap());
        // Another session of the same user, at the other gateway.
        let laptop = Device::new(&bob.login("bob").await.unwrap().moved_to(&urls[1]).unwrap());
        Self {
            stack,
            urls,
            ann,
            bob,
            phone,
            laptop,
        }
    }

    /// What the rooms of bob are, by name.
    async fn state(&self, room: &str) -> Value {
        let answer = self.bob.get("/user/sync?preview=0").await.unwrap().expect(200).unwrap().json().unwrap();
        let mut rooms = answer["rooms"].as_array().unwrap().iter();
        rooms.find(|state| state["name"] == room).cloned().unwrap()
    }

    /// The night's messages, the first call, a stream from there, and a message that is read on the phone.
    async fn wake_up(&mut self) {
        for text in ["good night", "good morning"] {
            post(&self.ann, "lobby", text).await.unwrap();
        }
        let answers = self.phone.catch_up(50).await.unwrap();
        let mut rooms = answers[0]["rooms"].as_array().unwrap().iter();
        let lobby = rooms.find(|room| room["name"] == "lobby").unwrap();
        assert_eq!(lobby["unread"], 2);
        assert_eq!(self.phone.texts("lobby"), ["good morning"], "a preview");
        self.phone.open_with(&[("client", "phone")]).await.unwrap();
        self.laptop.open_with(&[("client", "laptop")]).await.unwrap();
        let seq = lobby["head"].as_i64().unwrap();
        let mark = self.phone.client.request(Method::PUT, "/chat/lobby/read").json(&json!({"seq": seq}));
        self.phone.client.send(mark).await.unwrap().expect(204).unwrap();
        let read = self.laptop.event("read").await.unwrap();
        assert_eq!((&read["name"], &read["unread"]), (&json!("lobby"), &json!(0)));
        self.ann.post("work", "at nine").await.unwrap();
        for device in [&mut self.phone, &mut self.laptop] {
            device.message("at nine").await.unwrap();
        }
    }

    /// Nothing goes through to the phone, and what is sent to it is not acknowledged. It gets out in another network.
    async fn tunnel(&mut self) {
        let link = self.stack.link(LinkEnds::ClientGateway(0)).unwrap();
        link.proxy.set(NetworkCondition::Blocked { up: true, down: true });
        for number in 0..IN_THE_TUNNEL {
            for room in ["lobby", "work"] {
                self.ann.post(room, &format!("{room} {number}")).await.unwrap();
            }
        }
        self.laptop.message(&format!("work {}", IN_THE_TUNNEL - 1)).await.unwrap();
        let began = Instant::now();
        self.phone.move_to(&self.urls[1]).unwrap();
        let ready = self.phone.open_with(&[("client", "phone")]).await.unwrap();
        assert_eq!(ready["recovered"], true);
        for room in ["lobby", "work"] {
            let last = format!("{room} {}", IN_THE_TUNNEL - 1);
            if !self.phone.texts(room).contains(&last.as_str()) {
                self.phone.message(&last).await.unwrap();
            }
        }
        assert!(began.elapsed() < BACK_WITHIN, "{:?}", began.elapsed());
        let link = self.stack.link(LinkEnds::ClientGateway(0)).unwrap();
        link.proxy.clear_faults();
        link.proxy.cut();
    }

    /// The phone sleeps, and on the laptop a room is left, one joined, and one created.
    async fn sleep(&mut self) {
        self.phone.close();
        leave(&self.laptop.client, "work").await;
        assert_eq!(self.laptop.room("work").await.unwrap()["gone"], true);
        join(&self.laptop.client, "family").await;
        self.laptop.room("family").await.unwrap();
        self.laptop.client.create_room("garden").await.unwrap();
        self.laptop.room("garden").await.unwrap();
        post(&self.ann, "family", "dinner is ready").await.unwrap();
        self.laptop.message("dinner is ready").await.unwrap();
        post(&self.ann, "work", "he is not here").await.unwrap();
        let seq = post(&self.ann, "lobby", "see you").await.unwrap();
        self.laptop.message("see you").await.unwrap();
        let mark = self.laptop.client.request(Method::PUT, "/chat/lobby/read").json(&json!({"seq": seq}));
        self.laptop.client.send(mark).await.unwrap().expect(204).unwrap();
        post(&self.ann, "lobby", "good night again").await.unwrap();
        self.laptop.message("good night again").await.unwrap();
    }

    /// One call brings everything, and the stream goes on from there.
    async fn wake_up_again(&mut self) {
        let answers = self.phone.catch_up(50).await.unwrap();
        assert_eq!(answers.len(), 1, "one call");
        assert_eq!(answers[0]["gone"], json!(["work"]));
        let rooms = answers[0]["rooms"].as_array().unwrap();
        let lobby = rooms.iter().find(|room| room["name"] == "lobby").unwrap();
        assert_eq!(lobby["unread"], 1, "what came after the mark on the laptop");
        assert_eq!(self.phone.texts("lobby").last(), Some(&"good night again"));
        assert!(!self.phone.messages.iter().any(|(_, text)| text == "he is not here"));
        let ready = self.phone.open_with(&[("client", "phone")]).await.unwrap();
        assert_eq!((&ready["recovered"], &ready["rooms"]), (&json!(true), &json!([])));
        self.bob.post("garden", "quiet").await.unwrap();
        for device in [&mut self.phone, &mut self.laptop] {
            device.message("quiet").await.unwrap();
        }
    }
}

async fn join(client: &ApiClient, room: &str) {
    client.call(Method::POST, &format!("/chat/{room}/join")).await.unwrap().expect(204).unwrap();
}

async fn leave(client: &ApiClient, room: &str) {
    client.call(Method::DELETE, &format!("/chat/{room}/message")).await.unwrap().expect(204).unwrap();
}

/// Posts a message, waits until it is stored, and returns its seq.
async fn post(client: &ApiClient, room: &str, text: &str) -> Result<i64> {
    let id = client.post(room, text).await?;
    eventually(SOON, "the message is stored", async || {
        let newest = client.history(room, "?limit=1").await?;
        let stored = newest.first().filter(|message| message["id"] == id.as_str());
        stored.and_then(|message| message["seq"].as_i64()).ok_or_else(|| Failure::new("not yet"))
    })
    .await
}

async fn check_day(backend: Backend) {
    let mut day = Day::begin(backend).await;
    day.wake_up().await;
    day.tunnel().await;
    day.sleep().await;
    day.wake_up_again().await;
    // Both have the same rooms, to the same seqs, and the phone has what the laptop has.
    assert_eq!(day.phone.rooms, day.laptop.rooms);
    assert_eq!(day.phone.rooms.keys().collect::<Vec<_>>(), ["family", "garden", "lobby"]);
    assert_eq!(day.state("lobby").await["unread"], 1);
    let of_tunnel: Vec<String> = (0..IN_THE_TUNNEL).map(|number| format!("lobby {number}")).collect();
    let texts = day.phone.texts("lobby");
    assert_eq!(texts[1..=IN_THE_TUNNEL], of_tunnel);
    assert_eq!(texts[IN_THE_TUNNEL + 1..], ["see you", "good night again"]);
    // The first one is of the night, and the laptop was opened later.
    assert_eq!(day.laptop.texts("lobby"), texts[1..]);
}

#[tokio::test]
async fn phone_and_laptop_have_everything_after_a_day() {
    check_day(Backend::Sqlite).await;
}

#[tokio::test]
async fn phone_and_laptop_have_everything_after_a_day_on_postgres() {
    check_day(Backend::Postgres).await;
}
