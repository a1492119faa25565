//! Readers that read nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::evidence::Outcome;
use crate::field::Field;
use crate::report::percentiles;
use crate::{Failure, Gateway, Result};

/// Time in which posts and memory are measured without, and then with, stopped readers.
const MEASURED: Duration = Duration::from_secs(15);
/// How long the gateways have until every stopped reader holds what it can hold.
const FILLING: Duration = Duration::from_secs(3);
/// How much longer posts of others may take, and how far two measurements of the same thing lie apart anyway.
const MAY_SUFFER: f64 = 1.1;
const MEASURING: Duration = Duration::from_millis(5);
/// How often memory is looked at for one weight, and the time in between.
const WEIGHINGS: usize = 50;
const BETWEEN_WEIGHINGS: Duration = Duration::from_millis(100);
/// How long reading a room from its beginning may take.
const READ_WITHIN: Duration = Duration::from_secs(20);
/// What the kernel holds for a stopped reader, in bytes.
const SMALL_BUFFER: u32 = 4_096;
/// Memory a gateway may hold for a client that does not read, in KiB.
const STOPPED_KIB: u64 = 64;
/// Stopped readers at a gateway from which on its memory tells something about one of them.
const MEANINGFUL: usize = 40;

/// F13: `count` readers, one for nine that read, ask for everything from the beginning of a room and read nothing. Posts of
/// others must not suffer, nor the memory of any gateway.
pub(super) async fn stopped_readers(field: &mut Field, count: usize) -> Result<()> {
    let empty = weights(field).await;
    let before = measure(field).await?;
    // What grows anyway, such as the last messages of each room, grows in the second half too.
    let grown: Vec<u64> = growth(&weights(field).await, &empty);
    // So does what is kept for all who come back: pages of history are there before the first one stops.
    for number in 0..count {
        read_everything(field, number).await?;
    }
    let weights_before = weights(field).await;
    let mut stopped = Vec::new();
    for number in 0..count {
        field.strike();
        stopped.push(stop_reading(field, number).await?);
    }
    sleep(FILLING).await;
    let during = measure(field).await?;
    let gateways = field.stack.gateways.len();
    let grown_beside = growth(&weights(field).await, &weights_before);
    let each = grown_beside.iter().zip(&grown).enumerate().map(|(number, (with, without))| {
        let readers = (number..count).step_by(gateways).count();
        with.saturating_sub(*without) / u64::try_from(readers).unwrap_or(u64::MAX).max(1)
    });
    let each: Vec<u64> = each.collect();
    field.notes.push(format!(
        "post p99 {} ms, with {count} stopped readers {} ms, {each:?} KiB for each at the gateways",
        before.as_millis(),
        during.as_millis()
    ));
    let allowed = before.mul_f64(MAY_SUFFER) + MEASURING;
    field.demand(during <= allowed, || {
        format!("posts took {during:?} beside stopped readers, and {before:?} without")
    });
    // What a process varies by anyway would be too much for each of a few.
    let enough = count / gateways >= MEANINGFUL;
    let is_bounded = each.iter().all(|kib| *kib <= STOPPED_KIB);
    field.demand(is_bounded || !enough, || format!("{each:?} KiB for each stopped reader"));
    Ok(())
}

/// The room of a reader, and the cursor from which it asks for everything.
async fn beginning(field: &Field, number: usize) -> Result<(String, String)> {
    let rooms = field.traffic.rooms();
    let room = rooms[number % rooms.len()].clone();
    let ready = field.traffic.reader().stream(&room).open().await?.ready().id.clone();
    let (epoch, _) = ready.rsplit_once('-').ok_or_else(|| Failure::new(format!("no cursor: {ready}")))?;
    let cursor = format!("{epoch}-0");
    Ok((room, cursor))
}

/// The gateway of a reader: one after the other.
fn gateway_of(field: &Field, number: usize) -> &Gateway {
    &field.stack.gateways[number % field.stack.gateways.len()]
}

/// Reads a room from its beginning to where it was when the stream began.
async fn read_everything(field: &Field, number: usize) -> Result<()> {
    let (room, cursor) = beginning(field, number).await?;
    let reader = field.traffic.reader().moved_to(&gateway_of(field, number).url())?;
    let mut stream = reader.stream(&room).after(&cursor).open().await?;
    let missed = stream.ready().json()?["missed"].as_u64().unwrap_or_default();
    stream.messages(usize::try_from(missed)?, READ_WITHIN).await.map(drop)
}

/// Opens a stream from the beginning of a room, and leaves it at that.
async fn stop_reading(field: &Field, number: usize) -> Result<TcpStream> {
    let (room, cursor) = beginning(field, number).await?;
    let gateway = gateway_of(field, number);
    let head = format!(
        "GET /chat/{room}/message HTTP/1.1\r\nHost: rig\r\nAuthorization: {}\r\nAccept: text/event-stream\r\n\
         Last-Event-ID: {cursor}\r\n\r\n",
        field.traffic.reader().token()
    );
    let socket = TcpSocket::new_v4()?;
    // So that it is the gateway that notices, and not the kernel that holds it all.
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, gateway.port()).into()).await?;
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// Resident memory of each gateway, in KiB: the least of some time, since the hash of a password takes 19 MiB for a moment.
async fn weights(field: &Field) -> Vec<u64> {
    let look = || field.stack.gateways.iter().map(|gateway| gateway.service.cell().resident_kib().unwrap_or(u64::MAX));
    let mut least: Vec<u64> = look().collect();
    for _ in 0..WEIGHINGS {
        sleep(BETWEEN_WEIGHINGS).await;
        for (least, now) in least.iter_mut().zip(look()) {
            *least = now.min(*least);
        }
    }
    least
}

fn growth(now: &[u64], before: &[u64]) -> Vec<u64> {
    now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect()
}

/// The 99th percentile of what posts take now.
async fn measure(field: &Field) -> Result<Duration> {
    let from = field.traffic.now();
    sleep(MEASURED).await;
    let is_acknowledged = |outcome| matches!(outcome, Outcome::Acknowledged(_));
    let times = field.traffic.book().post_times_since(from, is_acknowledged);
    percentiles(times).map(|(_, p99)| p99).ok_or_else(|| Failure::new("nothing was posted"))
}
