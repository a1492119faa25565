//! The attacker of a flood and the gateway that it attacks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::net::{TcpSocket, TcpStream};

use crate::api_client::ApiClient;
use crate::eventually::eventually;
use crate::failure::{Explain as _, Failure, Result};
use crate::stack::Stack;

/// The attack itself, which runs until it is dropped; a failure means that it could not be carried out.
pub(super) type Attack = LocalBoxFuture<'static, Result<()>>;

/// Prepares an attack.
pub(super) type Prepare = fn(Arc<FloodContext>) -> LocalBoxFuture<'static, Result<Attack>>;

/// The attacker's address; the users of the baseline load come from 127.0.0.1.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Posts in flight while a room is filled.
const FILLING: usize = 16;
/// A room whose pages have the greatest size a page can have.
pub(super) const LARGE_ROOM: &str = "large";
/// Messages there.
const LARGE_ROOM_MESSAGES: usize = 600;
/// Characters of a message there, of four bytes each: as long as messages may be.
const LARGE_MESSAGE: usize = 4_000;
/// How long a filled room may take until all of it is stored.
const STORED_WITHIN: Duration = Duration::from_mins(1);

/// The attacked gateway, and the attacker's account there.
pub(super) struct FloodContext {
    /// The attacker, signed in, over HTTP/1.1 and from an address of its own.
    pub(super) attacker: ApiClient,
    port: u16,
}

impl FloodContext {
    pub(super) async fn new(stack: &Stack) -> Result<Self> {
        let gateway = &stack.gateways[0];
        let url = gateway.url();
        let attacker = ApiClient::at_from(&url, Some(IpAddr::V4(ADDRESS)))?.register("attacker").await?;
        Ok(Self {
            attacker,
            port: gateway.port(),
        })
    }

    /// A connection from the attacker's address.
    pub(super) async fn connect(&self) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((ADDRESS, 0).into())?;
        Ok(socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await?)
    }

    /// Creates [`LARGE_ROOM`].
    pub(super) async fn fill_large_room(&self) -> Result<()> {
        self.fill(LARGE_ROOM, LARGE_ROOM_MESSAGES, &"\u{1F980}".repeat(LARGE_MESSAGE)).await
    }

    /// Creates a room of the attacker with `count` messages of `text`.
    pub(super) async fn fill(&self, room: &str, count: usize, text: &str) -> Result<()> {
        self.attacker.create_room(room).await?;
        let posts = stream::iter(0..count).map(|_| self.attacker.post(room, text));
        posts.buffer_unordered(FILLING).try_for_each(async |_| Ok(())).await?;
        eventually(STORED_WITHIN, "the room is stored", async || {
            let newest = self.attacker.history(room, "?limit=1").await?;
            let head = newest.first().and_then(|message| message["seq"].as_u64()).unwrap_or(0);
            // The entry of the creation comes before them.
            let last = count as u64 + 1;
            if head == last {
                Ok(())
            } else {
                Err(Failure::new(format!("{head} of {last} entries")))
            }
        })
        .await
        .explain(|| format!("filling {room}"))
    }
}

/// The path of a page of [`LARGE_ROOM`]; another `number` gives another page.
pub(super) fn large_page(number: usize) -> String {
    let before = LARGE_ROOM_MESSAGES + 2 - number % (LARGE_ROOM_MESSAGES / 2);
    format!("/chat/{LARGE_ROOM}/messagehistory?before={before}")
}
