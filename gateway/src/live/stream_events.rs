//! Events that the stream of a room and that of all rooms have alike: what became of the client's cursor, that the stream is alive, and its end.

use serde::Serialize;

use super::bye_reason::ByeReason;

/// Why a cursor could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// It is not of the form `<epoch>-<seq>`.
    Malformed,
    /// It belongs to another room, or to a history that is gone.
    Foreign,
    /// It lies beyond the last message.
    Ahead,
    /// More was missed than the client wants to have replayed.
    TooMany,
    /// Messages that followed it are gone.
    HistoryDamaged,
}

/// Data of `ping`.
#[derive(Debug, Serialize)]
pub(super) struct Ping {
    /// The time by the clock of the gateway.
    pub(super) server_time: String,
}

/// Data of `bye`.
#[derive(Debug, Serialize)]
pub(super) struct Bye {
    /// Why the stream ends.
    pub(super) reason: ByeReason,
    /// When to come back; absent where coming back is of no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_ms: Option<u32>,
}
