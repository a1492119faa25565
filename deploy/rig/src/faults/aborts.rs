//! F15: clients that break off their requests.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::api_client::ApiClient;
use crate::eventually::eventually;
use crate::failure::{Explain as _, Failure, Result};
use crate::fault_run::FaultRun;

/// The room the broken-off requests are for, and who sends them.
const ROOM: &str = "aborted";
const INTRUDER: &str = "intruder";
/// Requests that are being sent and broken off at the same time.
const AT_ONCE: usize = 64;
/// How long a gateway may hold a connection whose client has gone: its time-out for the headers of a request, with a margin.
const CLOSED_WITHIN: Duration = Duration::from_secs(40);
/// How long a connection, and the storing of a post, may take.
const SOON: Duration = Duration::from_secs(5);

/// Ends requests at any byte, without waiting for the response. No connection may stay open, and nothing may be stored that
/// nobody sent, under another user's name, or twice.
pub(super) async fn aborts(run: &mut FaultRun, count: usize) -> Result<()> {
    let port = run.stack.gateways[0].port();
    let baseline = run.stack.gateways[0].connections()?;
    let intruder = run.stack.client()?.register(INTRUDER).await?;
    run.traffic.reader().create_room(ROOM).await?;
    let seeds: Vec<u64> = (0..count).map(|_| run.rng.random()).collect();
    let aborts = stream::iter(seeds).map(|seed| abort(port, &intruder, seed)).buffer_unordered(AT_ONCE);
    let mut aborts = std::pin::pin!(aborts);
    let (mut refused, mut sent) = (0, HashSet::new());
    while let Some(done) = aborts.next().await {
        run.injections.push(run.traffic.now());
        match done {
            Ok(text) => sent.extend(text),
            Err(_) => refused += 1,
        }
    }
    let gateway = &run.stack.gateways[0];
    let closed = eventually(CLOSED_WITHIN, "the gateway closes connections of clients that went away", async || {
        // The traffic's own connections come and go, too.
        match gateway.connections()? {
            open if open <= baseline + AT_ONCE => Ok(()),
            open => Err(Failure::new(format!("{open} connections, {baseline} before"))),
        }
    })
    .await;
    run.demand(closed.is_ok(), || closed.err().map(|failure| failure.to_string()).unwrap_or_default());
    let stored = check_stored(&intruder, &sent).await;
    let verdict = stored.as_ref().map_or_else(ToString::to_string, |stored| format!("{stored} were stored"));
    run.notes.push(format!(
        "{refused} connections were refused; of {} whole messages whose response nobody awaited {verdict}",
        sent.len()
    ));
    run.demand(stored.is_ok(), || verdict);
    Ok(())
}

/// Counts the messages in the room; fails if one was not sent, not sent by the intruder, or stored twice.
async fn check_stored(intruder: &ApiClient, sent: &HashSet<String>) -> Result<usize> {
    let last = intruder.post(ROOM, "the last").await?;
    eventually(SOON, "the last post is stored", async || match intruder.history(ROOM, "?limit=1").await?.first() {
        Some(message) if message["id"] == last.as_str() => Ok(()),
        other => Err(Failure::new(format!("{other:?}"))),
    })
    .await?;
    let mut seen = HashSet::new();
    for message in intruder.whole_history(ROOM).await? {
        let text = message["message"].as_str().unwrap_or_default();
        let is_known = sent.contains(text) || message["id"] == last.as_str();
        if !is_known || message["username"] != INTRUDER || !seen.insert(text.to_owned()) {
            return Err(Failure::new(format!("cross-talk: {message}")));
        }
    }
    Ok(seen.len() - 1)
}

/// Sends a part of a request, or all of it, and closes the connection, orderly or by a reset. Returns the text of a message
/// that was sent to its end.
async fn abort(port: u16, user: &ApiClient, seed: u64) -> Result<Option<String>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let text = format!("aborted {seed}");
    let body = format!("{{\"message\":\"{text}\"}}");
    let headers = format!("HTTP/1.1\r\nHost: rig\r\nAuthorization: {}\r\n", user.token());
    let is_message = rng.random_bool(0.7);
    let request = if is_message {
        let length = body.len();
        format!(
            "POST /chat/{ROOM}/message {headers}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    } else {
        format!("GET /chat/{ROOM}/message {headers}Accept: text/event-stream\r\n\r\n")
    };
    // One in ten is whole, so that there is something that could be mixed up.
    let length = if rng.random_bool(0.1) {
        request.len()
    } else {
        rng.random_range(0..=request.len())
    };
    let connecting = timeout(SOON, TcpStream::connect(("127.0.0.1", port)));
    let mut connection = connecting.await.explain(|| "no connection".to_owned())??;
    if rng.random_bool(0.5) {
        connection.set_zero_linger()?;
    }
    connection.write_all(&request.as_bytes()[..length]).await?;
    sleep(Duration::from_micros(rng.random_range(0..5_000))).await;
    Ok((is_message && length == request.len()).then_some(text))
}
