//! The condition of a proxied network link.

use std::time::Duration;

/// How a network link behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkCondition {
    /// Bytes pass at once.
    #[default]
    Normal,
    /// New connections are reset; existing connections are not touched.
    Refusing,
    /// Nothing passes in the directions that are true. The bytes arrive when the condition changes, if the connection still
    /// exists then.
    Blocked {
        /// From the client to the server.
        up: bool,
        /// From the server to the client.
        down: bool,
    },
    /// Every chunk waits for this long, in both directions.
    Slow(Duration),
}
