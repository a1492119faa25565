//! Many clients at once, and clients that misbehave.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::evidence::Outcome;
use crate::field::Field;
use crate::report::percentiles;
use crate::{App, Ends, Explain as _, Failure, Result, eventually};

/// Time between two storms: long enough for everybody to be back.
const BETWEEN_STORMS: Duration = Duration::from_secs(5);
/// Requests that are being sent and broken off at the same time.
const ABORTED_AT_ONCE: usize = 64;
/// How long a gateway may hold a connection whose client has gone: its time for the head of a request, with air.
const LET_GO_WITHIN: Duration = Duration::from_secs(40);
/// Time in which posts are measured with, and without, stopped readers.
const MEASURED: Duration = Duration::from_secs(15);
/// How much longer posts of others may take, and how far two measurements of the same thing lie apart anyway.
const MAY_SUFFER: f64 = 1.1;
const MEASURING: Duration = Duration::from_millis(5);
/// What the kernel holds for a stopped reader, in bytes.
const SMALL_BUFFER: u32 = 4_096;
/// Memory a gateway may hold for a client that does not read, in KiB.
const STOPPED_KIB: u64 = 64;

/// F12: all streams are cut at once and come back while posting goes on.
pub(super) async fn storms(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(BETWEEN_STORMS).await;
        field.strike();
        for link in field.stack.links.iter().filter(|link| matches!(link.ends, Ends::Door(_))) {
            link.proxy.cut();
        }
    }
    sleep(BETWEEN_STORMS).await;
    Ok(())
}

/// F13: `count` readers open a stream each and read nothing. Posts of others must not suffer, nor memory.
pub(super) async fn stopped_readers(field: &mut Field, count: usize) -> Result<()> {
    let before = measure(field).await?;
    let weight = field.stack.gateways[0].service.cell().resident_kib().unwrap_or(0);
    let reader = field.traffic.reader().clone();
    let rooms = field.traffic.rooms();
    let mut stopped = Vec::new();
    for number in 0..count {
        field.strike();
        let port = field.stack.gateways[0].port();
        let head = stream_head(&rooms[number % rooms.len()], reader.token());
        let socket = TcpSocket::new_v4()?;
        // So that it is the gateway that notices, and not the kernel that holds it all.
        socket.set_recv_buffer_size(SMALL_BUFFER)?;
        let mut stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
        stream.write_all(head.as_bytes()).await?;
        stopped.push(stream);
    }
    let during = measure(field).await?;
    let heavier = field.stack.gateways[0].service.cell().resident_kib().unwrap_or(0).saturating_sub(weight);
    let each = heavier / u64::try_from(stopped.len())?.max(1);
    field.notes.push(format!(
        "post p99 {} ms, with {} stopped readers {} ms, {each} KiB each",
        before.as_millis(),
        stopped.len(),
        during.as_millis()
    ));
    let allowed = before.mul_f64(MAY_SUFFER) + MEASURING;
    field.demand(during <= allowed, || {
        format!("posts took {during:?} beside stopped readers, and {before:?} without")
    });
    field.demand(each <= STOPPED_KIB, || format!("{each} KiB for each stopped reader"));
    Ok(())
}

fn stream_head(room: &str, token: &str) -> String {
    format!(
        "GET /chat/{room}/message HTTP/1.1\r\nHost: rig\r\nAuthorization: {token}\r\nAccept: text/event-stream\r\n\r\n"
    )
}

/// The 99th percentile of what posts take now.
async fn measure(field: &Field) -> Result<Duration> {
    let from = field.traffic.now();
    sleep(MEASURED).await;
    let is_acknowledged = |outcome| matches!(outcome, Outcome::Acknowledged(_));
    let times = field.traffic.book().post_times_since(from, is_acknowledged);
    percentiles(times).map(|(_, p99)| p99).ok_or_else(|| Failure::new("nothing was posted"))
}

/// F15: requests end at any byte, and clients go away without waiting for the answer.
pub(super) async fn aborts(field: &mut Field, count: usize) -> Result<()> {
    let port = field.stack.gateways[0].port();
    let baseline = field.stack.gateways[0].connections()?;
    let intruder = field.stack.app()?.register("intruder").await?;
    field.traffic.reader().create_room("aborted").await?;
    let seeds: Vec<u64> = (0..count).map(|_| field.rng.random()).collect();
    let aborts = stream::iter(seeds).map(|seed| abort(port, &intruder, seed)).buffer_unordered(ABORTED_AT_ONCE);
    let mut failed = 0;
    let mut aborts = std::pin::pin!(aborts);
    while let Some(done) = aborts.next().await {
        field.strikes.push(field.traffic.now());
        failed += usize::from(done.is_err());
    }
    field.notes.push(format!("{failed} connections were refused"));
    let gateway = &field.stack.gateways[0];
    let let_go = eventually(LET_GO_WITHIN, "the gateway lets go of clients that went away", async || {
        // The traffic's own connections come and go.
        match gateway.connections()? {
            open if open <= baseline + ABORTED_AT_ONCE => Ok(()),
            open => Err(Failure::new(format!("{open} connections, {baseline} before"))),
        }
    })
    .await;
    field.demand(let_go.is_ok(), || let_go.err().map(|failure| failure.to_string()).unwrap_or_default());
    Ok(())
}

/// Sends a part of a request, or all of it, and goes away, politely or not.
async fn abort(port: u16, user: &App, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let body = format!("{{\"message\":\"aborted {seed}\"}}");
    let message = format!(
        "POST /chat/aborted/message HTTP/1.1\r\nHost: rig\r\nAuthorization: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        user.token(),
        body.len()
    );
    let request = match rng.random_range(0..3) {
        0 => stream_head("aborted", user.token()),
        _ => message,
    };
    let length = rng.random_range(0..=request.len());
    let connecting = timeout(Duration::from_secs(5), TcpStream::connect(("127.0.0.1", port)));
    let mut connection = connecting.await.explain(|| "no connection".to_owned())??;
    if rng.random_bool(0.5) {
        connection.set_zero_linger()?;
    }
    connection.write_all(&request.as_bytes()[..length]).await?;
    sleep(Duration::from_micros(rng.random_range(0..5_000))).await;
    Ok(())
}
