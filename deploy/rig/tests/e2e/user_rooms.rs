//! A user's own rooms: what is unread, marks and settings that hold on all devices, lists by activity.

use rig::{ApiClient, Backend, Failure, HttpResponse, Method, Result, Stack, eventually};
use serde_json::{Value, json};

use crate::fixture::SOON;

/// Ann at the first gateway and Bob at the second one, both also at the other one.
struct Two {
    _stack: Stack,
    ann: ApiClient,
    bob: ApiClient,
    /// Bob's other device.
    bob_there: ApiClient,
}

async fn two(backend: Backend) -> Two {
    let stack = Stack::builder().without_rates().backend(backend).gateways(2).start().await.unwrap();
    let ann = stack.client().unwrap().register("ann").await.unwrap();
    let bob_there = ann.register("bob").await.unwrap();
    let bob = bob_there.moved_to(&stack.gateways[1].url()).unwrap();
    Two {
        _stack: stack,
        ann,
        bob,
        bob_there,
    }
}

async fn put(client: &ApiClient, path: &str, body: &Value) -> Result<HttpResponse> {
    client.send(client.request(Method::PUT, path).json(body)).await
}

/// The caller's rooms as `/user/rooms` lists them.
async fn rooms(client: &ApiClient) -> Result<Vec<Value>> {
    let list = client.get("/user/rooms").await?.expect(200)?.json()?;
    Ok(list["data"].as_array().cloned().unwrap_or_default())
}

/// Waits until what `look` sees of the caller's rooms is `expected`.
async fn wait_for(client: &ApiClient, expected: Value, look: impl Fn(&Value) -> Value) {
    eventually(SOON, "the rooms are as expected", async || {
        let seen: Vec<Value> = rooms(client).await?.iter().map(&look).collect();
        if json!(seen) == expected {
            Ok(())
        } else {
            Err(Failure::new(format!("{seen:?} are not {expected}")))
        }
    })
    .await
    .unwrap();
}

fn name_and_unread(room: &Value) -> Value {
    json!([room["name"], room["unread"]])
}

async fn unread_is_the_same_on_all_devices(backend: Backend) {
    let Two {
        _stack,
        ann,
        bob,
        bob_there,
    } = two(backend).await;
    ann.create_room("lobby").await.unwrap();
    bob.call(Method::POST, "/chat/lobby/join").await.unwrap().expect(204).unwrap();
    ann.post("lobby", "one").await.unwrap();
    let second = ann.post("lobby", "two").await.unwrap();
    let mention = json!({"message": "@bob", "mentions": ["bob"]});
    ann.send_json("/chat/lobby/message", &mention).await.unwrap().expect(204).unwrap();
    bob.post("lobby", "mine").await.unwrap();
    wait_for(&bob, json!([["lobby", 3]]), name_and_unread).await;
    let room = rooms(&bob).await.unwrap()[0].clone();
    let head = room["head"].as_i64().unwrap();
    assert_eq!((&room["kind"], &room["role"], &room["mentions"]), (&json!("room"), &json!("member"), &json!(1)));
    assert_eq!((&room["notify"], room.get("with")), (&json!({"level": "all"}), None));
    assert_eq!(room["last_message"], bob.history("lobby", "?limit=1").await.unwrap()[0]);
    wait_for(&ann, json!([["lobby", 1]]), name_and_unread).await;

    // A deleted message is not unread, on any gateway.
    ann.call(Method::DELETE, &format!("/chat/lobby/message/{second}"))
        .await
        .unwrap()
        .expect(204)
        .unwrap();
    wait_for(&bob_there, json!([["lobby", 2]]), name_and_unread).await;
    let read = async |client: &ApiClient, seq: i64| {
        put(client, "/chat/lobby/read", &json!({ "seq": seq })).await.unwrap().expect(204).unwrap();
    };
    read(&bob, head).await;
    let look = |room: &Value| json!([room["unread"], room["mentions"], room["read_seq"]]);
    wait_for(&bob_there, json!([[0, 0, head]]), look).await;
    // Never back, also through another gateway, and never past the end.
    read(&bob_there, 1).await;
    wait_for(&bob, json!([[0, 0, head]]), look).await;
    read(&bob_there, i64::MAX).await;
    wait_for(&bob, json!([[0, 0, head + 1]]), look).await;

    let until = "2099-01-01T02:00:00.5+02:00";
    let muted = put(&bob, "/chat/lobby/notify", &json!({"level": "none", "until": until})).await.unwrap();
    muted.expect(204).unwrap();
    let expected = json!([{"level": "none", "until": "2099-01-01T00:00:00.500Z"}]);
    wait_for(&bob_there, expected, |room| room["notify"].clone()).await;
    let over = json!({"level": "none", "until": "2020-01-01T00:00:00Z"});
    put(&bob, "/chat/lobby/notify", &over).await.unwrap().expect(204).unwrap();
    wait_for(&bob_there, json!([{"level": "all"}]), |room| room["notify"].clone()).await;
    put(&bob, "/chat/lobby/notify", &json!({"level": "mentions"})).await.unwrap().expect(204).unwrap();
    wait_for(&bob_there, json!([{"level": "mentions"}]), |room| room["notify"].clone()).await;
    bob.call(Method::DELETE, "/chat/lobby/message").await.unwrap().expect(204).unwrap();
    assert!(rooms(&bob_there).await.unwrap().is_empty());
}

