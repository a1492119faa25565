//! A device that follows all rooms of its user, and fails if an entry is missing, comes twice, or is of a room that it does not know.

use std::collections::BTreeMap;
use std::time::Duration;

use rig::{ApiClient, EventStream, Explain, Failure, HttpResponse, Result, SseEvent};
use serde_json::Value;

use crate::fixture::SOON;

/// Rooms of an answer, unless a test says something else.
const ROOMS: usize = 50;

/// One device.
pub(crate) struct Device {
    /// Its user at the gateway that it uses now.
    pub(crate) client: ApiClient,
    /// The cursor of the last event or answer that had one.
    pub(crate) cursor: Option<String>,
    /// The last seq of each room that it has.
    pub(crate) rooms: BTreeMap<String, i64>,
    /// Rooms and texts of the messages that came, in their order.
    pub(crate) messages: Vec<(String, String)>,
    stream: Option<EventStream>,
}

impl Device {
    /// One that has nothing.
    pub(crate) fn new(client: &ApiClient) -> Self {
        Self {
            client: client.clone(),
            cursor: None,
            rooms: BTreeMap::new(),
            messages: Vec::new(),
            stream: None,
        }
    }

    /// Uses the gateway at `url` from now on.
    pub(crate) fn move_to(&mut self, url: &str) -> Result<()> {
        self.client = self.client.moved_to(url)?;
        Ok(())
    }

    /// Opens a stream with the cursor that it has; returns the data of `ready`.
    pub(crate) async fn open(&mut self) -> Result<Value> {
        self.open_with(&[]).await
    }

    /// The same with query parameters.
    pub(crate) async fn open_with(&mut self, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut request = self.client.user_events();
        for (name, value) in parameters {
            request = request.query(name, value);
        }
        if let Some(cursor) = &self.cursor {
            request = request.after(cursor);
        }
        let stream = request.open().await?;
        let ready = stream.ready().clone();
        self.stream = Some(stream);
        self.apply(&ready)?;
        ready.json()
    }

    /// Closes its stream: as an app that is put away.
    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    /// Applies events until one of this name comes, and returns its data.
    pub(crate) async fn event(&mut self, name: &str) -> Result<Value> {
        self.until(name, |event| event.name == name).await?.json()
    }

    /// Applies events until one tells of `room`, and returns what it tells.
    pub(crate) async fn room(&mut self, room: &str) -> Result<Value> {
        let of_room = |event: &SseEvent| {
            let data = event.json().unwrap_or_default();
            let told =
                data["rooms"].as_array().and_then(|rooms| rooms.iter().rfind(|told| told["name"] == room).cloned());
            told.filter(|_| event.name == "rooms")
        };
        let event = self.until(room, |event| of_room(event).is_some()).await?;
        of_room(&event).ok_or_else(|| Failure::new("it told of the room"))
    }

    /// Applies events until the message with this text comes.
    pub(crate) async fn message(&mut self, text: &str) -> Result<Value> {
        let is_it =
            |event: &SseEvent| event.name == "message" && event.json().is_ok_and(|data| data["message"] == text);
        self.until(text, is_it).await?.json()
    }

