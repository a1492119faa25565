//! The key space: every name in Redis. No other module makes one.
//!
//! ```text
//! {7}:in                     stream           the accept log of partition 7: gateways append, its worker reads and trims
//! {7}:in:exchanged           stream           its copy with new ids, inside of the script that replaces it
//! {7}:stored                 string           how far that partition is stored in SQL
//! {7}:probe                  none             never exists: removing it shows whether a server takes writes
//! {7}:room:42                sharded channel  what was stored in room 42, published after the commit
//! control                    channel          control events for all gateways
//! receipts:<gateway>         channel          which of its posts are stored, for one gateway
//! acknowledgements:<gateway> channel          who has applied its control events, for one gateway
//! workers                    sorted set       the living workers
//! present:{workers}:<name>   sharded channel  one worker subscribes, nobody publishes: it shows that the worker is connected
//! gateway:<number>           string           exists while the gateway of that number lives, which holds leases of streams
//! streams:user:42            sorted set       leases of the open streams of user 42
//! streams:address:<address>  sorted set       leases of the open streams from an address
//! clients:{streams:user:42}  hash             the stream of each named client of user 42
//! limit:<kind>:<who>         string           a token bucket of a rate limit
//! ```
//!
//! `roomcast:<installation>:` comes before each name, also where it stands in braces. Earlier versions named the accept log `chat:{7}:in`;
//! workers carry over what their gateways append there during an upgrade.
//!
//! Pub/sub knows no database numbers, and room ids are small integers: without the installation in every name, two installations
//! on one server would receive each other's messages. [`RedisClient`](super::RedisClient) refuses a command with any other name.
//!
//! The braces are a hash tag: on a Redis Cluster all keys of one partition are on one server, and a publication on a room's
//! channel reaches that server alone. So rooms use sharded publishing (`SPUBLISH`) everywhere, also on a single server, where it
//! makes no difference. Every command names keys of one slot only; `RedisClient` splits pipelines.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use super::mac::{Mac, MacKey};
use crate::domain::{GatewayId, InstallationId, Partition, RoomId, Timestamp, UserId};

/// The names of one installation. Those that frequent commands need are made once.
#[derive(Debug)]
pub struct KeySpace {
    /// The installation, as it stands in names.
    installation: String,
    /// The prefix of every name.
    prefix: String,
    /// By partition.
    accept_streams: Box<[String]>,
    /// By partition: the prefix of its rooms' channels.
    room_prefixes: Box<[String]>,
    control: String,
    workers: String,
    presence: String,
    mac: Mac,
    /// Until then entries without an authentication code are accepted if they name this installation.
    unsigned_until: Timestamp,
    /// Whether they are accepted without a name, too.
    accepts_unnamed: bool,
}

impl KeySpace {
    /// The names of `installation`, which has so many `partitions` and authenticates with `key`.
    #[must_use]
    pub fn new(installation: InstallationId, partitions: u16, key: MacKey) -> Self {
        let installation = installation.to_string();
        let prefix = format!("roomcast:{installation}:");
        let of_each = |rest: &str| (0..partitions).map(|number| format!("{prefix}{{{number}}}:{rest}")).collect();
        let workers = format!("{prefix}workers");
        Self {
            accept_streams: of_each("in"),
            room_prefixes: of_each("room:"),
            control: format!("{prefix}control"),
            // In the slot of the set, so that a script which reads the set can count subscribers.
            presence: format!("{prefix}present:{{{workers}}}:"),
            workers,
            installation,
            prefix,
            mac: Mac::new(key),
            unsigned_until: Timestamp(0),
            accepts_unnamed: false,
        }
    }

    /// The same for an installation whose gateways wrote entries without an authentication code before it was upgraded. Until `end`
    /// these are accepted if they name the installation, and also without a name if it is older than names (`accepts_unnamed`).
    #[must_use]
    pub fn accepting_unsigned(self, end: Timestamp, accepts_unnamed: bool) -> Self {
        Self {
            unsigned_until: end,
            accepts_unnamed,
            ..self
        }
    }

