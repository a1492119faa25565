//! A process that follows a room, or all rooms of a user, with a client library over many streams, each through a proxy of its own,
//! and the events that the library reports.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;

use super::library::Library;
use super::stream_kind::StreamKind;
use crate::failure::{Explain, Failure, Result};
use crate::proxy::Proxy;

/// Complaints shown for one library.
const SHOWN: usize = 8;

/// One event, as the library delivered it.
#[derive(Debug, Clone, Deserialize)]
struct ReportedEvent {
    stream: usize,
    event: String,
    id: Option<String>,
    data: String,
}

/// What the library has reported about one stream.
struct Stream {
    kind: StreamKind,
    messages: Vec<ReportedEvent>,
    /// Highest seq so far.
    seq: i64,
    readies: usize,
    resets: Vec<ReportedEvent>,
    /// Reasons of `bye`.
    byes: Vec<String>,
    /// Where the event with a seq was cut, in bytes from its beginning.
    cuts: BTreeMap<i64, usize>,
}

/// What the library has reported.
struct Reports {
    streams: Vec<Stream>,
    /// Lines that are not a report of any stream.
    malformed: Vec<String>,
}

/// The process of a library.
pub(super) struct Follower {
    /// Name of its check.
    pub(super) name: String,
    pub(super) proxies: Vec<Proxy>,
    reports: Arc<Mutex<Reports>>,
    log: PathBuf,
    child: Child,
    reading: JoinHandle<()>,
}

impl Follower {
    /// Starts the library's program with `count` streams of `kind`, which go to `port`; its log is under `directory`.
    pub(super) async fn start(
        library: &Library,
        (count, kind): (usize, StreamKind),
        port: u16,
        token: &str,
        directory: &Path,
    ) -> Result<Self> {
        let mut proxies = Vec::new();
        for _ in 0..count {
            proxies.push(Proxy::start(port).await?);
        }
        let urls = proxies.iter().map(|proxy| format!("http://127.0.0.1:{}{}", proxy.port(), kind.path()));
        let program = library.program.clone().variable("ROOMCAST_TOKEN", token).with(urls);
        let name = format!("{}{}", library.name, kind.suffix());
        let log = directory.join(format!("{}.log", name.replace('/', "-")));
        let mut command = program.command();
        command.stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn().explain(|| format!("cannot start the program for {name}"))?;
        let output = child.stdout.take().ok_or_else(|| Failure::new("a program without output"))?;
        let reports = Arc::new(Mutex::new(Reports {
            streams: (0..count).map(|_| Stream::new(kind)).collect(),
            malformed: Vec::new(),
        }));
        let reading = tokio::spawn(record_events(BufReader::new(output).lines(), Arc::clone(&reports)));
        Ok(Self {
            name,
            proxies,
            reports,
            log,
            child,
            reading,
        })
    }

    fn streams(&self) -> MappedMutexGuard<'_, Vec<Stream>> {
        MutexGuard::map(self.reports.lock(), |reports| &mut reports.streams)
    }

    /// Fails with what the program wrote if it has ended by itself.
    pub(super) fn check_runs(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        Err(Failure::new(format!("the program for {} ended with {status}: {log}", self.name)))
    }

    /// True if its output has ended, so that it will report nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.reading.is_finished()
    }

    /// How often each stream was opened.
    pub(super) fn readies(&self) -> Vec<usize> {
        self.streams().iter().map(|stream| stream.readies).collect()
    }

    /// True if every stream has seen `seq`, or something behind it.
    pub(super) fn has_seen(&self, seq: i64) -> bool {
        self.streams().iter().all(|stream| stream.seq >= seq)
    }

    /// True if every stream was ended for `reason` at least once.
    pub(super) fn was_ended(&self, reason: &str) -> bool {
        self.streams().iter().all(|stream| stream.byes.iter().any(|bye| bye == reason))
    }

    /// How many bytes each stream has brought.
    pub(super) fn passed_bytes(&self) -> Vec<u64> {
        self.proxies.iter().map(Proxy::passed_bytes).collect()
    }

    /// How many streams were cut within an event or their opening.
    pub(super) fn cuts(&self) -> u64 {
        self.proxies.iter().map(Proxy::cut_within).sum()
    }

    /// Remembers that the event with `seq` is cut after `bytes` on a stream.
    pub(super) fn note_cut(&self, stream: usize, seq: i64, bytes: usize) {
        self.streams()[stream].cuts.insert(seq, bytes);
    }

    /// Ends the program and compares what each stream showed with the room's history, oldest message first.
    pub(super) async fn judge(mut self, history: &[Value]) -> Result<String> {
        self.check_runs()?;
        // Before the kill, which may cut a line.
        let malformed = std::mem::take(&mut self.reports.lock().malformed);
        self.child.kill().await?;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        self.reading.abort();
        let streams = self.streams();
        let malformed = malformed.iter().map(|line| format!("no report of a stream: {line}"));
        let differences = streams.iter().enumerate().flat_map(|each| complaints(each, history));
        let complaints: Vec<String> = malformed.chain(differences).collect();
        if !complaints.is_empty() {
            let shown = complaints[..complaints.len().min(SHOWN)].join("\n");
            return Err(Failure::new(format!("{} complaints, the first ones are\n{shown}\n{log}", complaints.len())));
        }
        let openings: usize = streams.iter().map(|stream| stream.readies).sum();
        let cuts = self.cuts();
        Ok(format!(
            "{} streams, opened {openings} times, {cuts} cuts inside of an event or its opening, {} messages each once and in order",
            streams.len(),
            history.len()
        ))
    }
}

