//! Who joins and leaves stands in the log of the room: once, in order, whoever is away or ends in between.

use rig::{ApiClient, Backend, EventStream, Failure, Method, SseEvent, Stack, eventually};
use serde_json::{Value, json};

use crate::fixture::{SOON, with_lobby};

async fn join(client: &ApiClient) {
    client.call(Method::POST, "/chat/lobby/join").await.unwrap().expect(204).unwrap();
}

async fn leave(client: &ApiClient) {
    client.call(Method::DELETE, "/chat/lobby/message").await.unwrap().expect(204).unwrap();
}

/// The next entry, of any kind.
async fn entry(stream: &mut EventStream) -> SseEvent {
    loop {
        let event = stream.next(SOON).await.unwrap().unwrap();
        if event.name != "ping" {
            return event;
        }
    }
}

/// The entries of `lobby` from the beginning up to the message `last`, in words.
async fn log(client: &ApiClient, last: &str) -> Vec<String> {
    let epoch = client.stream("lobby").open().await.unwrap().ready().epoch().unwrap();
    let mut stream = client.stream("lobby").after(&format!("{epoch}-0")).open().await.unwrap();
    let mut words = Vec::new();
    for expected in 1.. {
        let event = entry(&mut stream).await;
        assert_eq!(event.seq().unwrap(), expected);
        let data = event.json().unwrap();
        let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
        words.push(match event.name.as_str() {
            "message" => text("message"),
            "member" => format!("{} {}", text("member"), text("change")),
            name => format!("{name} {}", text("change")),
        });
        if event.name == "message" && text("message") == last {
            break;
        }
    }
    words
}

async fn check_live_and_replay(backend: Backend) {
    let (stack, ann) = with_lobby(Stack::builder().backend(backend).gateways(2).start().await.unwrap()).await;
    let bob = ann.register("bob").await.unwrap().moved_to(&stack.gateways[1].url()).unwrap();
    let mut stream = ann.stream("lobby").open().await.unwrap();
    let epoch = stream.ready().epoch().unwrap();
    // Posting to a public room joins it, once.
    bob.post("lobby", "hello").await.unwrap();
    bob.post("lobby", "again").await.unwrap();
    leave(&bob).await;
    leave(&bob).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(entry(&mut stream).await);
    }
    join(&bob).await;
    seen.push(entry(&mut stream).await);
    let names: Vec<&str> = seen.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["member", "message", "message", "member", "member"]);
    // The owner leaves too, and her stream ends.
    leave(&ann).await;
    stream.bye(SOON).await.unwrap();
    let joined = seen[0].json().unwrap();
    let expected = json!({
        "seq": 2, "name": "lobby", "username": "bob", "public_id": "bob", "created_on": joined["created_on"],
        "change": "joined", "member": "bob", "role": "member",
    });
    assert_eq!(joined, expected);
    let left = seen[3].json().unwrap();
    assert_eq!((&left["change"], &left["member"], left.get("role")), (&json!("left"), &json!("bob"), None));

    // A replay is the same, and begins with the creation.
    let mut replay = bob.stream("lobby").after(&format!("{epoch}-0")).open().await.unwrap();
    let created = entry(&mut replay).await;
    assert_eq!((created.name.as_str(), created.seq().unwrap()), ("room", 1));
    let created = created.json().unwrap();
    let expected = json!({
        "seq": 1, "name": "lobby", "username": "ann", "public_id": "ann", "created_on": created["created_on"],
        "change": "created", "private": false,
    });
    assert_eq!(created, expected);
    for event in &seen {
        assert_eq!(&entry(&mut replay).await, event);
    }
    let left = entry(&mut replay).await.json().unwrap();
    assert_eq!((&left["change"], &left["member"]), (&json!("left"), &json!("ann")));
    // History shows messages alone.
    let history = ann.whole_history("lobby").await.unwrap();
    let texts: Vec<&Value> = history.iter().map(|message| &message["message"]).collect();
    assert_eq!(texts, ["hello", "again"]);
}

#[tokio::test]
async fn members_show_live_and_in_replay() {
    check_live_and_replay(Backend::Sqlite).await;
}

#[tokio::test]
async fn members_show_live_and_in_replay_on_postgres() {
    check_live_and_replay(Backend::Postgres).await;
}

async fn check_without_worker(backend: Backend) {
    let (mut stack, ann) = with_lobby(Stack::builder().backend(backend).start().await.unwrap()).await;
    let bob = ann.register("bob").await.unwrap();
    stack.worker.process.stop(SOON).await.unwrap();
    join(&bob).await;
    leave(&bob).await;
    join(&bob).await;
    // It is in effect already.
    let users = ann.get("/chat/lobby/users").await.unwrap().json().unwrap();
    assert_eq!(users, json!(["ann", "bob"]));
    // The hints are lost: as if the gateway had ended before it sent them.
    stack.gateways[0].kill().unwrap();
    let mut redis = stack.redis.connect().await.unwrap();
    let mut streams = Vec::new();
    for partition in 0..16 {
        streams.push(stack.accept_stream(partition).await.unwrap());
    }
    redis::cmd("DEL").arg(&streams).exec_async(&mut redis).await.unwrap();
    stack.gateways[0].start().unwrap();
    stack.worker.start().unwrap();
    stack.wait_ready().await.unwrap();
    eventually(SOON, "the entries are in the log", async || {
        let page = ann.get("/chat/lobby/messagehistory").await?;
        match page.header("last-event-id") {
            Some(id) if id.ends_with("-4") => Ok(()),
            id => Err(Failure::new(format!("{id:?}"))),
        }
    })
    .await
    .unwrap();
    ann.post("lobby", "end").await.unwrap();
    assert_eq!(log(&ann, "end").await, ["room created", "bob joined", "bob left", "bob joined", "end"]);
}

#[tokio::test]
async fn members_without_worker_and_hint_are_found() {
    check_without_worker(Backend::Sqlite).await;
}

#[tokio::test]
async fn members_without_worker_and_hint_are_found_on_postgres() {
    check_without_worker(Backend::Postgres).await;
}

/// The worker is killed at `step` of the commit that takes rows of the outbox.
async fn check_kill_at(step: &str) {
    let (mut stack, ann) = with_lobby(Stack::builder().without_rates().start().await.unwrap()).await;
    let bob = ann.register("bob").await.unwrap();
    stack.worker.restart_to_park_at(step).await.unwrap();
    join(&bob).await;
    stack.worker.wait_parked(SOON).await.unwrap();
    ann.post("lobby", "while it hangs").await.unwrap();
    stack.worker.replace_parked().unwrap();
    leave(&bob).await;
    bob.post("lobby", "back").await.unwrap();
    ann.post("lobby", "end").await.unwrap();
    let expected = [
        "room created",
        "bob joined",
        "while it hangs",
        "bob left",
        "bob joined",
        "back",
        "end",
    ];
    assert_eq!(log(&ann, "end").await, expected, "killed at {step}");
}

#[tokio::test]
async fn worker_killed_before_its_commit_leaves_members_in_order() {
    check_kill_at("before_commit").await;
}

#[tokio::test]
async fn worker_killed_after_its_commit_leaves_members_in_order() {
    check_kill_at("after_commit").await;
}