    /// Whether entries without an authentication code are accepted at `now`. `is_named` says whether they name the installation.
    pub(super) fn accepts_unsigned(&self, is_named: bool, now: Timestamp) -> bool {
        now < self.unsigned_until && (is_named || self.accepts_unnamed)
    }

    /// Computes and checks authentication codes.
    pub(super) fn mac(&self) -> &Mac {
        &self.mac
    }

    /// The installation in its printable form, as it stands in every name and every entry of the accept log.
    #[must_use]
    pub fn installation(&self) -> &str {
        &self.installation
    }

    /// Whether `name` is one of this installation's keys or channels.
    #[must_use]
    pub fn owns(&self, name: &[u8]) -> bool {
        name.starts_with(self.prefix.as_bytes())
    }

    /// The accept log of a partition.
    ///
    /// # Panics
    ///
    /// If the installation has fewer partitions.
    #[must_use]
    pub fn accept_stream(&self, partition: Partition) -> &str {
        &self.accept_streams[usize::from(partition.0)]
    }

    /// The copy of an accept log that is being written anew, before it replaces the old one.
    #[must_use]
    pub fn exchanged_stream(&self, partition: Partition) -> String {
        self.of_partition(partition, "in:exchanged")
    }

    /// A key that never exists. Removing it shows whether a server takes writes.
    #[must_use]
    pub fn write_probe(&self, partition: Partition) -> String {
        self.of_partition(partition, "probe")
    }

    /// The stored watermark of a partition: how far SQL had stored it when its accept log was last trimmed.
    #[must_use]
    pub fn stored_watermark(&self, partition: Partition) -> String {
        self.of_partition(partition, "stored")
    }

    /// The accept log of a partition as earlier versions named it: without an installation, in the same slot.
    #[must_use]
    pub fn former_accept_stream(partition: Partition) -> String {
        format!("chat:{{{partition}}}:in")
    }

    /// The channel on which a room's stored messages are published.
    ///
    /// # Panics
    ///
    /// If the installation has fewer partitions.
    #[must_use]
    pub fn room_channel(&self, partition: Partition, room: RoomId) -> String {
        /// Digits of the largest room id.
        const DIGITS: usize = 19;
        let prefix = &self.room_prefixes[usize::from(partition.0)];
        let mut name = String::with_capacity(prefix.len() + DIGITS);
        name.push_str(prefix);
        write!(name, "{}", room.0).expect("a string takes everything");
        name
    }

    /// The room whose channel `name` is; `None` for any other channel.
    #[must_use]
    pub fn room_of_channel(&self, name: &str) -> Option<RoomId> {
        let (_, room) = name.strip_prefix(&self.prefix)?.strip_prefix('{')?.split_once("}:room:")?;
        room.parse().ok().map(RoomId)
    }

    /// Whether subscribing to a channel needs `SSUBSCRIBE` at the server of its slot, instead of `SUBSCRIBE` at any server.
    #[must_use]
    pub fn is_sharded(&self, channel: &str) -> bool {
        self.room_of_channel(channel).is_some()
    }

    /// The channel of control events, to which every gateway subscribes.
    #[must_use]
    pub fn control_channel(&self) -> &str {
        &self.control
    }

    /// The living workers: a sorted set of their names, each with the time at which its registration expires, in milliseconds
    /// of Redis's clock. It expires with the last of them, so that it exists only while some worker lives.
    #[must_use]
    pub fn workers(&self) -> &str {
        &self.workers
    }

    /// The sharded channel that the worker `name` subscribes to for as long as it is connected. Nothing is published on it.
    #[must_use]
    pub fn presence_channel(&self, name: &str) -> String {
        format!("{}{name}", self.presence)
    }

    /// The channel on which `gateway` receives receipts.
    #[must_use]
    pub fn receipts_channel(&self, gateway: GatewayId) -> String {
        self.of_all("receipts", gateway)
    }

    /// The channel on which `gateway` receives acknowledgements of its control events.
    #[must_use]
    pub fn acknowledgements_channel(&self, gateway: GatewayId) -> String {
        self.of_all("acknowledgements", gateway)
    }

