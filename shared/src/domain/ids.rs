//! Identifiers. A message has three of them: its id (identity), its log entry id (position in the accept log) and its seq
//! (order in its room).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Row id of a user. It is internal: clients see the public id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

/// Row id of a room. It is internal: clients see the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoomId(pub i64);

/// A login of a user. The access token contains it, and it can be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

/// A membership of a user in a room, from joining to leaving. A user who joins again gets another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MembershipId(pub i64);

impl MembershipId {
    /// A new id, which no other membership has: 62 random bits.
    #[must_use]
    pub fn fresh() -> Self {
        let (_, random) = Uuid::new_v4().as_u64_pair();
        // The upper two bits are constant (RFC 9562, section 4.1).
        Self((random & (u64::MAX >> 2)).cast_signed())
    }
}

/// An open stream, unique among those of all gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamKey {
    /// A random number of the gateway process that serves it.
    pub gateway: u64,
    /// Its number among all streams that this process has served.
    pub number: u64,
}

impl StreamKey {
    /// Parses what `Display` writes; `None` for anything else.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        let (gateway, number) = raw.split_once('-')?;
        let read = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Self {
            gateway: read(gateway)?,
            number: read(number)?,
        })
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.gateway, self.number)
    }
}

impl From<StreamKey> for String {
    fn from(key: StreamKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for StreamKey {
    type Error = &'static str;

    fn try_from(raw: String) -> Result<Self, Self::Error> {
        Self::parse(&raw).ok_or("not the name of a stream")
    }
}

/// Position of a stored message in its room: 1, 2, 3 … without a gap. 0 is before the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// The position before the first message.
    pub const ZERO: Self = Self(0);

    /// The next position.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position that is `count` after this one.
    #[must_use]
    pub fn plus(self, count: usize) -> Self {
        Self(self.0.saturating_add_unsigned(count as u64))
    }

    /// The number of positions after `earlier` up to and including this one, which is that of messages, since seqs have no gaps.
    /// Zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> usize {
        usize::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

/// Position of an entry among those of all rooms, which no other entry has. Within a partition positions grow from commit to
/// commit, so whoever has seen a partition up to one of them finds everything later above it. Between partitions they say
/// nothing. 0 is before the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position(pub i64);

/// Version of a user's set of rooms: it grows with every change of which rooms the user is in, and of what a room is for them (read
/// mark, notifications, hidden or not). The changes of one user are committed in the order of their versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoomsVersion(pub i64);

/// How many revocations there were: sessions revoked, memberships ended and rooms deleted. A deleted room keeps the number that its
/// deletion got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemovalCount(pub i64);

/// Id of an installation: 48 random bits, generated when it is created and written as 12 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstallationId(u64);

/// A text that is not an [`InstallationId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an installation is named by 12 hexadecimal digits in lower case")]
pub struct InvalidInstallationId;

impl InstallationId {
    /// The number of hexadecimal digits.
    const DIGITS: usize = 12;

    /// A new id, which no other installation has.
    #[must_use]
    pub fn fresh() -> Self {
        // The upper 48 bits are all random: the version comes after them (RFC 9562, section 5.4).
        Self(Uuid::new_v4().as_u64_pair().0 >> 16)
    }
}

impl fmt::Display for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl FromStr for InstallationId {
    type Err = InvalidInstallationId;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        let digits = raw.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = u64::from_str_radix(raw, 16).ok().filter(|_| digits && raw.len() == Self::DIGITS);
        id.map(Self).ok_or(InvalidInstallationId)
    }
}

/// A gateway process, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GatewayId(pub Uuid);

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// Id of a message or of a change. It never changes and is unique in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub Uuid);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Parses a UUID in the only form in which UUIDs are written here: in lower case, with hyphens.
#[must_use]
pub fn parse_uuid(raw: &str) -> Option<Uuid> {
    let id = Uuid::parse_str(raw).ok()?;
    (id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == raw).then_some(id)
}
