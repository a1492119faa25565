//! Free TCP ports that stay free while a process is down.
//!
//! A port from the kernel's ephemeral range could be taken by another connection between two starts of a gateway. So ports
//! are given out from below that range, each once in the life of this process.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::{Failure, Result};

/// First port that is given out.
const FIRST: u32 = 20_000;
/// How many there are; `FIRST + COUNT` lies below Linux's ephemeral range, which begins at 32768.
const COUNT: u32 = 12_000;
/// How far apart two test processes begin, so that they seldom try the same ports.
const STRIDE: u32 = 97;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of the loopback address on which nobody listens.
pub fn free_port() -> Result<u16> {
    let start = std::process::id().wrapping_mul(STRIDE);
    for _ in 0..COUNT {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + start.wrapping_add(number) % COUNT)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::new("no free TCP port between 20000 and 32000"))
}
