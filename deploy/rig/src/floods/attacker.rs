//! Where an attack comes from and what it is aimed at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::net::{TcpSocket, TcpStream};

use crate::{App, Explain as _, Failure, Result, Stack, eventually};

/// The attacker's address: not that of the ordinary users, who come from 127.0.0.1.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Posts in flight while a room is filled.
const FILLING: usize = 16;
/// A room whose pages are as large as pages get.
pub(super) const LARGE_ROOM: &str = "large";
/// Messages there.
const LARGE_ROOM_MESSAGES: usize = 600;
/// Characters of a message there, of four bytes each: as long as messages may be.
const LARGE_MESSAGE: usize = 4_000;
/// How long a filled room may take until all of it is stored.
const STORED_WITHIN: Duration = Duration::from_mins(1);

/// A gateway to be flooded, and an account that the attacker has there.
pub struct Ground {
    /// The attacker, signed in, over HTTP/1.1 and from an address of its own.
    pub attacker: App,
    /// Where the gateway is.
    pub url: String,
    port: u16,
}

impl Ground {
    pub(super) async fn new(stack: &Stack) -> Result<Self> {
        let gateway = &stack.gateways[0];
        let url = gateway.url();
        let attacker = App::at_from(&url, Some(IpAddr::V4(ADDRESS)))?.register("attacker").await?;
        Ok(Self {
            attacker,
            url,
            port: gateway.port(),
        })
    }

    /// A connection from the attacker's address.
    pub async fn connect(&self) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((ADDRESS, 0).into())?;
        Ok(socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await?)
    }

    /// Creates [`LARGE_ROOM`].
    pub(super) async fn fill_large_room(&self) -> Result<()> {
        self.fill(LARGE_ROOM, LARGE_ROOM_MESSAGES, &"\u{1F980}".repeat(LARGE_MESSAGE)).await
    }

    /// Creates a room of the attacker with `count` messages of `text`.
    pub async fn fill(&self, room: &str, count: usize, text: &str) -> Result<()> {
        self.attacker.create_room(room).await?;
        let posts = stream::iter(0..count).map(|_| self.attacker.post(room, text));
        posts.buffer_unordered(FILLING).try_for_each(async |_| Ok(())).await?;
        eventually(STORED_WITHIN, "the room is stored", async || {
            let newest = self.attacker.history(room, "?limit=1").await?;
            let head = newest.first().and_then(|message| message["seq"].as_u64()).unwrap_or(0);
            if head == count as u64 {
                Ok(())
            } else {
                Err(Failure::new(format!("{head} of {count} messages")))
            }
        })
        .await
        .explain(|| format!("filling {room}"))
    }
}

/// The path of a page of [`LARGE_ROOM`]; with another `number` it is another one.
pub(super) fn large_page(number: usize) -> String {
    let before = LARGE_ROOM_MESSAGES + 1 - number % (LARGE_ROOM_MESSAGES / 2);
    format!("/chat/{LARGE_ROOM}/messagehistory?before={before}")
}
