//! What a member wants to be notified of in a room.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Which messages of a room a member wants to be notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyLevel {
    /// All.
    All,
    /// Those that mention them.
    Mentions,
    /// None.
    None,
}

/// A text that is no [`NotifyLevel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of 'all', 'mentions' and 'none'")]
pub struct InvalidNotifyLevel;

impl NotifyLevel {
    /// Every level.
    pub const EVERY: [Self; 3] = [Self::All, Self::Mentions, Self::None];

    /// As it is written in SQL and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Mentions => "mentions",
            Self::None => "none",
        }
    }

    /// Parses what [`NotifyLevel::as_str`] writes.
    pub fn parse(raw: &str) -> Result<Self, InvalidNotifyLevel> {
        Self::EVERY.into_iter().find(|level| level.as_str() == raw).ok_or(InvalidNotifyLevel)
    }
}

/// A member's setting for a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify {
    /// Which messages.
    pub level: NotifyLevel,
    /// When the level ends, and all messages count again. `None`: never.
    pub until: Option<Timestamp>,
}

impl Notify {
    /// The setting of a member who has chosen none.
    pub const ALL: Self = Self {
        level: NotifyLevel::All,
        until: None,
    };

    /// The setting that holds at `now`.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        match self.until {
            Some(until) if until <= now => Self::ALL,
            Some(_) | None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        for level in NotifyLevel::EVERY {
            assert_eq!(NotifyLevel::parse(level.as_str()), Ok(level));
        }
        assert_eq!(NotifyLevel::parse("ALL"), Err(InvalidNotifyLevel));
    }

    #[test]
    fn a_level_ends_when_its_time_has_come() {
        let until = Timestamp(1_000);
        let muted = Notify {
            level: NotifyLevel::None,
            until: Some(until),
        };
        assert_eq!(muted.at(Timestamp(999)), muted);
        assert_eq!(muted.at(until), Notify::ALL);
        let always = Notify { until: None, ..muted };
        assert_eq!(always.at(Timestamp(i64::MAX)), always);
    }
}