    /// The token bucket of `who` for actions of the kind `what`.
    #[must_use]
    pub fn rate(&self, what: &str, who: impl Display) -> String {
        format!("{}limit:{what}:{who}", self.prefix)
    }

    /// The users who are there: a sorted set of their ids, each with the time until which it counts, in milliseconds of Redis's clock.
    #[must_use]
    pub fn present_users(&self) -> String {
        format!("{}present-users", self.prefix)
    }

    /// The open streams of a user.
    #[must_use]
    pub fn streams_of_user(&self, user: UserId) -> String {
        self.of_all("streams:user", user.0)
    }

    /// The stream of each named client of a user. Its hash tag puts it in the slot of the user's streams.
    #[must_use]
    pub fn stream_clients(&self, user: UserId) -> String {
        format!("{}clients:{{{}}}", self.prefix, self.streams_of_user(user))
    }

    /// A key that exists while the gateway of this number renews it.
    #[must_use]
    pub fn living_gateway(&self, number: u64) -> String {
        format!("{}gateway:{number:016x}", self.prefix)
    }

    /// The open streams from an address.
    #[must_use]
    pub fn streams_of_address(&self, address: IpAddr) -> String {
        self.of_all("streams:address", address)
    }

    fn of_all(&self, what: &str, which: impl Display) -> String {
        format!("{}{what}:{which}", self.prefix)
    }

    fn of_partition(&self, partition: Partition, what: &str) -> String {
        format!("{}{{{partition}}}:{what}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(installation: &str) -> KeySpace {
        KeySpace::new(installation.parse().unwrap(), 8, "07".repeat(32).parse().unwrap())
    }

    #[test]
    fn room_is_parsed_from_its_channel() {
        let keys = keys("00a1b2c3d4e5");
        let channel = keys.room_channel(Partition(7), RoomId(42));
        assert_eq!(channel, "roomcast:00a1b2c3d4e5:{7}:room:42");
        assert_eq!(keys.room_of_channel(&channel), Some(RoomId(42)));
        let foreign = "roomcast:00a1b2c3d4e6:{7}:room:42";
        for other in [
            keys.accept_stream(Partition(7)),
            keys.control_channel(),
            foreign,
            "chat:{7}:room:42",
            "",
        ] {
            assert_eq!(keys.room_of_channel(other), None, "{other}");
        }
    }

    #[test]
    fn no_two_installations_share_a_name() {
        let (ours, theirs) = (keys("00a1b2c3d4e5"), keys("00a1b2c3d4e6"));
        let names = |keys: &KeySpace| {
            let gateway = GatewayId(uuid::Uuid::nil());
            let address = IpAddr::from([127, 0, 0, 1]);
            vec![
                keys.accept_stream(Partition(0)).to_owned(),
                keys.exchanged_stream(Partition(0)),
                keys.stored_watermark(Partition(0)),
                keys.room_channel(Partition(0), RoomId(1)),
                keys.control_channel().to_owned(),
                keys.workers().to_owned(),
                keys.presence_channel(""),
                keys.present_users(),
                keys.receipts_channel(gateway),
                keys.acknowledgements_channel(gateway),
                keys.rate("post", 1),
                keys.streams_of_user(UserId(1)),
                keys.streams_of_address(address),
            ]
        };
        for (our, their) in names(&ours).into_iter().zip(names(&theirs)) {
            assert_ne!(our, their);
            assert!(ours.owns(our.as_bytes()) && !ours.owns(their.as_bytes()), "{our}");
        }
    }

    #[test]
    fn compose_file_asks_for_the_channel_of_a_worker() {
        let compose = include_str!("../../../deploy/compose.yml");
        let pattern = "roomcast:*:present:*";
        assert!(compose.contains(&format!("PUBSUB SHARDCHANNELS {pattern}\\r")), "it asks for something else");
        let channel = keys("00a1b2c3d4e5").presence_channel("worker");
        let mut rest = channel.as_str();
        for part in pattern.split('*') {
            rest = &rest[rest.find(part).unwrap() + part.len()..];
        }
    }
}
