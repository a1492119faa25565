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
    activity::{Activity, LAST_REQUEST},
    budget::ConnectionBudget,
    client_budget::ClientBudget,
    context::ServerContext,
    drive::{End, HyperConnection, drive},
    hijack::HijackedSocket,
    refusal::{self, Refusal},
    request_service::RequestService,
    socket::{self, Protocol, Socket},
};

/// Serves one connection until it ends, and then gives its place back. `client_budget` is charged for what it takes.
pub(super) async fn run(
    context: Arc<ServerContext>,
    stream: TcpStream,
    peer: SocketAddr,
    mut client: Option<ClientBudget>,
    permit: OwnedSemaphorePermit,
) {
    // Fails when the client is gone already.
    let Ok(local) = stream.local_addr() else {
        return;
    };
    if let Err(error) = socket::configure(&stream, context.limits.write_stall) {
        debug!(%error, "socket options refused");
    }
    let stopped = async {
        context.soft.cancelled().await;
        sleep(LAST_REQUEST).await;
    };
    let protocol = tokio::select! {
        biased;
        protocol = timeout(context.limits.first_byte_deadline, socket::sniff(&stream)) => protocol,
        () = stopped => return,
    };
    let Ok(Ok(protocol)) = protocol else { return };
    let multiplexed = match protocol {
        Protocol::Http1 => None,
        Protocol::Http2 => {
            let permit = context.multiplex(client.as_mut());
            if permit.is_none() {
                debug!("as many connections of HTTP/2 as allowed are open: one more is closed");
                return;
            }
            permit
        }
    };
    let forwarded = client.is_none().then(|| context.forwarded.clone());
    let budget = ConnectionBudget::new(Arc::clone(&context.budgets), client);
    let activity = Activity::new(Arc::clone(&budget));
    let socket = Socket::new(stream, protocol, Arc::clone(&activity), context.limits.write_stall);
    let service = RequestService {
        app: Arc::clone(&context.app),
        refusals: Arc::clone(&context.refusals),
        local,
        peer,
        protocol,
        activity,
        budget,
        forwarded,
    };
    match protocol {
        Protocol::Http1 => http1(&context, socket, service, permit).await,
        // Boxed: it is larger than the other, and every connection would pay for it.
        Protocol::Http2 => Box::pin(http2(&context, socket, service)).await,
    }
    drop(multiplexed);
}

async fn http1(context: &ServerContext, socket: Socket, service: RequestService, permit: OwnedSemaphorePermit) {
    let activity = Arc::clone(&service.activity);
    let mut connection = context.http1.serve_connection(TokioIo::new(socket), service);
    let end = drive(context, &mut connection, &activity).await;
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner();
    // For hyper that is a failure, or an end in order if nothing of the head had come before.
    if let Some((over, piece)) = socket.take_refused() {
        if activity.owes_nothing() {
            let head = [&parts.read_buf[..], &piece].concat();
            refusal::answer(socket.into_stream(), context.refusals.for_head(over.into(), &head)).await;
        }
        return;
    }
    match end {
        End::Complete => refusal::close(socket.into_stream()).await,
        End::Failed(error) => {
            if let Some(refusal) = Refusal::of_head(&error).filter(|_| socket.withheld()) {
                let answer = context.refusals.for_head(refusal, &parts.read_buf);
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
        End::Hijacked(handler) => match socket.into_stream().into_std() {
            Ok(socket) => handler.take(HijackedSocket { socket, permit }),
            Err(error) => debug!(%error, "connection could not be handed over"),
        },
    }
}

async fn http2(context: &ServerContext, socket: Socket, service: RequestService) {
    let activity = Arc::clone(&service.activity);
    activity.multiplexed();
    let mut connection = context.http2.serve_connection(TokioIo::new(socket), service);
    match drive(context, &mut connection, &activity).await {
        // Nobody is offered the socket that many requests share.
        End::Complete | End::Hijacked(_) => {}
        End::Failed(error) => debug!(%error, "connection ended early"),
        End::Overdue => {
            // Tells the client first, so that it does not lose a request that is on its way.
            connection.finish();
            let _ = timeout(refusal::CLOSING_DEADLINE, connection).await;
        }
    }
}
