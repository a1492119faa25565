//! Reads a live stream (server-sent events) with a third-party parser; every wait has a deadline.

use std::pin::Pin;
use std::time::Duration;

use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt, TryStreamExt};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::failure::{Explain, Failure, Result};

/// How long the first event may take; the product promises the first bytes at once.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// What the parser calls an event without an `event` field.
const MESSAGE: &str = "message";

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The event's type; `message` when the stream named none.
    pub name: String,
    /// The last `id` field seen.
    pub id: String,
    /// The data, lines joined by LF.
    pub data: String,
}

impl SseEvent {
    /// The data as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.data).explain(|| format!("no JSON in {self:?}"))
    }

    /// The epoch in the event's id.
    pub fn epoch(&self) -> Result<u64> {
        let epoch = self.id.split_once('-').and_then(|(epoch, _)| epoch.parse().ok());
        epoch.ok_or_else(|| Failure::new(format!("no epoch in the id of {self:?}")))
    }

    /// The seq in the event's id.
    pub fn seq(&self) -> Result<i64> {
        let seq = self.id.rsplit_once('-').and_then(|(_, seq)| seq.parse().ok());
        seq.ok_or_else(|| Failure::new(format!("no seq in the id of {self:?}")))
    }
}

/// An open stream, past its `ready` event.
pub struct EventStream {
    headers: HeaderMap,
    ready: SseEvent,
    events: Events,
}

type Events = Pin<Box<dyn Stream<Item = Result<SseEvent>> + Send>>;

impl EventStream {
    /// Reads the first event of `response`, which must be `ready`.
    pub(crate) async fn new(response: Response) -> Result<Self> {
        let headers = response.headers().clone();
        let mut events: Events =
            Box::pin(response.bytes_stream().eventsource().map_err(Failure::from).map_ok(|event| SseEvent {
                name: event.event,
                id: event.id,
                data: event.data,
            }));
        let ready = next(&mut events, READY_WITHIN).await?;
        match ready {
            Some(ready) if ready.name == "ready" => Ok(Self { headers, ready, events }),
            other => Err(Failure::new(format!("the first event is not `ready` but {other:?}"))),
        }
    }

    /// The `ready` event.
    #[must_use]
    pub fn ready(&self) -> &SseEvent {
        &self.ready
    }

    /// A header of the response; `None` when it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next event, whatever it is; `None` when the stream has ended cleanly.
    pub async fn next(&mut self, within: Duration) -> Result<Option<SseEvent>> {
        next(&mut self.events, within).await
    }

    /// The next event, which must have this name. Pings are passed over, and so are entries about members and the room itself
    /// unless they are asked for: tests of messages need not know who joined in between.
    pub async fn expect(&mut self, name: &str, within: Duration) -> Result<SseEvent> {
        loop {
            match self.next(within).await? {
                Some(event) if event.name == name => return Ok(event),
                Some(event) if ["ping", "member", "room"].contains(&event.name.as_str()) => {}
                Some(event) => {
                    return Err(Failure::new(format!("expected `{name}`, got {event:?}")));
                }
                None => return Err(Failure::new(format!("the stream ended before `{name}`"))),
            }
        }
    }

    /// The next message.
    pub async fn message(&mut self, within: Duration) -> Result<SseEvent> {
        self.expect(MESSAGE, within).await
    }

    /// The next `count` messages, each within the given time after the one before.
    pub async fn messages(&mut self, count: usize, within: Duration) -> Result<Vec<SseEvent>> {
        let mut messages = Vec::with_capacity(count);
        while messages.len() < count {
            let message = self.message(within).await;
            messages.push(message.explain(|| format!("after {} of {count} messages", messages.len()))?);
        }
        Ok(messages)
    }

    /// Reads up to the `bye` event, past messages and pings, and to the clean end after it; returns the reason.
    pub async fn bye(&mut self, within: Duration) -> Result<String> {
        let read = async {
            loop {
                match self.events.next().await.transpose()? {
                    Some(event) if event.name == "bye" => break Ok(event),
                    Some(_) => {}
                    None => break Err(Failure::new("the stream ended without `bye`")),
                }
            }
        };
        let bye = tokio::time::timeout(within, read).await.explain(|| format!("no `bye` within {within:?}"))??;
        match self.next(within).await? {
            Some(event) => Err(Failure::new(format!("after `bye` came {event:?}"))),
            None => bye.json()?["reason"]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| Failure::new("`bye` without a reason")),
        }
    }
}

async fn next(events: &mut Events, within: Duration) -> Result<Option<SseEvent>> {
    let event = tokio::time::timeout(within, events.next()).await;
    event.explain(|| format!("no event within {within:?}"))?.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_and_seq_are_parsed_and_malformed_ids_are_failures() {
        let event = |id: &str| SseEvent {
            name: MESSAGE.to_owned(),
            id: id.to_owned(),
            data: "no JSON".to_owned(),
        };
        assert_eq!((event("7-42").epoch().ok(), event("7-42").seq().ok()), (Some(7), Some(42)));
        for malformed in ["", "-", "7", "7-", "-42", "x-y", "7-42x"] {
            let event = event(malformed);
            assert!(event.epoch().is_err() || event.seq().is_err(), "{event:?}");
        }
        let failure = event("7-42").json().err().map(|failure| failure.to_string());
        assert!(failure.is_some_and(|text| text.starts_with("no JSON in SseEvent")));
    }
}
