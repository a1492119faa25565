//! Bounds of the bytes that a connection, a client and the process hold.

/// Bytes that may be held at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByteLimits {
    /// The bytes that one connection may hold. A request or response that is alone there is always let through.
    pub(crate) connection: usize,
    /// The bytes that one address may hold; responses are also counted for one caller, from whatever addresses.
    pub(crate) address: usize,
    /// The bytes that this process may hold.
    pub(crate) process: usize,
}

/// Bounds of unfinished requests: their headers and bodies. A request beyond a bound is refused and forgotten.
///
/// A connection may hold the headers of 64 requests as apps send them, or several of the largest headers and bodies; an
/// address, some hundred clients that send their largest at the same moment. The bound of the process is what 400 MiB leave
/// beside 20,000 connections.
pub(crate) const REQUESTS: ByteLimits = ByteLimits {
    connection: 256 * 1024,
    address: 8 * 1024 * 1024,
    process: 64 * 1024 * 1024,
};

/// The bound of a connection while no valid token was seen on it.
pub(crate) const REQUESTS_BEFORE_TOKEN: usize = 128 * 1024;

/// Bytes a second that are read of the connections of one address on which no valid token was seen, for each connection that
/// it may have; as many are read at once before that.
///
/// Ordinary headers have half a kilobyte, large ones 16 KiB. Decoding those of HTTP/2 takes 10 ns a byte, refused or not: a
/// thousand connections are 4 MiB a second and a twentieth of a core.
pub(in crate::server) const EARLY_BYTES: u64 = 4 * 1024;

/// Bounds of unsent responses. A response beyond a bound is replaced by a refusal.
///
/// A page of history has 1 MiB at most, so a connection may wait for two of the largest, and an address for sixteen.
pub(crate) const RESPONSES: ByteLimits = ByteLimits {
    connection: 2 * 1024 * 1024,
    address: 16 * 1024 * 1024,
    process: 96 * 1024 * 1024,
};

/// Whose budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverBudget {
    /// That of the connection, its address or its caller: the client's own doing.
    Client,
    /// That of the process, which all clients share.
    Process,
}

/// Which bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Traffic {
    Requests,
    Responses,
}

impl Traffic {
    pub(in crate::server) fn limits(self) -> ByteLimits {
        match self {
            Self::Requests => REQUESTS,
            Self::Responses => RESPONSES,
        }
    }
}
