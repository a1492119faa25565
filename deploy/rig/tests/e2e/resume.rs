//! Resuming a stream: all missed messages, then live ones, without a gap or a double in between.

use std::time::Duration;

use futures_util::future::join;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Response;
use rig::{ApiClient, Explain, Failure, Result, Stack};
use tokio::time::{MissedTickBehavior, interval};

use crate::fixture::{FIRST, SOON, fill, with_lobby};

/// Messages in the room; a client resumes from each of their positions.
const ROOM: usize = 1_000;
/// Streams open at once.
const CLIENTS: usize = 48;
/// Live messages each client reads after its replay.
const LIVE: i64 = 2;

/// The seqs of the messages of a stream, read from its bytes: a million events would take the parser minutes in an
/// unoptimised build, and other tests check the format with it.
struct Seqs {
    response: Response,
    buffered: Vec<u8>,
}

impl Seqs {
    /// The seqs in the next bytes; whole events only.
    async fn next(&mut self) -> Result<Vec<i64>> {
        let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.explain(|| "silence".to_owned())??;
        self.buffered.extend_from_slice(&chunk.ok_or_else(|| Failure::new("the stream has ended"))?);
        let text = std::str::from_utf8(&self.buffered).explain(|| "a chunk ends within a character".to_owned())?;
        let Some((whole, rest)) = text.rsplit_once("\n\n") else {
            return Ok(Vec::new());
        };
        let messages = whole.split("\n\n").filter(|event| event.contains("data: ") && !event.contains("event: "));
        let seqs = messages.map(seq_of).collect::<Result<_>>()?;
        self.buffered = rest.as_bytes().to_vec();
        Ok(seqs)
    }
}

fn seq_of(event: &str) -> Result<i64> {
    let id = event.lines().find_map(|line| line.strip_prefix("id: "));
    let seq = id.and_then(|id| id.rsplit_once('-')).and_then(|(_, seq)| seq.parse().ok());
    seq.ok_or_else(|| Failure::new(format!("no seq in {event:?}")))
}

/// Opens a stream after `seq` and reads up to `LIVE` messages after the head of that moment.
async fn resume_after(client: &ApiClient, epoch: &str, seq: i64) -> Result<()> {
    let request = client.stream("lobby").after(&format!("{epoch}-{seq}"));
    let mut seqs = Seqs {
        response: request.open_raw().await?,
        buffered: Vec::new(),
    };
    let mut last = seq;
    let upto = i64::try_from(ROOM)? + 1 + LIVE;
    while last < upto {
        for next in seqs.next().await? {
            if next != last + 1 {
                return Err(Failure::new(format!("after {last} came {next}")));
            }
            last = next;
        }
    }
    Ok(())
}

/// Posts a message every 25 ms, for ever.
async fn keep_posting(client: &ApiClient) -> Result<()> {
    let mut pace = interval(Duration::from_millis(25));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        client.post("lobby", "meanwhile").await?;
    }
}

#[tokio::test]
async fn client_resumes_from_every_position_under_posting() {
    let (_stack, ann) = with_lobby(Stack::builder().without_limits().start().await.unwrap()).await;
    fill(&ann, ROOM).await.unwrap();
    let epoch = ann.stream("lobby").open().await.unwrap().ready().id.replace(&format!("-{}", ROOM + 1), "");
    let positions = 1..=i64::try_from(ROOM).unwrap() + 1;
    let clients = stream::iter(positions).map(|seq| {
        let (client, epoch) = (&ann, &epoch);
        async move { resume_after(client, epoch, seq).await.explain(|| format!("after position {seq}")) }
    });
    let clients = clients.buffer_unordered(CLIENTS).try_for_each(async |()| Ok(()));
    tokio::select! {
        done = clients => done.unwrap(),
        posting = keep_posting(&ann) => posting.unwrap(),
    }
}

#[tokio::test]
async fn five_thousand_missed_messages_are_replayed() {
    const MISSED: usize = 5_000;
    let (_stack, ann) = with_lobby(Stack::builder().without_limits().start().await.unwrap()).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    let start = stream.ready().id.clone();
    // A client that is connected reads meanwhile: one that reads nothing for 30 s is cut off.
    let (filled, seen) = join(fill(&ann, MISSED), stream.messages(MISSED, SOON)).await;
    filled.unwrap();
    let seen = seen.unwrap();

    // A client that was away.
    let mut back = ann.stream("lobby").after(&start).open().await.unwrap();
    let ready = back.ready().json().unwrap();
    assert_eq!((&ready["recovered"], &ready["missed"]), (&true.into(), &MISSED.into()));
    let replayed = back.messages(MISSED, SOON).await.unwrap();
    assert!(replayed == seen, "the replay differs from the live messages");
    for (seq, event) in (FIRST..).zip(&replayed) {
        assert_eq!(event.seq().unwrap(), seq);
    }

    // A client that prefers to load history by itself.
    let mut impatient = ann.stream("lobby").after(&start).query("max_replay", "4999").open().await.unwrap();
    let reset = impatient.expect("reset", SOON).await.unwrap();
    let data = reset.json().unwrap();
    assert_eq!((&data["reason"], &data["head"]), (&"too_many".into(), &(MISSED + 1).into()));
    let mut patient = ann.stream("lobby").after(&start).query("max_replay", "5000").open().await.unwrap();
    assert_eq!(patient.message(SOON).await.unwrap().seq().unwrap(), FIRST);
    ann.post("lobby", "live").await.unwrap();
    assert_eq!(impatient.message(SOON).await.unwrap().seq().unwrap(), FIRST + 5_000);
}
