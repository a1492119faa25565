//! Reasons for which the server ends a stream, as the event `bye` names them.

use serde::Serialize;

/// Why the server ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ByeReason {
    /// The token has expired.
    TokenExpired,
    /// The session was ended.
    Revoked,
    /// The user is no longer in the room, or the room is gone.
    Removed,
    /// History was restored or cut: the stream's positions are of a history that is gone.
    HistoryChanged,
    /// A newer stream of the same client has replaced it.
    Replaced,
    /// The gateway stops.
    Shutdown,
    /// The stream has reached its longest life.
    MaxAge,
    /// The client asked for an end after so many messages, or so long.
    Bounded,
    /// More rooms have something new than a cursor can name: the client comes back with its last one to catch up.
    TooMany,
}

impl ByeReason {
    /// All of them.
    #[cfg(test)]
    const ALL: [Self; 9] = [
        Self::TokenExpired,
        Self::Revoked,
        Self::Removed,
        Self::HistoryChanged,
        Self::Replaced,
        Self::Shutdown,
        Self::MaxAge,
        Self::Bounded,
        Self::TooMany,
    ];

    /// Whether the same call with the same token can work again.
    pub(super) fn may_come_back(self) -> bool {
        match self {
            Self::HistoryChanged | Self::Shutdown | Self::MaxAge | Self::Bounded | Self::TooMany => true,
            Self::TokenExpired | Self::Revoked | Self::Removed | Self::Replaced => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_documented_for_apps() {
        let document = include_str!("../../openapi.json");
        let page = include_str!("../../../deploy/docs/clients.md");
        for reason in ByeReason::ALL {
            let name = serde_json::to_string(&reason).unwrap();
            let code = format!("`{}`", name.trim_matches('"'));
            assert!(document.contains(&code), "openapi.json lacks {code}");
            assert!(page.contains(&code), "clients.md lacks {code}");
        }
    }
}
