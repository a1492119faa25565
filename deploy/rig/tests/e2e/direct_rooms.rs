//! Direct rooms: two users have one, whoever asks first, and nobody else sees it.

use std::time::Duration;

use futures_util::future::join;
use rig::{ApiClient, Backend, Failure, HttpResponse, Method, Result, Stack, eventually};
use serde_json::{Value, json};

use crate::fixture::SOON;
use crate::user_device::Device;

/// Long enough for something that must not come.
const SILENCE: Duration = Duration::from_millis(700);

/// Ann at the first gateway, Bob at the second one, and somebody else.
async fn three(backend: Backend) -> (Stack, [ApiClient; 3]) {
    let stack = Stack::builder().without_rates().backend(backend).gateways(2).start().await.unwrap();
    let ann = stack.client().unwrap().register("ann").await.unwrap();
    let bob = ann.register("bob").await.unwrap().moved_to(&stack.gateways[1].url()).unwrap();
    let cid = ann.register("cid").await.unwrap();
    (stack, [ann, bob, cid])
}

async fn open(client: &ApiClient, other: &str) -> Result<HttpResponse> {
    client.call(Method::PUT, &format!("/direct/{other}")).await
}

/// The other members of the caller's direct rooms.
async fn partners(client: &ApiClient) -> Vec<Value> {
    let list = client.get("/direct/").await.unwrap().expect(200).unwrap().json().unwrap();
    list["data"].as_array().unwrap().iter().map(|room| room["with"].clone()).collect()
}

async fn check_direct_room(backend: Backend) {
    let (_stack, [ann, bob, cid]) = three(backend).await;
    let created = open(&ann, "bob").await.unwrap().expect(201).unwrap().json().unwrap();
    let name = created["name"].as_str().unwrap();
    assert!(name.len() == 27 && name.starts_with('~'), "{name}");
    assert_eq!((&created["kind"], &created["with"]), (&json!("direct"), &json!("bob")));
    assert_eq!((&created["role"], &created["unread"]), (&json!("member"), &json!(0)));
    let other_side = open(&bob, "ann").await.unwrap().expect(200).unwrap().json().unwrap();
    assert_eq!((&other_side["name"], &other_side["with"]), (&json!(name), &json!("ann")));

    // Every call of rooms works with its name.
    let mut stream = bob.stream(name).open().await.unwrap();
    ann.post(name, "hello").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], "hello");
    bob.post(name, "hi").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], "hi");
    let said: Vec<Value> = ann.whole_history(name).await.unwrap().iter().map(|said| said["message"].clone()).collect();
    assert_eq!(said, ["hello", "hi"]);
    let members = ann.get(&format!("/chat/{name}/users")).await.unwrap().expect(200).unwrap();
    assert_eq!(members.json().unwrap(), json!(["ann", "bob"]));
    let found = ann.get(&format!("/search/messages?q=hello&room={name}")).await.unwrap().expect(200).unwrap();
    assert_eq!(found.json().unwrap()["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        bob.get("/search/messages?q=hello").await.unwrap().expect(200).unwrap().json().unwrap()["data"][0]["name"],
        name
    );

    // To others it does not exist, and it is in no list of names.
    let path = format!("/chat/{name}");
    for client in [&ann, &bob, &cid] {
        assert_eq!(client.get("/chat/").await.unwrap().expect(200).unwrap().json().unwrap()["data"], json!([]));
    }
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::GET, format!("{path}/users")),
        (Method::GET, format!("{path}/messagehistory")),
        (Method::GET, format!("{path}/message")),
        (Method::POST, format!("{path}/join")),
        (Method::DELETE, format!("{path}/message")),
    ] {
        cid.call(method, &path).await.unwrap().expect_error(404, "room_not_found").unwrap();
    }
    cid.try_post(name, "me too", None).await.unwrap().expect_error(404, "room_not_found").unwrap();
    let mark = cid.request(Method::PUT, &format!("{path}/read")).json(&json!({"seq": 1}));
    cid.send(mark).await.unwrap().expect_error(404, "room_not_found").unwrap();

    // Both are the same: nobody deletes it, or what the other one has said.
    for client in [&ann, &bob] {
        client.call(Method::DELETE, &path).await.unwrap().expect_error(403, "forbidden").unwrap();
        client.call(Method::POST, &format!("{path}/join")).await.unwrap().expect(204).unwrap();
    }
    let of_bob = bob.history(name, "?limit=1").await.unwrap()[0]["id"].as_str().unwrap().to_owned();
    let deletion = ann.call(Method::DELETE, &format!("{path}/message/{of_bob}")).await.unwrap();
    deletion.expect_error(403, "forbidden").unwrap();
    bob.call(Method::DELETE, &format!("{path}/message/{of_bob}")).await.unwrap().expect(204).unwrap();
}

