//! Liveness of the peer of a connection: for how long it has acknowledged nothing of what was sent, by the kernel.
//!
//! A phone that changed networks closes no connection. Its stream looks open until the kernel gives the connection up, after
//! half a minute of retransmissions; but the kernel counts them, and answers who asks (`sock_diag(7)`). The connection is named
//! by its two addresses, so that it makes no difference who writes to its socket.

use std::net::SocketAddr;
use std::time::Duration;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpEndpoints {
    /// The address of this gateway.
    pub local: SocketAddr,
    /// The address of the client, or of its proxy.
    pub peer: SocketAddr,
}

/// Retransmissions without an acknowledgement after which a peer counts as silent: three seconds at least, by the shortest
/// pause of the kernel, 0.2 s, which doubles (RFC 6298). One or two happen on any radio link.
#[cfg(target_os = "linux")]
const MIN_RETRANSMISSIONS: u8 = 4;

/// For how long the peer has sent no acknowledgement while one is due; `None` if none is due, or if that is not known.
#[cfg(target_os = "linux")]
#[must_use]
pub(super) fn silence(endpoints: TcpEndpoints) -> Option<Duration> {
    let info =
        linux::ask(endpoints).inspect_err(|error| tracing::debug!(error = %error, "cannot ask for a peer: {error}"));
    let info = info.ok().flatten()?;
    let is_due = info.unacked > 0 && info.retransmits >= MIN_RETRANSMISSIONS;
    is_due.then(|| Duration::from_millis(info.last_ack_recv.into()))
}

/// Elsewhere the kernel is not asked.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub(super) fn silence(_endpoints: TcpEndpoints) -> Option<Duration> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
    use netlink_packet_sock_diag::SockDiagMessage;
    use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
    use netlink_packet_sock_diag::inet::nlas::{Nla, TcpInfo};
    use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
    use netlink_sys::protocols::NETLINK_SOCK_DIAG;
    use netlink_sys::{Socket, SocketAddr};

    use super::TcpEndpoints;

    /// "Any cookie": the socket is named by its addresses alone.
    const NO_COOKIE: [u8; 8] = [0xff; 8];

    /// What the kernel knows of the connection; `None` if there is none. The kernel answers before the call that asks returns,
    /// so this does not block.
    pub(super) fn ask(endpoints: TcpEndpoints) -> io::Result<Option<Box<TcpInfo>>> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&request(endpoints), 0)?;
        let (answer, _) = socket.recv_from_full()?;
        let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer).map_err(io::Error::other)?;
        let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) = answer.payload else {
            return Ok(None);
        };
        Ok(found.nlas.into_iter().find_map(|attribute| match attribute {
            Nla::TcpInfo(info) => Some(Box::new(info)),
            _ => None,
        }))
    }

    fn request(endpoints: TcpEndpoints) -> Vec<u8> {
        let socket = InetRequest {
            family: if endpoints.local.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: endpoints.local.port(),
                destination_port: endpoints.peer.port(),
                source_address: endpoints.local.ip(),
                destination_address: endpoints.peer.ip(),
                interface_id: 0,
                cookie: NO_COOKIE,
            },
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(socket).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use socket2::{SockFilter, SockRef};

    use super::*;

    /// A filter that accepts no packet at all (`ret 0` of the classic packet filter).
    const DROP_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel is asked again and again, and no task waits here"
    )]
    #[test]
    fn a_vanished_peer_is_silent_an_idle_one_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut served, peer) = listener.accept().unwrap();
            let endpoints = TcpEndpoints {
                local: served.local_addr().unwrap(),
                peer,
            };
            served.write_all(b"read by nobody").unwrap();
            assert_eq!(silence(endpoints), None);
            SockRef::from(&client).attach_filter(&DROP_ALL).unwrap();
            served.write_all(b"reaches nobody").unwrap();
            let written = Instant::now();
            while silence(endpoints).is_none() {
                assert!(written.elapsed() < Duration::from_secs(20), "the kernel says nothing");
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(silence(endpoints).unwrap() > Duration::from_secs(1));
        }
    }
}
