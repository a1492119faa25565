//! Runs the reducer that the documentation shows, in TypeScript, on a recorded stream: applying every event must give the history.

use std::fs;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::check::{Check, Paths};
use super::programs::Program;
use crate::api_client::ApiClient;
use crate::failure::{Failure, Result};
use crate::sse::{EventStream, SseEvent};
use crate::stack::Stack;

/// Longest time of the program, which takes a second.
const WITHIN: Duration = Duration::from_mins(1);

/// How long an event that must come may take.
const SOON: Duration = Duration::from_secs(10);

const ROOM: &str = "log";

/// Messages posted, each followed by one change.
const MESSAGES: usize = 24;

pub(super) async fn run(paths: &Paths) -> Check {
    Check::new("TypeScript reducer on a recorded stream", reduce(paths).await)
}

async fn reduce(paths: &Paths) -> Result<String> {
    let stack = Stack::builder().without_limits().start().await?;
    let (ann, bob) = (stack.client()?.register("ann").await?, stack.client()?.register("bob").await?);
    let eve = stack.client()?.register("eve").await?;
    ann.create_room(ROOM).await?;
    let mut live = ann.stream(ROOM).open().await?;
    let epoch = live.ready().epoch()?;
    eve.call(Method::POST, &format!("/chat/{ROOM}/join")).await?.expect(204)?;
    eve.call(Method::DELETE, &format!("/chat/{ROOM}/message")).await?.expect(204)?;
    change(&ann, &bob).await?;
    let head = head(&ann).await?;
    let mut events = vec![live.ready().clone()];
    read_to(head, &mut live, &mut events).await?;
    let history = ann.whole_history(ROOM).await?;
    let users: Value = ann.get(&format!("/chat/{ROOM}/users")).await?.expect(200)?.json()?;
    // What came live, and a replay of all of it.
    let mut replayed = ann.stream(ROOM).after(&format!("{epoch}-0")).open().await?;
    let mut again = vec![replayed.ready().clone()];
    read_to(head, &mut replayed, &mut again).await?;
    play(paths, ("live", &events), (&history, None)).await?;
    play(paths, ("replayed", &again), (&history, Some(&users))).await
}

/// Reads events of `stream` up to the entry `head`.
async fn read_to(head: i64, stream: &mut EventStream, events: &mut Vec<SseEvent>) -> Result<()> {
    while events.last().map_or(Ok(0), SseEvent::seq)? < head {
        events.push(stream.next(SOON).await?.ok_or_else(|| Failure::new("the stream ended"))?);
    }
    Ok(())
}

/// Posts, and changes some of what was posted in every way.
async fn change(ann: &ApiClient, bob: &ApiClient) -> Result<()> {
    let mut ids: Vec<String> = Vec::new();
    for number in 0..MESSAGES {
        let (author, other) = if number % 2 == 0 { (ann, bob) } else { (bob, ann) };
        let body = match ids.last().filter(|_| number % 5 == 3) {
            Some(last) => json!({"message": format!("reply {number}"), "reply_to": last, "mentions": ["ann"]}),
            None => json!({"message": format!("message {number} \u{2028} \"quoted\"")}),
        };
        let posted = author.send_json(&format!("/chat/{ROOM}/message"), &body).await?.expect(204)?;
        ids.push(posted.header("message-id").unwrap_or_default().to_owned());
        let path = format!("/chat/{ROOM}/message/{}", ids[number]);
        let reaction = format!("{path}/reactions/%F0%9F%8E%89");
        match number % 6 {
            0 | 1 => {
                let edit = author.request(Method::PATCH, &path).json(&json!({"message": format!("edited {number}")}));
                author.send(edit).await?.expect(200)?;
                other.call(Method::PUT, &reaction).await?.expect(204)?;
            }
            2 => {
                author.call(Method::PUT, &reaction).await?.expect(204)?;
                other.call(Method::PUT, &reaction).await?.expect(204)?;
                author.call(Method::DELETE, &reaction).await?.expect(204)?;
            }
            3 => {
                other.call(Method::PUT, &reaction).await?.expect(204)?;
                author.call(Method::DELETE, &path).await?.expect(204)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The last seq of the room.
async fn head(client: &ApiClient) -> Result<i64> {
    let response = client.get(&format!("/chat/{ROOM}/messagehistory?limit=1")).await?.expect(200)?;
    let position = response.header("last-event-id").and_then(|id| id.rsplit_once('-')?.1.parse().ok());
    position.ok_or_else(|| Failure::new(format!("no position in {response}")))
}

async fn play(
    paths: &Paths,
    (kind, events): (&str, &[SseEvent]),
    (history, users): (&[Value], Option<&Value>),
) -> Result<String> {
    let events: Vec<Value> =
        events.iter().map(|event| json!({"name": event.name, "data": event.data, "id": event.id})).collect();
    let file = |name: &str| paths.clients.join(format!("{kind}-{name}.json")).display().to_string();
    fs::write(file("events"), serde_json::to_vec(&events)?)?;
    fs::write(file("history"), serde_json::to_vec(history)?)?;
    let program = paths.clients.join("node/compiled/room-log-check.js").display().to_string();
    let mut arguments = vec![program, file("events"), file("history")];
    if let Some(users) = users {
        fs::write(file("users"), serde_json::to_vec(users)?)?;
        arguments.push(file("users"));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Program::new("node", &arguments).run(WITHIN).await.map(|summary| summary.trim().to_owned())
}