#[tokio::test]
async fn two_users_talk_in_a_direct_room_on_sqlite() {
    check_direct_room(Backend::Sqlite).await;
}

#[tokio::test]
async fn two_users_talk_in_a_direct_room_on_postgres() {
    check_direct_room(Backend::Postgres).await;
}

/// Bob has left the room `name`, and both his devices know it.
async fn check_reaction_brings_nothing_back(
    (ann, bob): (&ApiClient, &ApiClient),
    name: &str,
    stream: &mut Device,
    calls: &mut Device,
) {
    assert_eq!(calls.catch_up_once().await.unwrap()["gone"], json!([name]));
    let id = ann.history(name, "?limit=1").await.unwrap()[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/chat/{name}/message/{id}/reactions/%F0%9F%91%8D");
    ann.call(Method::PUT, &path).await.unwrap().expect(204).unwrap();
    eventually(SOON, "the reaction is stored", async || {
        match ann.history(name, "?limit=1").await?[0].get("reactions") {
            Some(_) => Ok(()),
            None => Err(Failure::new("it is not")),
        }
    })
    .await
    .unwrap();
    assert!(partners(bob).await.is_empty());
    assert_eq!(bob.get("/user/rooms").await.unwrap().expect(200).unwrap().json().unwrap()["data"], json!([]));
    let answer = calls.catch_up_once().await.unwrap();
    assert_eq!((&answer["rooms"], &answer["gone"]), (&json!([]), &json!([])));
    stream.listen(SILENCE).await.unwrap();
    assert!(stream.rooms.is_empty(), "{:?}", stream.rooms);
    stream.close();
    assert_eq!(stream.open().await.unwrap()["rooms"], json!([]));
}

async fn check_hiding(backend: Backend) {
    let (_stack, [ann, bob, _cid]) = three(backend).await;
    let room = open(&ann, "bob").await.unwrap().expect(201).unwrap().json().unwrap();
    let name = room["name"].as_str().unwrap();
    assert_eq!((partners(&ann).await, partners(&bob).await), (vec![json!("bob")], vec![json!("ann")]));
    let leave = async || {
        bob.call(Method::DELETE, &format!("/chat/{name}/message")).await.unwrap().expect(204).unwrap();
        assert!(partners(&bob).await.is_empty());
        assert_eq!(bob.get("/user/rooms").await.unwrap().expect(200).unwrap().json().unwrap()["data"], json!([]));
    };
    leave().await;
    assert_eq!(partners(&ann).await, [json!("bob")], "the other one still sees it");
    ann.post(name, "are you there?").await.unwrap();
    eventually(SOON, "the room comes back", async || {
        let list = bob.get("/user/rooms").await?.expect(200)?.json()?;
        match &list["data"][0] {
            room if room["name"] == name && room["unread"] == 1 => Ok(()),
            other => Err(Failure::new(format!("the first room is {other}"))),
        }
    })
    .await
    .unwrap();
    let (mut stream, mut calls) = (Device::new(&bob), Device::new(&bob));
    stream.open().await.unwrap();
    stream.room(name).await.unwrap();
    calls.catch_up(50).await.unwrap();
    leave().await;
    assert_eq!(stream.room(name).await.unwrap()["gone"], true);
    check_reaction_brings_nothing_back((&ann, &bob), name, &mut stream, &mut calls).await;
    // The next message does, with what is new since it was left.
    ann.post(name, "and now?").await.unwrap();
    assert_eq!(stream.room(name).await.unwrap()["with"], "ann");
    stream.message("and now?").await.unwrap();
    assert_eq!(partners(&bob).await, [json!("ann")]);
    calls.catch_up(50).await.unwrap();
    assert_eq!(calls.texts(name), ["are you there?", "and now?"]);
    leave().await;
    // Who opens it again sees it again.
    let mut away = Device::new(&bob);
    away.catch_up(50).await.unwrap();
    open(&bob, "ann").await.unwrap().expect(200).unwrap();
    assert_eq!(partners(&bob).await, [json!("ann")]);
    // A device that did not have it meanwhile is told where its entries begin.
    let id = ann.post(name, "good that you are back").await.unwrap();
    eventually(SOON, "the message is stored", async || {
        let newest = ann.history(name, "?limit=1").await?;
        let is_stored = newest.first().is_some_and(|message| message["id"] == id.as_str());
        is_stored.then_some(()).ok_or_else(|| Failure::new("not yet"))
    })
    .await
    .unwrap();
    let ready = away.open().await.unwrap();
    away.message("good that you are back").await.unwrap();
    let last = away.rooms[name];
    assert!(ready["rooms"][0]["head"].as_i64().unwrap() < last, "{ready}");
}

#[tokio::test]
async fn left_direct_room_comes_back_with_the_next_message_on_sqlite() {
    check_hiding(Backend::Sqlite).await;
}

#[tokio::test]
async fn left_direct_room_comes_back_with_the_next_message_on_postgres() {
    check_hiding(Backend::Postgres).await;
}

async fn check_both_sides_at_once(backend: Backend) {
    /// Each with each: 1,035 pairs.
    const USERS: usize = 46;
    let (stack, [ann, ..]) = three(backend).await;
    let elsewhere = stack.gateways[1].url();
    let mut users = Vec::new();
    for number in 0..USERS {
        users.push(ann.register(&format!("user-{number}")).await.unwrap());
    }
    for (number, user) in users.iter().enumerate() {
        for (other, partner) in users.iter().enumerate().skip(number + 1) {
            let partner = partner.moved_to(&elsewhere).unwrap();
            let (name, other) = (format!("user-{number}"), format!("user-{other}"));
            let (here, there) = join(open(user, &other), open(&partner, &name)).await;
            let (here, there) = (here.unwrap(), there.unwrap());
            let mut statuses = [here.status(), there.status()];
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 201]);
            assert_eq!(here.json().unwrap()["name"], there.json().unwrap()["name"]);
        }
    }
    for user in &users {
        assert_eq!(partners(user).await.len(), USERS - 1);
    }
}