/// Records what the program reports until it ends.
async fn record_events(mut lines: Lines<BufReader<ChildStdout>>, reports: Arc<Mutex<Reports>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let reported = serde_json::from_str::<ReportedEvent>(&line).ok();
        let mut reports = reports.lock();
        match reported.and_then(|event| Some((reports.streams.get_mut(event.stream)?, event))) {
            Some((stream, event)) => stream.add(event),
            None => reports.malformed.push(line),
        }
    }
}

impl Stream {
    fn new(kind: StreamKind) -> Self {
        Self {
            kind,
            messages: Vec::new(),
            seq: 0,
            readies: 0,
            resets: Vec::new(),
            byes: Vec::new(),
            cuts: BTreeMap::new(),
        }
    }

    fn add(&mut self, reported: ReportedEvent) {
        match reported.event.as_str() {
            "ready" => self.readies += 1,
            event if self.kind.ignores(event) => {}
            "reset" => self.resets.push(reported),
            "bye" => {
                let data: Value = serde_json::from_str(&reported.data).unwrap_or_default();
                self.byes.push(data["reason"].as_str().unwrap_or_default().to_owned());
            }
            // Messages, and anything unexpected, which the comparison finds.
            _ => {
                self.seq = self.seq.max(seq_of(&reported).unwrap_or_default());
                self.messages.push(reported);
            }
        }
    }
}

fn seq_of(reported: &ReportedEvent) -> Option<i64> {
    serde_json::from_str::<Value>(&reported.data).ok()?["seq"].as_i64()
}

/// How one stream differs from the history.
fn complaints((number, stream): (usize, &Stream), history: &[Value]) -> Vec<String> {
    let mut complaints = Vec::new();
    for reset in &stream.resets {
        complaints.push(format!("stream {number} got {reset:?}"));
    }
    let mut due = history.iter().peekable();
    for reported in &stream.messages {
        let Some(seq) = seq_of(reported) else {
            complaints.push(format!("stream {number} got {reported:?}"));
            continue;
        };
        let is_due = |message: &&Value| message["seq"].as_i64().is_some_and(|due| due <= seq);
        let mut found = None;
        while let Some(message) = due.next_if(is_due) {
            if message["seq"] == seq {
                found = Some(message);
            } else {
                complaints.push(format!("stream {number} lacks seq {}{}", message["seq"], stream.cut_of(message)));
            }
        }
        match found {
            None => complaints.push(format!("stream {number} got seq {seq} again or too late")),
            Some(message) => {
                let is_same = serde_json::from_str::<Value>(&reported.data).is_ok_and(|data| data == *message);
                let is_named = reported.id.as_deref().is_some_and(|id| stream.kind.accepts_id(id, seq));
                if reported.event != "message" || !is_same || !is_named {
                    complaints.push(format!("stream {number}: {reported:?} is not {message}"));
                }
            }
        }
    }
    for message in due {
        complaints.push(format!("stream {number} lacks seq {}{}", message["seq"], stream.cut_of(message)));
    }
    complaints
}

impl Stream {
    /// Says where the event of `message` was cut, if it was.
    fn cut_of(&self, message: &Value) -> String {
        let cut = message["seq"].as_i64().and_then(|seq| self.cuts.get(&seq));
        cut.map(|bytes| format!(", which was cut after {bytes} bytes")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: i64, data: &Value) -> ReportedEvent {
        ReportedEvent {
            stream: 0,
            event: "message".to_owned(),
            id: Some(format!("7-{seq}")),
            data: data.to_string(),
        }
    }

    #[test]
    fn lost_doubled_changed_and_foreign_events_are_complaints() {
        let history: Vec<Value> = (1..=3).map(|seq| json!({"seq": seq, "message": "hello"})).collect();
        let found = |events: Vec<ReportedEvent>| {
            let mut stream = Stream::new(StreamKind::Room("lobby"));
            for event in events {
                stream.add(event);
            }
            complaints((0, &stream), &history)
        };
        let all = || (1..).zip(&history).map(|(seq, message)| event(seq, message)).collect::<Vec<_>>();
        assert_eq!(found(all()), [""; 0]);
        assert_eq!(found(all().split_off(1)), ["stream 0 lacks seq 1"]);
        assert_eq!(found([all(), all().split_off(2)].concat()), ["stream 0 got seq 3 again or too late"]);
        assert_eq!(found([all(), vec![event(4, &json!("no message"))]].concat()).len(), 1);
        let mut changed = all();
        changed[1].data = json!({"seq": 2, "message": "changed"}).to_string();
        assert!(found(changed)[0].starts_with("stream 0: ReportedEvent"));
        let mut reset = event(1, &json!({}));
        reset.event = "reset".to_owned();
        assert_eq!(found([all(), vec![reset]].concat()).len(), 1);
    }
}