    /// Applies everything up to the end of the stream; returns the reason for it.
    pub(crate) async fn bye(&mut self) -> Result<String> {
        let bye = self.event("bye").await?;
        let mut stream = self.stream.take().ok_or_else(|| Failure::new("no stream"))?;
        match stream.next(SOON).await? {
            None => Ok(bye["reason"].as_str().unwrap_or_default().to_owned()),
            Some(event) => Err(Failure::new(format!("after `bye` came {event:?}"))),
        }
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&SseEvent) -> bool) -> Result<SseEvent> {
        let waiting = async {
            loop {
                let stream = self.stream.as_mut().ok_or_else(|| Failure::new("no stream is open"))?;
                let event = stream.next(SOON).await?.ok_or_else(|| Failure::new("the stream has ended"))?;
                self.apply(&event)?;
                if is_it(&event) {
                    return Result::Ok(event);
                }
            }
        };
        let event = tokio::time::timeout(SOON, waiting).await;
        event.explain(|| format!("{what} does not come"))?.explain(|| format!("waiting for {what}"))
    }

    /// Applies everything that comes within `time`.
    pub(crate) async fn listen(&mut self, time: Duration) -> Result<()> {
        let listening = async {
            while let Some(stream) = &mut self.stream {
                let Some(event) = stream.next(SOON).await? else { break };
                self.apply(&event)?;
            }
            Ok(())
        };
        tokio::time::timeout(time, listening).await.unwrap_or(Ok(()))
    }

    /// Catches up by calls until there is no more; returns the answers.
    pub(crate) async fn catch_up(&mut self, limit: usize) -> Result<Vec<Value>> {
        let is_first = self.cursor.is_none();
        let mut answers = Vec::new();
        loop {
            let answer = self.sync(limit).await?.expect(200)?.json()?;
            self.apply_answer(&answer, is_first)?;
            let more = answer["more"] == true;
            answers.push(answer);
            if !more {
                return Ok(answers);
            }
        }
    }

    /// Catches up by one call since a cursor; returns the answer.
    pub(crate) async fn catch_up_once(&mut self) -> Result<Value> {
        let answer = self.sync(ROOMS).await?.expect(200)?.json()?;
        self.apply_answer(&answer, false)?;
        Ok(answer)
    }

    /// The response to one call, which is not applied.
    pub(crate) async fn sync(&self, limit: usize) -> Result<HttpResponse> {
        let mut request = self.client.request(rig::Method::GET, "/user/sync").query(&[("limit", limit)]);
        if let Some(cursor) = &self.cursor {
            request = request.query(&[("since", cursor)]);
        }
        self.client.send(request).await
    }

    /// Applies the answer to a call. A first answer has the last messages of rooms, whatever was before them.
    pub(crate) fn apply_answer(&mut self, answer: &Value, is_first: bool) -> Result<()> {
        for gone in answer["gone"].as_array().into_iter().flatten() {
            self.rooms.remove(gone.as_str().unwrap_or_default());
        }
        for room in answer["rooms"].as_array().into_iter().flatten() {
            let name = name_of(room)?;
            let last = self.rooms.entry(name.clone()).or_insert(room["head"].as_i64().unwrap_or(-1));
            if let Some(gap) = room.get("gap") {
                if gap["from"] != *last + 1 {
                    return Err(Failure::new(format!("after {last} of {name} came the gap {gap}")));
                }
                *last = gap["to"].as_i64().unwrap_or(-1);
            }
            for entry in room["entries"].as_array().into_iter().flatten() {
                let event = entry["event"].as_str().unwrap_or_default();
                if is_first {
                    self.note(event, &entry["data"]);
                } else {
                    self.apply_entry(event, &entry["data"])?;
                }
            }
        }
        self.cursor = answer["cursor"].as_str().map(str::to_owned);
        Ok(())
    }

    fn apply(&mut self, event: &SseEvent) -> Result<()> {
        let data = event.json()?;
        match event.name.as_str() {
            "ready" | "rooms" => {
                if event.name == "ready" && data["recovered"] == false {
                    self.rooms.clear();
                }
                for room in data["rooms"].as_array().into_iter().flatten() {
                    let name = name_of(room)?;
                    if room["gone"] == true {
                        self.rooms.remove(&name);
                    } else {
                        self.rooms.entry(name).or_insert(room["head"].as_i64().unwrap_or(-1));
                    }
                }
            }
            "reset" => {
                for room in data["rooms"].as_array().into_iter().flatten() {
                    self.rooms.insert(name_of(room)?, room["head"].as_i64().unwrap_or(-1));
                }
            }
            "read" | "typing" | "presence" | "ping" | "bye" => {}
            name => self.apply_entry(name, &data)?,
        }
        if !event.id.is_empty() {
            self.cursor = Some(event.id.clone());
        }
        Ok(())
    }

    fn apply_entry(&mut self, event: &str, data: &Value) -> Result<()> {
        let name = name_of(data)?;
        let last = self.rooms.get_mut(&name).ok_or_else(|| Failure::new(format!("an entry of {name}: {data}")))?;
        if data["seq"] != *last + 1 {
            return Err(Failure::new(format!("after seq {last} of {name} came {data}")));
        }
        *last += 1;
        self.note(event, data);
        Ok(())
    }

    fn note(&mut self, event: &str, data: &Value) {
        if event == "message" {
            let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
            self.messages.push((text("name"), text("message")));
        }
    }

    /// The texts of the messages of a room that came, in their order.
    pub(crate) fn texts(&self, room: &str) -> Vec<&str> {
        self.messages.iter().filter(|(of, _)| of == room).map(|(_, text)| text.as_str()).collect()
    }
}

fn name_of(data: &Value) -> Result<String> {
    data["name"].as_str().map(str::to_owned).ok_or_else(|| Failure::new(format!("no room in {data}")))
}