#[tokio::test]
async fn calls_from_both_sides_at_once_make_one_room_on_sqlite() {
    check_both_sides_at_once(Backend::Sqlite).await;
}

#[tokio::test]
async fn calls_from_both_sides_at_once_make_one_room_on_postgres() {
    check_both_sides_at_once(Backend::Postgres).await;
}

#[tokio::test]
async fn direct_rooms_are_opened_by_either_name_of_another_user() {
    let (_stack, [ann, ..]) = three(Backend::Sqlite).await;
    let id = "dan-by-id";
    let dan = json!({"email": "dan", "username": "Dan Ó", "password": "a quiet harbour", "public_id": id});
    ann.send_json("/user/", &dan).await.unwrap().expect(201).unwrap();
    let first = open(&ann, "Dan%20%C3%93").await.unwrap().expect(201).unwrap().json().unwrap();
    let again = open(&ann, id).await.unwrap().expect(200).unwrap().json().unwrap();
    // Its creation may stand in its log by now, or not yet.
    assert_eq!((&first["name"], &first["with"]), (&again["name"], &json!("Dan Ó")));
    open(&ann, "ann").await.unwrap().expect_error(422, "direct_with_oneself").unwrap();
    for nobody in ["nobody", "%00", &"x".repeat(200)] {
        open(&ann, nobody).await.unwrap().expect_error(404, "user_not_found").unwrap();
    }
    // No other room can have such a name, known or not.
    for name in [first["name"].as_str().unwrap(), "~abcdefghijklmnopqrstuvwxyz", "~x"] {
        let path = format!("/chat/{name}");
        ann.call(Method::POST, &path).await.unwrap().expect_error(400, "invalid_field").unwrap();
    }
    ann.get("/chat/~abcdefghijklmnopqrstuvwxyz")
        .await
        .unwrap()
        .expect_error(404, "room_not_found")
        .unwrap();
    let page = ann.get("/direct?limit=1").await.unwrap().expect(200).unwrap();
    assert_eq!(page.header("link"), Some("</direct?after=Dan%20%C3%93&limit=1>; rel=\"next\""));
    let rest = ann.get("/direct?after=Dan%20%C3%93&limit=1").await.unwrap().expect(200).unwrap();
    assert_eq!(rest.json().unwrap()["data"], json!([]));
}