#[tokio::test]
async fn unread_is_the_same_on_all_devices_on_sqlite() {
    unread_is_the_same_on_all_devices(Backend::Sqlite).await;
}

#[tokio::test]
async fn unread_is_the_same_on_all_devices_on_postgres() {
    unread_is_the_same_on_all_devices(Backend::Postgres).await;
}

async fn rooms_are_paged_by_activity(backend: Backend) {
    let Two { _stack, ann, bob, .. } = two(backend).await;
    for number in 0..7 {
        ann.create_room(&format!("room-{number}")).await.unwrap();
    }
    bob.create_room("of-bob").await.unwrap();
    eventually(SOON, "all rooms are in their logs", async || {
        let list = rooms(&ann).await?;
        let is_logged = list.len() == 7 && list.iter().all(|room| room["head"] == 1);
        is_logged.then_some(()).ok_or_else(|| Failure::new(format!("{list:?}")))
    })
    .await
    .unwrap();
    let mut posted = Vec::new();
    for name in ["room-3", "room-1", "room-5"] {
        ann.post(name, "hello").await.unwrap();
        posted.insert(0, name);
        // Of rooms in different partitions the order is that in which their messages are stored.
        eventually(SOON, "the rooms are in order", async || {
            let list = rooms(&ann).await?;
            let names: Vec<&Value> = list.iter().map(|room| &room["name"]).take(posted.len()).collect();
            if json!(names) == json!(posted) {
                Ok(())
            } else {
                Err(Failure::new(format!("{names:?}")))
            }
        })
        .await
        .unwrap();
    }
    let all = rooms(&ann).await.unwrap();
    assert_eq!(all.len(), 7);
    assert_eq!(all.iter().filter(|room| room.get("last_message").is_some()).count(), 3);
    let (mut path, mut paged) = (Some("/user/rooms?limit=3".to_owned()), Vec::new());
    while let Some(page) = path {
        let page = ann.get(&page).await.unwrap().expect(200).unwrap();
        paged.extend(page.json().unwrap()["data"].as_array().unwrap().clone());
        let link = page.header("link").map(str::to_owned);
        path = link.map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned());
    }
    assert_eq!(paged, all);
}

#[tokio::test]
async fn rooms_are_paged_by_activity_on_sqlite() {
    rooms_are_paged_by_activity(Backend::Sqlite).await;
}

#[tokio::test]
async fn rooms_are_paged_by_activity_on_postgres() {
    rooms_are_paged_by_activity(Backend::Postgres).await;
}

#[tokio::test]
async fn what_cannot_be_set_is_refused() {
    let Two { _stack, ann, bob, .. } = two(Backend::Sqlite).await;
    ann.create_room("lobby").await.unwrap();
    let private = ann.request(Method::POST, "/chat/secret").json(&json!({"private": true}));
    ann.send(private).await.unwrap().expect(201).unwrap();
    for (path, body) in [("read", json!({"seq": 1})), ("notify", json!({"level": "none"}))] {
        for (room, status, code) in [
            ("lobby", 403, "forbidden"),
            ("secret", 404, "room_not_found"),
            ("nowhere", 404, "room_not_found"),
        ] {
            let refused = put(&bob, &format!("/chat/{room}/{path}"), &body).await.unwrap();
            refused.expect_error(status, code).unwrap();
        }
    }
    for (path, body, code) in [
        ("read", json!({"seq": -1}), "invalid_field"),
        ("read", json!({"seq": 1.5}), "invalid_body"),
        ("read", json!({"seq": "1"}), "invalid_body"),
        ("read", json!({}), "invalid_body"),
        ("notify", json!({"level": "some"}), "invalid_field"),
        ("notify", json!({"level": "none", "until": "tomorrow"}), "invalid_field"),
        ("notify", json!({"until": "2099-01-01T00:00:00Z"}), "invalid_body"),
    ] {
        let refused = put(&ann, &format!("/chat/lobby/{path}"), &body).await.unwrap();
        refused.expect_error(400, code).unwrap();
    }
    for query in [
        "limit=0",
        "limit=101",
        "limit=x",
        "before=",
        "before=1",
        "before=x-y",
        "before=1-01",
    ] {
        ann.get(&format!("/user/rooms?{query}")).await.unwrap().expect_error(400, "invalid_field").unwrap();
    }
}
