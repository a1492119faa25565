//! One connection from accept to close.
//!
//! HTTP/1.1 and HTTP/2 have separate paths and share only the loop that keeps the deadlines (`drive`). The HTTP/1.1
//! path lets hyper end without shutting the socket down and takes it back through `into_parts`.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::client_budget::ClientBudget;
use super::connection_budget::ConnectionBudget;
use super::connection_state::{ConnectionState, LAST_REQUEST};
use super::context::ServerContext;
use super::drive::{End, HyperConnection, drive};
use super::hijack_handler::HijackedSocket;
use super::refusal::{self, Refusal};
use super::request_service::RequestService;
use super::socket::{self, Protocol, Socket};

/// Serves one connection until it ends, and then releases its permit. `client` is charged for the bytes that it holds.
pub(super) async fn run(
    context: Arc<ServerContext>,
    stream: TcpStream,
    peer: SocketAddr,
    mut client: Option<ClientBudget>,
    permit: OwnedSemaphorePermit,
) {
    // It fails when the client has left already.
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
        protocol = timeout(context.limits.first_byte_deadline, socket::detect_protocol(&stream)) => protocol,
        () = stopped => return,
    };
    let Ok(Ok(protocol)) = protocol else { return };
    let http2_permit = match protocol {
        Protocol::Http1 => None,
        Protocol::Http2 => {
            let permit = context.acquire_http2(client.as_mut());
            if permit.is_none() {
                debug!("as many connections of HTTP/2 as allowed are open: one more is closed");
                return;
            }
            permit
        }
    };
    let forwarded = client.is_none().then(|| context.forwarded.clone());
    let budget = ConnectionBudget::new(Arc::clone(&context.budgets), client);
    let state = ConnectionState::new(Arc::clone(&budget));
    let socket = Socket::new(stream, protocol, Arc::clone(&state), context.limits.write_stall);
    let service = RequestService {
        app: Arc::clone(&context.app),
        refusals: Arc::clone(&context.refusals),
        local,
        peer,
        protocol,
        state,
        budget,
        forwarded,
    };
    match protocol {
        Protocol::Http1 => http1(&context, socket, service, permit).await,
        // Boxed: it is larger than the other, and every connection would pay for it.
        Protocol::Http2 => Box::pin(http2(&context, socket, service)).await,
    }
    drop(http2_permit);
}

async fn http1(context: &ServerContext, socket: Socket, service: RequestService, permit: OwnedSemaphorePermit) {
    let state = Arc::clone(&service.state);
    let mut connection = context.http1.serve_connection(TokioIo::new(socket), service);
    let end = drive(context, &mut connection, &state).await;
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner();
    // For hyper that is a failure, or an end in order if nothing of the headers had come before.
    if let Some((over, piece)) = socket.take_refused() {
        if state.owes_nothing() {
            let beginning = [&parts.read_buf[..], &piece].concat();
            refusal::answer(socket.into_stream(), context.refusals.for_unparsed(over.into(), &beginning)).await;
        }
        return;
    }
    match end {
        End::Complete => refusal::close(socket.into_stream()).await,
        End::Failed(error) => {
            if let Some(refusal) = Refusal::of_parse_error(&error).filter(|_| socket.has_withheld()) {
                let answer = context.refusals.for_unparsed(refusal, &parts.read_buf);
                refusal::answer(socket.into_stream(), answer).await;
            } else {
                debug!(%error, "connection ended early");
            }
        }
        End::Overdue => {
            if state.has_send_deadline() {
                socket.reset_on_drop();
            }
            debug!("connection closed at its deadline");
        }
        End::Hijacked(hijacker) => match socket.into_stream().into_std() {
            Ok(socket) => hijacker.run(HijackedSocket { socket, permit }),
            Err(error) => debug!(%error, "connection could not be handed over"),
        },
    }
}

async fn http2(context: &ServerContext, socket: Socket, service: RequestService) {
    let state = Arc::clone(&service.state);
    state.on_http2();
    let mut connection = context.http2.serve_connection(TokioIo::new(socket), service);
    match drive(context, &mut connection, &state).await {
        // No request is offered the socket that it shares with others.
        End::Complete | End::Hijacked(_) => {}
        End::Failed(error) => debug!(%error, "connection ended early"),
        End::Overdue => {
            // It tells the client first, so that the client does not lose a request that is on its way.
            connection.begin_shutdown();
            let _ = timeout(refusal::CLOSING_DEADLINE, connection).await;
        }
    }
}
