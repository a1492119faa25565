//! One connection from accept to close.
//!
//! HTTP/1.1 and HTTP/2 have separate paths and only share the loop that watches the deadlines (`drive`). The HTTP/1.1
//! path lets hyper end without shutting the socket down and takes it back through `into_parts`.

use std::{net::SocketAddr, sync::Arc};

use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    account::Account,
    activity::{Activity, LAST_REQUEST},
    budget::ConnectionBudget,
    drive::{Conversation, End, drive},
    exchange::Exchange,
    refusal::{self, Refusal},
    shared::Shared,
    socket::{self, Protocol, Socket},
    takeover::Taken,
};

/// Serves one connection until it ends, and then gives its place back. `account` is charged for what it takes.
pub(super) async fn run(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    mut account: Option<Account>,
    place: OwnedSemaphorePermit,
) {
    // Fails when the client is gone already.
    let Ok(local) = stream.local_addr() else {
        return;
    };
    if let Err(error) = socket::configure(&stream, shared.limits.write_stall) {
        debug!(%error, "socket options refused");
    }
    let stopped = async {
        shared.soft.cancelled().await;
        sleep(LAST_REQUEST).await;
    };
    let protocol = tokio::select! {
        biased;
        protocol = timeout(shared.limits.first_byte_deadline, socket::sniff(&stream)) => protocol,
        () = stopped => return,
    };
    let Ok(Ok(protocol)) = protocol else { return };
    let multiplexed = match protocol {
        Protocol::Http1 => None,
        Protocol::Http2 => {
            let place = shared.multiplex(account.as_mut());
            if place.is_none() {
                debug!("as many connections of HTTP/2 as allowed are open: one more is closed");
                return;
            }
            place
        }
    };
    let forwarded = account.is_none().then(|| shared.forwarded.clone());
    let budget = ConnectionBudget::new(Arc::clone(&shared.accounts), account);
    let activity = Activity::new(Arc::clone(&budget));
    let socket = Socket::new(stream, protocol, Arc::clone(&activity), shared.limits.write_stall);
    let exchange = Exchange {
        app: Arc::clone(&shared.app),
        refuse: Arc::clone(&shared.refuse),
        local,
        peer,
        protocol,
        activity,
        budget,
        forwarded,
    };
    match protocol {
        Protocol::Http1 => http1(&shared, socket, exchange, place).await,
        // Boxed: it is larger than the other, and every connection would pay for it.
        Protocol::Http2 => Box::pin(http2(&shared, socket, exchange)).await,
    }
    drop(multiplexed);
}

async fn http1(shared: &Shared, socket: Socket, exchange: Exchange, place: OwnedSemaphorePermit) {
    let activity = Arc::clone(&exchange.activity);
    let mut connection = shared.http1.serve_connection(TokioIo::new(socket), exchange);
    let end = drive(shared, &mut connection, &activity).await;
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner();
    // For hyper that is a failure, or an end in order if nothing of the head had come before.
    if let Some((excess, piece)) = socket.take_refused() {
        if activity.owes_nothing() {
            let head = [&parts.read_buf[..], &piece].concat();
            refusal::answer(socket.into_stream(), shared.refuse.to_head(excess.into(), &head)).await;
        }
        return;
    }
    match end {
        End::Complete => refusal::close(socket.into_stream()).await,
        End::Failed(error) => {
            if let Some(refusal) = Refusal::of_head(&error).filter(|_| socket.withheld()) {
                let answer = shared.refuse.to_head(refusal, &parts.read_buf);
                refusal::answer(socket.into_stream(), answer).await;
            } else {
                debug!(%error, "connection ended early");
            }
        }
        End::Overdue => {
            if activity.is_sending() {
                socket.give_up();
            }
            debug!("connection closed at its deadline");
        }
        End::TakenOver(taker) => match socket.into_stream().into_std() {
            Ok(socket) => taker.take(Taken { socket, place }),
            Err(error) => debug!(%error, "connection could not be handed over"),
        },
    }
}

async fn http2(shared: &Shared, socket: Socket, exchange: Exchange) {
    let activity = Arc::clone(&exchange.activity);
    activity.multiplexed();
    let mut connection = shared.http2.serve_connection(TokioIo::new(socket), exchange);
    match drive(shared, &mut connection, &activity).await {
        // Nobody is offered the socket that many requests share.
        End::Complete | End::TakenOver(_) => {}
        End::Failed(error) => debug!(%error, "connection ended early"),
        End::Overdue => {
            // Tells the client first, so that it does not lose a request that is on its way.
            connection.finish();
            let _ = timeout(refusal::CLOSING_DEADLINE, connection).await;
        }
    }
}
