//! F13: readers that read nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::failure::{Failure, Result};
use crate::fault_run::FaultRun;
use crate::gateway::Gateway;
use crate::measures::{acknowledged_post_times, percentiles};

/// Time in which posts and memory are measured without, and then with, stalled readers.
const MEASURED: Duration = Duration::from_secs(15);
/// How long the gateways have until every stalled reader holds what it can hold.
const FILLING: Duration = Duration::from_secs(3);
/// How much longer posts of others may take, and how far two measurements of the same thing lie apart anyway.
const MAY_SUFFER: f64 = 1.1;
const MEASUREMENT_ERROR: Duration = Duration::from_millis(5);
/// How often memory is sampled for one measurement, and the time in between.
const MEMORY_SAMPLES: usize = 50;
const BETWEEN_SAMPLES: Duration = Duration::from_millis(100);
/// How long reading a room from its beginning may take.
const READ_WITHIN: Duration = Duration::from_secs(20);
/// What the kernel holds for a stalled reader, in bytes.
const SMALL_BUFFER: u32 = 4_096;
/// Memory a gateway may hold for a client that does not read, in KiB.
const STALLED_KIB: u64 = 64;
/// Stalled readers at a gateway from which on its memory says something about one of them.
const MEANINGFUL: usize = 40;

/// Opens `count` streams, one for nine that are read, that ask for everything from the beginning of a room and read
/// nothing. Neither posts of others nor the memory of any gateway may suffer.
pub(super) async fn stall(run: &mut FaultRun, count: usize) -> Result<()> {
    let empty = memory(run).await;
    let before = post_p99(run).await?;
    // What grows anyway, such as the last messages of each room, grows in the second half too.
    let grown: Vec<u64> = growth(&memory(run).await, &empty);
    // So does what is kept for all who come back: pages of history are there before the first reader stalls.
    for number in 0..count {
        read_everything(run, number).await?;
    }
    let memory_before = memory(run).await;
    let mut stalled = Vec::new();
    for number in 0..count {
        run.record_injection();
        stalled.push(open_unread_stream(run, number).await?);
    }
    sleep(FILLING).await;
    let during = post_p99(run).await?;
    let gateways = run.stack.gateways.len();
    let grown_beside = growth(&memory(run).await, &memory_before);
    let each = grown_beside.iter().zip(&grown).enumerate().map(|(number, (with, without))| {
        let readers = (number..count).step_by(gateways).count();
        with.saturating_sub(*without) / u64::try_from(readers).unwrap_or(u64::MAX).max(1)
    });
    let each: Vec<u64> = each.collect();
    run.notes.push(format!(
        "post p99 {} ms, with {count} stalled readers {} ms, {each:?} KiB for each at the gateways",
        before.as_millis(),
        during.as_millis()
    ));
    let allowed = before.mul_f64(MAY_SUFFER) + MEASUREMENT_ERROR;
    run.demand(during <= allowed, || {
        format!("posts took {during:?} beside stalled readers, and {before:?} without")
    });
    // Divided among a few readers, what a process varies by anyway would be too much for each.
    let enough = count / gateways >= MEANINGFUL;
    let is_bounded = each.iter().all(|kib| *kib <= STALLED_KIB);
    run.demand(is_bounded || !enough, || format!("{each:?} KiB for each stalled reader"));
    Ok(())
}

/// The room of a reader, and the cursor from which it asks for everything.
async fn beginning(run: &FaultRun, number: usize) -> Result<(String, String)> {
    let rooms = run.traffic.rooms();
    let room = rooms[number % rooms.len()].clone();
    let ready = run.traffic.reader().stream(&room).open().await?.ready().id.clone();
    let (epoch, _) = ready.rsplit_once('-').ok_or_else(|| Failure::new(format!("no cursor: {ready}")))?;
    let cursor = format!("{epoch}-0");
    Ok((room, cursor))
}

/// The gateway of a reader: one after the other.
fn gateway_of(run: &FaultRun, number: usize) -> &Gateway {
    &run.stack.gateways[number % run.stack.gateways.len()]
}

/// Reads a room from its beginning to where it was when the stream began.
async fn read_everything(run: &FaultRun, number: usize) -> Result<()> {
    let (room, cursor) = beginning(run, number).await?;
    let reader = run.traffic.reader().moved_to(&gateway_of(run, number).url())?;
    let mut stream = reader.stream(&room).after(&cursor).open().await?;
    let missed = stream.ready().json()?["missed"].as_u64().unwrap_or_default();
    stream.messages(usize::try_from(missed)?, READ_WITHIN).await.map(drop)
}

/// Opens a stream from the beginning of a room, and reads nothing of it.
async fn open_unread_stream(run: &FaultRun, number: usize) -> Result<TcpStream> {
    let (room, cursor) = beginning(run, number).await?;
    let gateway = gateway_of(run, number);
    let request = format!(
        "GET /chat/{room}/message HTTP/1.1\r\nHost: rig\r\nAuthorization: {}\r\nAccept: text/event-stream\r\n\
         Last-Event-ID: {cursor}\r\n\r\n",
        run.traffic.reader().token()
    );
    let socket = TcpSocket::new_v4()?;
    // The buffer is small, so that the gateway notices, and not the kernel holds it all.
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, gateway.port()).into()).await?;
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Resident memory of each gateway, in KiB: the lowest of some time, since the hash of a password takes 19 MiB for a moment.
async fn memory(run: &FaultRun) -> Vec<u64> {
    let sample =
        || run.stack.gateways.iter().map(|gateway| gateway.process.handle().resident_kib().unwrap_or(u64::MAX));
    let mut lowest: Vec<u64> = sample().collect();
    for _ in 0..MEMORY_SAMPLES {
        sleep(BETWEEN_SAMPLES).await;
        for (lowest, kib) in lowest.iter_mut().zip(sample()) {
            *lowest = kib.min(*lowest);
        }
    }
    lowest
}

fn growth(after: &[u64], before: &[u64]) -> Vec<u64> {
    after.iter().zip(before).map(|(after, before)| after.saturating_sub(*before)).collect()
}

/// The 99th percentile of the time that posts take, measured from here on.
async fn post_p99(run: &FaultRun) -> Result<Duration> {
    let from = run.traffic.now();
    sleep(MEASURED).await;
    let times = run.traffic.inspect(|evidence| acknowledged_post_times(evidence, from));
    percentiles(times).map(|(_, p99)| p99).ok_or_else(|| Failure::new("nothing was posted"))
}
